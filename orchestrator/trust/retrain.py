"""Train and score a source outside the loop, with seeds of the host's choice."""

from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import SandboxError
from orchestrator.execution.slot import Slot
from orchestrator.types import Candidate, Plan, Proposal, Reply, Trial

MAX_ATTEMPTS = 3  # while others use the device


def run_alone(slot: Slot, source: str, folder: Path, draw: Callable[[], Plan] = Plan.draw) -> Trial:
    """Return one trial of a source, repeated while others use the device. Raises SandboxError."""
    candidate = Candidate(
        proposal=Proposal(hypothesis="unchanged"), source=source, parent_id=None, parent_source=source,
        reply=Reply(proposer="host"),
    )  # fmt: skip
    for number in range(MAX_ATTEMPTS):
        slot.ready()
        attempt = folder / f"{number}"
        attempt.mkdir(parents=True, mode=0o700)
        trial = slot.run(candidate, draw(), experiment_id=number, folder=attempt, best=None)
        if not trial.contended_by:
            return trial
    raise SandboxError(f"{trial.contended_by} used the device in {MAX_ATTEMPTS} attempts; try again when it is idle")
