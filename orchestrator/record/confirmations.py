"""The recorded confirmations: experiments retrained with other seeds and scored on the holdout."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

from orchestrator.events import ExperimentConfirmed
from orchestrator.record.journal import Journal
from orchestrator.types import Conditions, Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutScores:
    """Scores of one source: on val, as the loop measured it, and on the holdout, with other seeds."""

    experiment_id: int
    value: float
    holdout: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean on the holdout."""
        return fmean(self.holdout)

    @property
    def standard_error(self) -> float:
        """Return the standard error of that mean; infinite for a single trial."""
        return stdev(self.holdout) / math.sqrt(len(self.holdout)) if len(self.holdout) > 1 else math.inf

    def __str__(self) -> str:
        return f"{self.mean:.6f} ± {self.standard_error:.1e} over {len(self.holdout)} trials with other seeds"


def list_confirmations(
    journal: Journal, experiment: Experiment, under: Conditions | None = None
) -> Iterator[HoldoutScores]:
    """Yield every confirmation of an experiment, oldest first; with conditions, those made under them."""
    for recorded in journal.events(ExperimentConfirmed, experiment.id):
        event = recorded.event
        if under is None or event.environment.conditions == under:
            yield HoldoutScores(experiment_id=experiment.id, value=value_of(experiment), holdout=event.holdout)


def confirmed_ids(journal: Journal) -> set[int]:
    """Return the experiments at L3."""
    return {recorded.event.experiment_id for recorded in journal.events(ExperimentConfirmed)}


def value_of(experiment: Experiment) -> float:
    """Return an experiment's score as the loop measured it; NaN without one."""
    return experiment.value if experiment.value is not None else math.nan
