"""What a proposer may remember: the few experiments that say most, and the whole history for those who look.

Every question is answered from an index, so a turn costs the same after a hundred thousand experiments.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import overload

from orchestrator.record.journal import QUEUED_AGAIN, Journal
from orchestrator.types import Experiment, Memory, Status

KEPT = 40
NEAR_MISSES = 15
FAILURES = 12
RECENT = 15
LOWEST, NEWEST = 45, 150  # discarded ones among which the near misses are looked for
OWED = 10
REMEASURED = 3
FAILED = (Status.CRASH, Status.TIMEOUT, Status.OOM, Status.INVALID, Status.CHEAT)
JUDGED = (Status.KEEP, Status.DISCARD, *FAILED)


def select_history(journal: Journal, best: Experiment) -> Memory:
    """Return the bounded memory of a run."""
    newest, again = "id DESC", journal.again()
    failures = [e for status in FAILED for e in journal.experiments("status = ?", status, order=newest, limit=FAILURES)]
    judged = [e for e in journal.experiments(order=newest, limit=2 * RECENT) if _is_idea(e)]
    kept = journal.experiments("status = ?", Status.KEEP, order=newest, limit=KEPT)[::-1]
    discarded, told = _discarded(journal), [*kept, *failures, *judged]
    parents = _parents(journal, [*discarded, *told], again)
    return Memory(
        kept=tuple(_over_all_runs(e, again) for e in kept),
        near_misses=rank_near_misses(discarded, parents)[:NEAR_MISSES],
        failures=tuple(sorted(failures, key=lambda e: -e.id)[:FAILURES]),
        recent=tuple(judged[:RECENT][::-1]),
        since_improvement=count_since_improvement(journal, best),
        owed=tuple(journal.queued()[:OWED]),
        remeasured=tuple(again[:REMEASURED][::-1]),
        parents=parents,
    )


def difference(e: Experiment, parents: Mapping[int, Experiment]) -> float | None:
    """Return a score less its parent's, None where either is unknown. Negative is better."""
    parent = parents.get(e.parent_id) if e.parent_id is not None else None
    return None if parent is None or parent.value is None or e.value is None else e.value - parent.value


def rank_near_misses(discarded: Iterable[Experiment], parents: Mapping[int, Experiment]) -> tuple[Experiment, ...]:
    """Return discarded ideas, the smallest loss against their own parent first; last those whose parent is unknown.

    Scores of different parents do not compare: a poor idea on a good file beats a good idea on a poor one.
    """

    def rank(e: Experiment) -> tuple[bool, float, int]:
        lost = difference(e, parents)
        return lost is None, lost if lost is not None else e.value or math.inf, -e.id

    return tuple(sorted(discarded, key=rank))


def _discarded(journal: Journal) -> list[Experiment]:
    """Return discarded ideas that may be near misses: the newest ones, and those with the lowest scores."""
    idea = "status = ? AND json_extract(body, '$.remeasures_id') IS NULL"
    lowest = journal.experiments(idea, Status.DISCARD, order="value", limit=LOWEST)
    newest = journal.experiments(idea, Status.DISCARD, order="id DESC", limit=NEWEST)
    return list({e.id: e for e in (*lowest, *newest)}.values())


def _parents(journal: Journal, children: Iterable[Experiment], again: Sequence[Experiment]) -> dict[int, Experiment]:
    """Return the parents of experiments, each with all runs of its source."""
    ids = sorted({e.parent_id for e in children if e.parent_id is not None})
    found = journal.experiments(f"id IN ({', '.join('?' * len(ids))})", *ids) if ids else []
    return {e.id: _over_all_runs(e, again) for e in found}


def count_since_improvement(journal: Journal, best: Experiment) -> int:
    """Return how many judged experiments came after the best; re-measurements of a kept one do not count."""
    judged = sum(journal.count("status = ? AND id > ?", status, best.id) for status in JUDGED)
    remeasured = "json_extract(body, '$.remeasures_id') IS NOT NULL AND status NOT IN (?, ?) AND id > ?"
    return judged - journal.count(remeasured, *QUEUED_AGAIN, best.id)


def _is_idea(e: Experiment) -> bool:
    """Neither queued again nor a kept one that ran once more: that says how good the kept one is."""
    return e.status not in QUEUED_AGAIN and e.remeasures_id is None


def _over_all_runs(e: Experiment, again: Sequence[Experiment]) -> Experiment:
    """With the runs that measured it later, where it ran first."""
    runs = [value for a in again if a.remeasures_id == e.id and a.conditions == e.conditions for value in a.runs]
    return replace(e, repeat_scores=(*e.runs, *runs)) if runs else e


class History(Sequence[Experiment]):
    """All finished experiments, oldest first; read only where it is looked at."""

    def __init__(self, journal: Journal) -> None:
        """Nothing is read yet."""
        self._journal = journal

    def __len__(self) -> int:
        """How many there are."""
        return self._journal.count()

    @overload
    def __getitem__(self, index: int) -> Experiment: ...

    @overload
    def __getitem__(self, index: slice) -> list[Experiment]: ...

    def __getitem__(self, index: int | slice) -> Experiment | list[Experiment]:
        """The newest by a slice such as [-500:], cheaply; anything else too."""
        match index:
            case slice(start=int(start), stop=None, step=None) if start < 0:
                return self._journal.experiments(order="id DESC", limit=-start)[::-1]
        return self._journal.experiments()[index]
