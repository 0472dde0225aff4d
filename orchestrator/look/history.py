"""What a run's journal says, gathered for one page. What cannot be read is named, and the rest is shown."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.record.journal import Journal
from orchestrator.scoring import noise
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Spent, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """An experiment beside the best there was before it, and the best there was after it."""

    experiment: Experiment
    rank: int  # how many ended before it
    before: float | None
    after: float | None

    @property
    def delta(self) -> float | None:
        """Against the best before it; below 0 is better."""
        value = self.experiment.judged_value
        return None if value is None or self.before is None else value - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of how many, and what that took."""

    status: Status
    count: int
    device_seconds: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """A run as its journal tells it."""

    tag: str
    at: str
    turns: tuple[HistoryEntry, ...]  # in the order they ended, which is not that of their ids where several ran at once
    damaged: tuple[str, ...]
    best: Experiment | None
    spread: float | None  # how far single runs of one source lie apart
    spent: Spent
    running: tuple[str, ...]
    sessions: tuple[dict[str, Any], ...] = ()
    head: str = ""
    records: int = 0
    metric: str = "val_bpb"  # what the task calls its number

    @property
    def kept(self) -> tuple[HistoryEntry, ...]:
        """The turns that brought a new best."""
        return tuple(turn for turn in self.turns if turn.experiment.status is Status.KEEP)

    @property
    def baseline(self) -> Experiment | None:
        """Where it began."""
        return next((turn.experiment for turn in self.kept), None)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One for each status that occurred, in the order of Status."""
        found = []
        for status in Status:
            of = [turn.experiment for turn in self.turns if turn.experiment.status is status]
            if of:
                found.append(
                    Outcome(
                        status=status,
                        count=len(of),
                        device_seconds=sum(e.duration_s for e in of),
                        cost_usd=sum(e.usage.cost_usd for e in of),
                    )
                )
        return tuple(found)


def gather(journal: Journal) -> RunHistory:
    """Everything the overview needs. Raises JournalError if the journal cannot be read at all."""
    damaged: list[str] = []
    ended = {record.experiment_id: number for number, record in enumerate(journal.records("experiment.finished"))}
    experiments = sorted(_experiments(journal, damaged), key=lambda e: (ended.get(e.id, len(ended)), e.id))
    turns = tuple(_turns(experiments))
    known: set[int | None] = {e.id for e in experiments}
    return RunHistory(
        tag=journal.folder.name,
        at=datetime.now(UTC).isoformat(timespec="minutes"),
        turns=turns,
        damaged=tuple(damaged),
        best=_best(experiments),
        spread=_spread(experiments),
        spent=_spent(journal, damaged),
        running=tuple(_running(journal, known)),
        sessions=tuple(_sessions(journal)),
        head=journal.head(),
        records=sum(1 for _ in journal.records()),
        metric=sanitise(journal.metric(), 40),
    )


def _experiments(journal: Journal, damaged: list[str]) -> Iterator[Experiment]:
    """All at once; one by one where one of them is damaged."""
    try:
        yield from journal.experiments()
    except (ValueError, KeyError, TypeError):
        for number in range(journal.next_id()):
            try:
                yield from journal.experiments("id = ?", number)
            except (ValueError, KeyError, TypeError):
                damaged.append(f"experiment {number}: its record cannot be read; see `autoresearch verify`")


def _turns(experiments: list[Experiment]) -> Iterator[HistoryEntry]:
    kept: list[Experiment] = []
    again: list[Experiment] = []
    best: float | None = None
    for rank, experiment in enumerate(experiments):
        before = best
        measured = kept if experiment.status is Status.KEEP else again if experiment.remeasures_id is not None else None
        if measured is not None and experiment.judged_value is not None:
            measured.append(experiment)
            found = noise.best_of(kept, again)
            best = found.value if found else None
        yield HistoryEntry(experiment=experiment, rank=rank, before=before, after=best)


def _best(experiments: list[Experiment]) -> Experiment | None:
    kept = [e for e in experiments if e.status is Status.KEEP]
    again = [e for e in experiments if e.remeasures_id is not None and e.judged_value is not None]
    return noise.best_of(kept, again)


def _spread(experiments: list[Experiment]) -> float | None:
    """As the loop knows it: over experiments that ran more than once under the newest conditions."""
    scored = [e for e in experiments if e.runs]
    return noise.spread(e.runs for e in scored if len(e.repeat_scores) > 1 and e.conditions == scored[-1].conditions)


def _spent(journal: Journal, damaged: list[str]) -> Spent:
    try:
        return journal.spent()
    except (ValueError, KeyError, TypeError):
        damaged.append("what the run has spent cannot be summed up")
        return Spent(usage=journal.charged())


def _running(journal: Journal, known: Collection[int | None]) -> Iterator[str]:
    for record in journal.unfinished():
        if record.experiment_id not in known:
            body = _body(record.line)
            yield f"experiment {record.experiment_id}: {(body.get('proposal') or {}).get('hypothesis', '')}"


def _sessions(journal: Journal) -> Iterator[dict[str, Any]]:
    for kind in ("session.started", "session.ended"):
        for record in journal.records(kind):
            try:
                yield {"seq": record.seq, "kind": kind, "at": record.at, **_body(record.line)}
            except (ValueError, KeyError, TypeError):
                continue


def _body(line: str) -> dict[str, Any]:
    try:
        body = json.loads(line)["body"]
    except (ValueError, KeyError, TypeError):
        return {}
    return body if isinstance(body, dict) else {}
