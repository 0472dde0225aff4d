"""From a scorer's output to a verdict. Pure: no I/O, no clock."""

import math
import re
from statistics import fmean

from orchestrator.scoring import noise
from orchestrator.types import Experiment, Level, Score, Status, Trial, Verdict

_LINE = re.compile(r"^(?P<key>[a-z_0-9]+): (?P<value>\S.*)$", re.MULTILINE)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def parse_score(output: str, metric: str = "val_bpb") -> Score | None:
    """The score that a scorer printed: exactly one well-formed finite `val_bpb:` line, or None."""
    found: dict[str, list[str]] = {}
    for match in _LINE.finditer(output):
        found.setdefault(match["key"], []).append(match["value"].strip())
    number = _number(found.get(metric, []))
    level = found.get("level", [])
    if number is None or len(level) != 1 or level[0] not in set(Level):
        return None
    return Score(
        value=number,
        level=Level(level[0]),
        standard_error=_number(found.get("standard_error", [])) or 0.0,
        audited_positions=int(_number(found.get("audited_positions", [])) or 0),
        undetectable_bpb=_number(found.get("unseen_bpb", [])),
        tokens=int(_number(found.get("tokens", [])) or 0),
        claims_sha256="".join(found.get("claims_sha256", [])),
        mean_difference_nats=_number(found.get("mean_difference_nats", [])),
        max_difference_nats=_number(found.get("max_difference_nats", [])),
    )


def parse_reported(output: str, metric: str = "val_bpb") -> Score | None:
    """The number that a script says it reached: the last well-formed line of its kind, as upstream prints it. L0."""
    said = re.findall(rf"^{re.escape(metric)}:[ \t]+(\S+)[ \t]*$", output, re.MULTILINE)
    number = _number(said[-1:])
    return None if number is None or number <= 0 else Score(value=number, level=Level.L0)


def refused(output: str) -> str | None:
    """Why the scorer refused to believe what it was told, or None if it did not refuse."""
    reasons = re.findall(r"^refused: (.+)$", output, re.MULTILINE)
    return reasons[0] if reasons else None


def too_slow(output: str) -> str | None:
    """Why the scorer says that a model was loaded too slowly or answered ever later, or None if it says nothing."""
    reasons = re.findall(r"^too_slow: (.+)$", output, re.MULTILINE)
    return reasons[0] if reasons else None


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
        rule = f"{gain:.6f} below the best, which the audit cannot tell: its standard error is"
        return Verdict(status=Status.DISCARD, reason=f"{rule} {trial.score.standard_error:.1e}")
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


def _number(values: list[str]) -> float | None:
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]):
        return None
    number = float(values[0])
    return number if math.isfinite(number) else None
