"""From a trial to a verdict. Pure: no I/O, no clock."""

from statistics import fmean

from orchestrator.scoring import noise
from orchestrator.types import Experiment, Status, Trial, Verdict


def judge(  # noqa: PLR0911  # one return per rule, in order
    trial: Trial,
    best: Experiment | None,
    *,
    needed_k: int = 0,
    spread: float | None = None,
    remeasures_id: int | None = None,
) -> Verdict:
    """Keep only on strict improvement that is no luck, and only a score that was audited as a new best must be.

    `spread` is how far single runs of one source lie apart, `measures` the experiment that this only ran again.
    """
    if trial.failure is Status.CHEAT:  # whoever else was there: code that broke out is one of them
        return Verdict(status=Status.CHEAT, reason=trial.message)
    if trial.contended_by:
        return Verdict(status=Status.CONTENDED, reason=f"not judged: {trial.contended_by} used the device too")
    if trial.score is None:
        return Verdict(status=trial.failure or Status.INFRA, reason=trial.message)
    if best is None or best.value is None:
        return Verdict(status=Status.KEEP, reason="the baseline")
    if remeasures_id is not None:
        return Verdict(status=Status.DISCARD, reason=_again(trial, best, spread))
    gain, rerun = best.value - fmean(trial.runs), trial.runs[1:]
    among = f", over {len(trial.runs)} runs" if rerun else ""
    if not gain > 0:
        rule = f"not below the best, {best.value:.6f} of experiment {best.id}{among}"
        return Verdict(status=Status.DISCARD, reason=rule)
    if luck := _luck(trial, best, spread):
        return Verdict(status=Status.DISCARD, reason=luck)
    if noise.is_blurred(gain, trial, best):
        rule = f"{gain:.6f} below the best, within the standard error of the audits"
        return Verdict(status=Status.DISCARD, reason=f"{rule} ({noise.audit_error(trial, best):.1e})")
    if trial.score.audited_positions < min(needed_k, trial.score.tokens or needed_k):  # small data has fewer targets
        rule = f"below the best, but audited at {trial.score.audited_positions} positions only"
        return Verdict(status=Status.DISCARD, reason=rule)
    rule = f"{gain:.6f} below the best, {best.value:.6f} of experiment {best.id}{among}"
    return Verdict(status=Status.KEEP, reason=rule)


def _luck(trial: Trial, best: Experiment, spread: float | None) -> str:
    """Why a gain is luck: nobody picked the runs after the first one, so they must be better than the best as well."""
    rerun = trial.runs[1:]
    if rerun and best.value is not None and not fmean(rerun) < best.value:
        return f"the first run was luck: {fmean(rerun):.6f} with other seeds, not below {best.value:.6f}"
    gain = (best.value or 0.0) - fmean(trial.runs)
    if spread is not None and not rerun and noise.is_inside(gain, spread, 1, len(best.runs)):
        return f"{gain:.6f} below the best, which luck explains: single runs lie {spread:.6f} apart"
    return ""


def _again(trial: Trial, best: Experiment, spread: float | None) -> str:
    """What measuring the best again says about it."""
    runs = (*best.runs, *trial.runs)
    outcome = "holds" if noise.holds(best, trial, spread) else "did not hold up"
    return f"experiment {best.id} {outcome}: {fmean(trial.runs):.6f} now, {fmean(runs):.6f} over {len(runs)} runs"
