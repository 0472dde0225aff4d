"""From a scorer's output to a verdict. Pure: no I/O, no clock."""

import math
import re

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
        val_bpb=number,
        level=Level(level[0]),
        standard_error=_number(found.get("standard_error", [])) or 0.0,
        audited_positions=int(_number(found.get("audited_positions", [])) or 0),
        tokens=int(_number(found.get("tokens", [])) or 0),
        claims_sha256="".join(found.get("claims_sha256", [])),
    )


def refused(output: str) -> str | None:
    """Why the scorer refused to believe what it was told, or None if it did not refuse."""
    reasons = re.findall(r"^refused: (.+)$", output, re.MULTILINE)
    return reasons[0] if reasons else None


def judge(trial: Trial, best: Experiment | None, *, needed_k: int = 0) -> Verdict:
    """Keep only on strict improvement, and only a score that was audited as a new best must be."""
    if trial.contended_by:
        return Verdict(status=Status.CONTENDED, rule=f"not judged: {trial.contended_by} used the device too")
    if trial.score is None:
        return Verdict(status=trial.failure or Status.INFRA, rule=trial.message)
    if best is None or best.val_bpb is None:
        return Verdict(status=Status.KEEP, rule="the baseline")
    gain = best.val_bpb - trial.score.val_bpb
    if not gain > 0:
        return Verdict(status=Status.DISCARD, rule=f"not below the best, {best.val_bpb:.6f} of experiment {best.id}")
    if trial.score.audited_positions < needed_k:
        rule = f"below the best, but audited at {trial.score.audited_positions} positions only"
        return Verdict(status=Status.DISCARD, rule=rule)
    return Verdict(status=Status.KEEP, rule=f"{gain:.6f} below the best, {best.val_bpb:.6f} of experiment {best.id}")


def _number(values: list[str]) -> float | None:
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]):
        return None
    number = float(values[0])
    return number if math.isfinite(number) else None
