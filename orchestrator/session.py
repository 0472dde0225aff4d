"""What a session works with, and what it has under way."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.config import Config
from orchestrator.propose.prefetch import ProposalPrefetcher
from orchestrator.protocols import Proposer, Runner, View
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Plan, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a session works with; put together in compose.py."""

    config: Config
    journal: Journal
    proposer: Proposer
    runners: tuple[Runner, ...]  # each on a device of its own
    keeper: ResultBranch
    view: View
    ahead: ProposalPrefetcher = field(default_factory=ProposalPrefetcher)
    ready: Callable[[Runner], bool] = lambda _: False  # waits until an experiment may start; says whether it had to
    started: float = field(default_factory=time.monotonic)

    @property
    def runner(self) -> Runner:
        """The first one, for what is the same of all."""
        return self.runners[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An experiment that has begun."""

    id: int
    candidate: Candidate
    runner: Runner
    facts: Mapping[str, str]  # of the runner, when it began
    folder: Path
    started_at: str
    started: float  # monotonic
    # the run that is under way: an experiment has more than one while luck may explain its score
    plan: Plan
    where: Path  # its folder: that of the experiment, or one in it
    below: float | None  # the score to beat, None for a full audit in any case
    before: Trial | None = None  # what earlier runs of it brought
    doubt: str = ""  # why its score was so hard to believe that this run has to settle it
