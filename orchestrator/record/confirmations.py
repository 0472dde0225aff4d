"""What is on record of experiments that were confirmed: trained again with other seeds, scored on the holdout."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

from orchestrator.record.journal import Journal
from orchestrator.types import Conditions, Experiment, conditions_of

KIND = "experiment.confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """val_bpb of one source: on val, as the loop measured it, and on the holdout, with other seeds."""

    experiment_id: int
    value: float
    holdout: tuple[float, ...]

    @property
    def holdout_bpb(self) -> float:
        """The mean of its runs."""
        return fmean(self.holdout)

    @property
    def standard_error(self) -> float:
        """Of that mean; infinite where there is one run only."""
        return stdev(self.holdout) / math.sqrt(len(self.holdout)) if len(self.holdout) > 1 else math.inf

    def __str__(self) -> str:
        """For a terminal."""
        return f"{self.holdout_bpb:.6f} ± {self.standard_error:.1e} over {len(self.holdout)} runs with other seeds"


def confirmations(journal: Journal, experiment: Experiment, under: Conditions | None = None) -> Iterator[Runs]:
    """Every confirmation of an experiment on record, oldest first; with conditions, those made under them."""
    for body in (found.body for found in journal.records(KIND, experiment.id)):
        if under is None or conditions_of(body["facts"]) == under:
            yield Runs(experiment_id=experiment.id, value=val_bpb(experiment), holdout=tuple(body["holdout"]))


def confirmed_ids(journal: Journal) -> set[int]:
    """The experiments at L3."""
    return {found.experiment_id for found in journal.records(KIND) if found.experiment_id is not None}


def val_bpb(experiment: Experiment) -> float:
    """As the loop measured it; NaN without a score."""
    return experiment.value if experiment.value is not None else math.nan
