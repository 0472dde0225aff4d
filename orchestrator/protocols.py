"""The two parts of a loop that come in more than one kind: what has ideas, and what runs them."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from orchestrator.types import Candidate, Context, Environment, Plan, Proposal, Reply, Trial


class Proposer(Protocol):
    """A source of ideas. Two steps, so that the loop stores the reply before it is parsed."""

    name: str

    def ask(self, context: Context) -> Reply:
        """Ask for the next idea; blocks. Raises ProposerUnavailable or BudgetExhausted."""

    def read(self, reply: Reply) -> Proposal:
        """Parse a stored reply; pure. Raises PatchRejected with what to fix."""


class Runner(Protocol):
    """Runs one candidate at a time in fresh containers."""

    def environment(self) -> Environment:
        """Return where experiments run."""

    def ready(self) -> bool:
        """Wait until an experiment may start; return whether that took a wait. Raises SandboxError."""

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Train and score; block until every container is removed. Raises SandboxError."""

    def container_ids(self) -> Collection[str]:
        """Return the containers of the trial that runs, or of the last one."""

    def give_back(self) -> None:
        """Let others have the device until the next `ready`; called while nothing runs, from another thread too."""

    def stop(self) -> None:
        """End what runs and start nothing more; from another thread."""

    def end(self, why: str) -> None:
        """End what runs now, if anything does; from another thread."""
