"""The three parts of a loop that come in more than one kind: who has ideas, who runs them, who watches."""

from pathlib import Path
from typing import Protocol

from orchestrator.types import Candidate, Context, Experiment, Plan, Proposal, Reply, Role, Spent, Trial


class Proposer(Protocol):
    """Where ideas come from. Two steps, so that the loop stores the reply before it is parsed."""

    name: str

    def ask(self, context: Context) -> Reply:
        """Ask for the next idea; blocks. Raises ProposerUnavailable or BudgetExhausted."""

    def read(self, reply: Reply) -> Proposal:
        """Parse a stored reply; pure. Raises PatchRejected with what to fix."""


class Runner(Protocol):
    """Runs one candidate in fresh containers."""

    def facts(self) -> dict[str, str]:
        """Where experiments run: image_id, engine, runtime, hardware and the hashes of what is locked."""

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Train and score; blocks until every container is gone. Raises SandboxError."""

    def stop(self) -> None:
        """End what runs and start nothing more; from another thread."""

    def end(self, why: str) -> None:
        """End what runs now, if anything does; from another thread."""


class View(Protocol):
    """What a person sees while the loop runs; never decides anything."""

    def waiting(self, reason: str) -> None:
        """Tell what the loop waits for: a device, quiet hours, the API."""

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """Tell that an experiment starts."""

    def again(self, experiment_id: int, run: int, most: int, value: float) -> None:
        """Tell that an experiment runs once more with another seed, and its mean so far."""

    def phase(self, experiment_id: int, role: Role, deadline_s: float) -> None:
        """Tell that a container started and when it must be gone, in seconds from now."""

    def line(self, experiment_id: int, role: Role, text: str) -> None:
        """Show one sanitised line of a container's output."""

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """Tell how an experiment ended."""
