"""An LLM and a sweep in turns: the sweep tunes the constants of the best file, the LLM changes the file."""

from dataclasses import dataclass

from orchestrator.errors import ProposerUnavailable
from orchestrator.propose.phases import is_llms_turn
from orchestrator.protocols import Proposer
from orchestrator.types import Context, Proposal, Reply

NAME = "mix"


@dataclass(slots=True, kw_only=True)
class MixProposer:
    """Asks the proposer whose turn it is; a reply is read by the proposer that gave it."""

    llm: Proposer
    sweep: Proposer
    llm_share: float
    name: str = NAME

    def ask(self, context: Context) -> Reply:
        """Return the next idea. Raises ProposerUnavailable or BudgetExhausted."""
        ideas = context.spent.experiments + len(context.in_flight)
        if context.rejected:  # the proposer of a rejected reply corrects it
            return self._by(context.rejected[-1][0]).ask(context)
        if is_llms_turn(ideas, self.llm_share):
            return self.llm.ask(context)
        try:
            return self.sweep.ask(context)
        except ProposerUnavailable:  # it has tried every value near the best
            return self.llm.ask(context)

    def read(self, reply: Reply) -> Proposal:
        """Parse a stored reply. Raises PatchRejected with what to fix."""
        return self._by(reply).read(reply)

    def stop(self) -> None:
        """End a wait in another thread."""
        if (stop := getattr(self.llm, "stop", None)) is not None:
            stop()

    def _by(self, reply: Reply) -> Proposer:
        return self.sweep if reply.proposer == self.sweep.name else self.llm
