"""Four questions of the morning after, a sentence each: what was best, what it cost, what was refused, where it ran."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from orchestrator.look.history import HistoryEntry, RunHistory
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Level, Status

REFUSED = (Status.CHEAT, Status.INVALID)
FAILED = (Status.CRASH, Status.TIMEOUT, Status.OOM)
REASONS = 6  # shown; the table has them all
FACTS = (
    ("hardware", "hardware"), ("gpu_uuid", "GPU"), ("engine", "engine"), ("runtime", "runtime"), ("tier", "isolation"),
    ("kernel", "kernel"), ("driver", "driver"),
    ("image_id", "image"), ("seccomp_sha256", "seccomp profile"), ("accepted", "accepted as unsafe"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something was refused, and the experiments that it happened to."""

    status: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What stands at the top of the page."""

    best: HistoryEntry | None
    leap: HistoryEntry | None  # the kept change that brought most, if it is another one
    baseline: Experiment | None
    gain: float | None
    percent: float | None
    counts: dict[str, int]
    reasons: tuple[Reason, ...]
    more_reasons: int
    device_seconds: float
    cost_usd: float
    tokens: int
    untied_usd: float  # of replies that became no experiment
    levels: tuple[tuple[str, int], ...]
    where: tuple[tuple[str, str], ...]
    proposers: tuple[str, ...]
    ended: str


def summary(night: RunHistory) -> Summary:
    """From a night to its few sentences."""
    baseline, best = night.baseline, night.best
    turn = next((t for t in night.turns if best is not None and t.experiment.id == best.id), None)
    gain = None
    if baseline and best and baseline.value is not None and best.value is not None:
        gain = best.value - baseline.value
    reasons = _reasons(night)
    usage = night.spent.usage
    tied = sum(t.experiment.usage.cost_usd for t in night.turns)
    return Summary(
        best=turn,
        leap=_leap(night, best),
        baseline=baseline,
        gain=gain,
        percent=None if gain is None or not baseline or not baseline.value else 100 * gain / baseline.value,
        counts=_counts(night),
        reasons=tuple(reasons[:REASONS]),
        more_reasons=max(0, len(reasons) - REASONS),
        device_seconds=sum(t.experiment.duration_s for t in night.turns),
        cost_usd=usage.cost_usd,
        tokens=usage.total_tokens,
        untied_usd=max(0.0, usage.cost_usd - tied),
        levels=tuple((level.value, _at(night, level)) for level in Level),
        where=_where(night),
        proposers=tuple(sorted({sanitise(t.experiment.proposed_by, 80) for t in night.turns} - {"baseline", "again"})),
        ended=next(
            (sanitise(str(s.get("reason", "")), 300) for s in night.sessions[::-1] if s["kind"] == "session.ended"),
            "",
        ),
    )


def _leap(night: RunHistory, best: Experiment | None) -> HistoryEntry | None:
    gains = [(turn.delta, turn) for turn in night.kept if turn.delta is not None]
    turn = min(gains, key=lambda pair: pair[0])[1] if gains else None
    return None if turn is None or best is None or turn.experiment.id == best.id else turn


def _counts(night: RunHistory) -> dict[str, int]:
    """As the loop counts: neither the baseline, nor what ran only to measure the best again."""
    by = Counter(turn.experiment.status for turn in night.turns if turn.experiment.remeasures_id is None)
    by[Status.KEEP] = max(0, by[Status.KEEP] - (1 if night.baseline else 0))
    counts = {
        "kept": by[Status.KEEP],
        "discarded": by[Status.DISCARD],
        "failed": sum(by[status] for status in FAILED),
        "refused": sum(by[status] for status in REFUSED),
    }
    inconclusive = sum(not turn.experiment.is_judged for turn in night.turns)
    return {"all": sum(counts.values()), **counts, "inconclusive": inconclusive}


def _reasons(night: RunHistory) -> list[Reason]:
    """Same words, one line; cheats first, then what happened most."""
    found: dict[tuple[str, str], list[int]] = {}
    for turn in night.turns:
        e = turn.experiment
        if e.status in REFUSED:
            line = sanitise(next(iter(e.reason.strip().splitlines()), ""), 220)
            found.setdefault((e.status.value, line), []).append(e.id)
    reasons = [Reason(status=status, text=text, ids=tuple(ids)) for (status, text), ids in found.items()]
    return sorted(reasons, key=lambda r: (r.status != Status.CHEAT, -len(r.ids), r.ids))


def _at(night: RunHistory, level: Level) -> int:
    return sum(1 for t in night.turns if t.experiment.is_judged and t.experiment.level == level)


def _where(night: RunHistory) -> tuple[tuple[str, str], ...]:
    facts: dict[str, Any] = {}
    for session in night.sessions:
        if session["kind"] == "session.started" and isinstance(session.get("facts"), dict):
            facts = session["facts"]
    return tuple((name, sanitise(str(facts[key]), 200)) for key, name in FACTS if facts.get(key))
