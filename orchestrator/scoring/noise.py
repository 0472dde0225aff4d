"""Is a gain more than luck? Pure: no I/O, no clock.

One source gives another val_bpb with another seed. How far single runs of one source lie apart is measured, on the
hardware at hand, first with the baseline and then with everything that runs more than once. A gain smaller than what
that spread explains is run again with other seeds; it is kept only if those runs, which nobody picked, are better too.
While the spread is not known, any gain may be luck. `baseline_runs = 1` turns all of this off.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from orchestrator.settings import Noise
from orchestrator.types import Conditions, Experiment, Status, Trial

STANDARD_ERRORS = 2.0  # a gain above so many is no luck


def spread(groups: Iterable[Sequence[float]]) -> float | None:
    """Standard deviation of one run, in bpb, pooled over groups of runs of one source each; None if none has two."""
    squares, degrees = 0.0, 0
    for group in groups:
        mean = fmean(group)
        squares += sum((value - mean) ** 2 for value in group)
        degrees += len(group) - 1
    return (squares / degrees) ** 0.5 if degrees else None


def is_inside(gain: float, known: float | None, runs: int, runs_of_best: int) -> bool:
    """Whether luck alone explains a gain between two means; what is not known explains nothing."""
    return known is not None and gain <= STANDARD_ERRORS * known * (1 / runs + 1 / runs_of_best) ** 0.5


def audit_error(trial: Trial, best: Experiment) -> float:
    """Return the standard error that the audits of both scores leave in their difference; a score below L2 has none."""
    errors = [score.standard_error for score in (trial.score, best.score) if score]
    return math.hypot(*(error for error in errors if error is not None))


def is_blurred(gain: float, trial: Trial, best: Experiment) -> bool:
    """Whether a gain is no more than what the audits of both scores leave open."""
    return gain <= STANDARD_ERRORS * audit_error(trial, best)


def wants(
    trial: Trial, best: Experiment | None, known: float | None, limits: Noise, *, remeasures_id: int | None = None
) -> int:
    """How many runs with different seeds a candidate needs, given those it had; `measures` as in Candidate."""
    if trial.score is None or trial.contended_by or limits.baseline_runs == 1:
        return len(trial.runs)
    if best is None or best.value is None or (remeasures_id is not None and known is None):
        return limits.baseline_runs
    gain, runs = best.value - fmean(trial.runs), len(trial.runs)
    is_luck = known is None or is_inside(gain, known, runs, len(best.runs))
    promises = remeasures_id is None and gain > 0 and not is_blurred(gain, trial, best)
    return 1 + limits.reruns if promises and is_luck else runs


def joined(trial: Trial, again: Trial, *, first: bool) -> Trial:
    """A trial with one more run; if that one failed or was not alone on its device, so did the trial.

    The score of the run that was audited at more positions stands for both. The `first` score of all is kept though a
    further run of it was not alone: it stands for itself.
    """
    executions = (*trial.executions, *again.executions)
    if again.failure is Status.CHEAT:
        return replace(again, executions=executions)
    if again.contended_by and first:
        return replace(trial, executions=executions)
    if again.score is None or again.contended_by:
        return replace(again, executions=executions)
    audited = max(trial, again, key=lambda one: one.score.audited_positions if one.score else 0)
    return replace(audited, executions=executions, repeat_scores=(*trial.runs, *again.runs))


def best_of(kept: Iterable[Experiment], again: Sequence[Experiment]) -> Experiment | None:
    """The kept experiment with the lowest mean over all runs of its source under the conditions of the newest one.

    `again` are later measurements of kept ones. The mean of the one returned is over all of its runs.
    """
    known = list(kept)
    if not known:
        return None
    now = max((*known, *again), key=lambda e: e.id).conditions
    pooled = []
    for one in known:
        same = [e for e in (one, *again) if e.conditions == now and one.id in (e.id, e.remeasures_id)]
        runs = tuple(value for e in same for value in e.runs)
        if runs:
            pooled.append(one if same == [one] else _under(replace(one, repeat_scores=runs), now))
    return min(pooled, key=lambda e: (e.value, e.id), default=None)


def _under(one: Experiment, now: Conditions) -> Experiment:
    hardware, image_id, warm_sha256 = now
    return replace(one, hardware=hardware, image_id=image_id, warm_sha256=warm_sha256)


def is_due(best: Experiment, conditions: Conditions, judged_since: int, limits: Noise) -> bool:
    """Whether the best is to be measured again: now and then, and at once where it never ran."""
    return best.conditions != conditions or bool(limits.remeasure_every and judged_since >= limits.remeasure_every)


def holds(best: Experiment, trial: Trial, known: float | None) -> bool:
    """Whether a measurement of the best with another seed is what its score led to expect."""
    if best.value is None or known is None:
        return True
    return is_inside(fmean(trial.runs) - best.value, known, len(trial.runs), len(best.runs))
