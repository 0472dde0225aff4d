"""What a session works with, and an experiment that is under way."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.config import Config
from orchestrator.policy import Attempt, Rules
from orchestrator.proposals import Proposals
from orchestrator.protocols import Runner
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Environment, Plan, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a session works with; put together in compose.py."""

    config: Config
    journal: Journal
    proposals: Proposals
    runners: tuple[Runner, ...]  # each on a device of its own
    branch: ResultBranch
    started: float = field(default_factory=time.monotonic)

    @property
    def environment(self) -> Environment:
        """Return where experiments run."""
        return self.runners[0].environment()

    @property
    def rules(self) -> Rules:
        """Return the settings that decide."""
        budget_s = self.config.active_profile.time_budget_s
        task = self.config.task
        return Rules(
            noise=self.config.noise,
            time_budget_s=budget_s,
            needed_k=self.config.needed_k,
            threshold=task.threshold,
            is_exact=task.noise == "none",
        )

    @property
    def elapsed_s(self) -> float:
        """Return the wall-clock time since the session began."""
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveExperiment:
    """An experiment that has begun, and its trial that is under way."""

    id: int
    candidate: Candidate
    runner: Runner
    environment: Environment  # of the runner, when it began
    folder: Path
    started_at: str
    started: float  # monotonic
    plan: Plan
    trial_folder: Path  # the experiment's, or one in it
    score_to_beat: float | None  # None: audit in full in any case
    trials: tuple[Trial, ...] = ()  # that are over
    suspicion: str = ""  # why the trial has to settle a doubt

    def attempt_with(self, trial: Trial) -> Attempt:
        """Return what the policy has to judge, now that a trial has ended."""
        return Attempt(
            id=self.id, trials=(*self.trials, trial), conditions=self.environment.conditions, suspicion=self.suspicion,
            parent_id=self.candidate.parent_id, remeasures_id=self.candidate.remeasures_id,
        )  # fmt: skip
