"""Four questions of the morning after: what was best, what it cost, what was refused and why, where it ran."""

from collections import Counter
from dataclasses import dataclass

from orchestrator.look.history import HistoryEntry, RunHistory, describe_environment
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Level, Status

REFUSED = (Status.CHEAT, Status.INVALID)
FAILED = (Status.CRASH, Status.TIMEOUT, Status.OOM)
MAX_REASONS = 6  # the table has them all
NOT_PROPOSERS = {"baseline", "remeasure", "duel", "removal", "again"}  # the last one in old records


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why experiments were refused, and which."""

    status: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is at the top of the page."""

    best: HistoryEntry | None
    largest_step: HistoryEntry | None  # the kept change with the largest gain, if it is not the best one
    baseline: Experiment | None
    gain: float | None
    percent: float | None
    counts: dict[str, int]
    reasons: tuple[Reason, ...]
    more_reasons: int
    device_seconds: float
    cost_usd: float
    tokens: int
    unused_usd: float  # of lessons, checks at the start, and replies that led to no experiment
    levels: tuple[tuple[str, int], ...]
    environment: tuple[tuple[str, str], ...]
    proposers: tuple[str, ...]


def summarise(history: RunHistory) -> Summary:
    """Return the few facts that a run comes down to."""
    baseline, champion, before = history.baseline, history.champion, history.baseline_value
    is_better = champion is not None and baseline is not None and champion.id != baseline.id
    gain = champion.value - before if champion and is_better and before is not None else None
    experiments = [entry.experiment for entry in history.entries]
    reasons, usage = _reasons(experiments), history.spent.usage
    return Summary(
        best=next((entry for entry in history.entries if champion and entry.experiment.id == champion.id), None),
        largest_step=_largest_step(history),
        baseline=baseline,
        gain=gain,
        percent=100 * gain / before if gain is not None and before else None,
        counts=_counts(experiments, history),
        reasons=tuple(reasons[:MAX_REASONS]),
        more_reasons=max(0, len(reasons) - MAX_REASONS),
        device_seconds=sum(e.duration_s for e in experiments),
        cost_usd=usage.cost_usd,
        tokens=usage.total_tokens,
        unused_usd=max(0.0, usage.cost_usd - sum(e.usage.cost_usd for e in experiments)),
        levels=tuple((level.value, sum(e.is_judged and e.level == level for e in experiments)) for level in Level),
        environment=tuple(describe_environment(history.environment)),
        proposers=tuple(sorted({sanitise(e.proposed_by, 80) for e in experiments} - NOT_PROPOSERS)),
    )


def _largest_step(history: RunHistory) -> HistoryEntry | None:
    steps = [(entry.delta, entry) for entry in history.kept if entry.delta is not None]
    entry = min(steps, key=lambda step: step[1].experiment.sign * step[0])[1] if steps else None
    is_best = entry and history.champion and entry.experiment.id == history.champion.id
    return None if is_best else entry


def _counts(experiments: list[Experiment], history: RunHistory) -> dict[str, int]:
    """Return counts as the loop counts: without the baseline, and without repeats of the champion."""
    by = Counter(e.status for e in experiments if e.remeasures_id is None)
    by[Status.KEEP] = max(0, by[Status.KEEP] - (1 if history.baseline else 0))
    counts = {
        "kept": by[Status.KEEP],
        "discarded": by[Status.DISCARD],
        "failed": sum(by[status] for status in FAILED),
        "refused": sum(by[status] for status in REFUSED),
    }
    return {"all": sum(counts.values()), **counts, "inconclusive": sum(not e.is_judged for e in experiments)}


def _reasons(experiments: list[Experiment]) -> list[Reason]:
    """Return one reason for the same words; cheats first, then what happened most."""
    ids: dict[tuple[str, str], list[int]] = {}
    for e in experiments:
        if e.status in REFUSED:
            line = sanitise(next(iter(e.reason.strip().splitlines()), ""), 220)
            ids.setdefault((e.status.value, line), []).append(e.id)
    reasons = [Reason(status=status, text=text, ids=tuple(found)) for (status, text), found in ids.items()]
    return sorted(reasons, key=lambda r: (r.status != Status.CHEAT, -len(r.ids), r.ids))
