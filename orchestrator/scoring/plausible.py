"""Is a would-be best plausible beside the run's own history? Pure: no I/O, no clock.

A doubt is no refusal. It has the candidate trained once more with another seed and audited in full; only what survives
that becomes the best. So a real break-through costs one more run, and an accident or a cheat does not become a parent.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from orchestrator.scoring.noise import is_blurred
from orchestrator.types import Experiment, Status, Trial, Verdict

JUMP = 4.0  # times the usual gain of this run
FIRST_JUMP = 0.15  # share of the baseline's score, while the run has no usual gain yet
LEAST_SHARE = 0.1  # of the time budget, that a training takes
LEAST_CPU_S = 1.0  # merely to start Python and torch takes longer


def doubt(trial: Trial, best: Experiment, history: Sequence[Experiment], *, time_budget_s: float) -> str:
    """Why this would-be best is hard to believe; "" if it is not."""
    if trial.score is None or best.value is None:
        return ""
    gain, usual = best.value - trial.score.value, usual_gain(history)
    bound = JUMP * usual if usual else FIRST_JUMP * best.value
    if gain > bound:
        return f"a gain of {gain:.4f} is far beyond the usual of this run, {usual or bound:.4f}"
    trainer = trial.trainer
    if trainer is not None and trainer.duration_s < LEAST_SHARE * time_budget_s:
        return f"its training took {trainer.duration_s:.1f} s of the {time_budget_s:g} s it was given"
    if trainer is not None and trainer.cpu_s is not None and trainer.cpu_s < LEAST_CPU_S:
        return f"its training used {trainer.cpu_s:.1f} s of processor time"
    if trial.gpu_used is False:
        return "its training never used the GPU that it was given"
    return ""


def usual_gain(history: Sequence[Experiment]) -> float:
    """The median gain of the kept experiments over the best before them; 0 before there are three."""
    scores = [e.value for e in history if e.status is Status.KEEP and e.value is not None]
    gains = [before - after for before, after in pairwise(scores)]
    return median(gains) if len(gains) >= 3 else 0.0  # noqa: PLR2004  # fewer say nothing of what is usual


def settled(why: str, trial: Trial, again: Trial, best: Experiment) -> Verdict:
    """What becomes of a doubtful best after it was trained and audited again."""
    first = trial.score.value if trial.score else float("nan")
    if again.score is None:
        rule = f"doubtful: {why}; trained again it had no score: {again.message}"
        return Verdict(status=again.failure or Status.INFRA, reason=rule)
    second = again.score.value
    if best.value is None or is_blurred(best.value - second, again, best):
        rule = f"doubtful: {why}; trained again with another seed it reached {second:.6f}, not {first:.6f}"
        return Verdict(status=Status.DISCARD, reason=rule)
    rule = f"below the best of experiment {best.id}, and again with another seed ({second:.6f}), though {why}"
    return Verdict(status=Status.KEEP, reason=rule)
