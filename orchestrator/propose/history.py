"""The history that a proposer gets: the few most informative experiments, and all of them on demand.

Every query is answered from the index, so a proposal costs the same after a hundred thousand experiments.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import overload

from orchestrator.record.journal import Journal
from orchestrator.types import Champion, Experiment, Memory, Status

KEPT = 40
NEAR_MISSES = 15
FAILURES = 12
RECENT = 15
LOWEST, NEWEST = 45, 150  # discarded experiments from which the near misses are chosen
OWED = 10
REMEASURED = 3
FAILED = (Status.CRASH, Status.TIMEOUT, Status.OOM, Status.INVALID, Status.CHEAT)


def select_history(journal: Journal, champion: Champion, here: str = "") -> Memory:
    """Return the bounded memory of a run; of one class of hardware alone, where `here` names one."""
    again = [e for e in journal.remeasurements() if here in ("", e.hardware)]
    kept, discarded = journal.newest(KEPT, Status.KEEP)[::-1], journal.discarded_ideas(LOWEST, NEWEST)
    failures = [e for status in FAILED for e in journal.newest(FAILURES, status)]
    recent = [e for e in journal.newest(2 * RECENT) if e.is_judged and e.remeasures_id is None]
    if here:
        kept, discarded, recent = ([e for e in some if e.hardware == here] for some in (kept, discarded, recent))
    parents = _find_parents(journal, [*discarded, *kept, *failures, *recent], again)
    if here:
        parents = {number: there for number, e in parents.items() if (there := _measured_on(e, here, again))}
    return Memory(
        kept=tuple(_with_all_trials(e, again) for e in kept),
        near_misses=rank_near_misses(discarded, parents)[:NEAR_MISSES],
        failures=tuple(sorted(failures, key=lambda e: -e.id)[:FAILURES]),
        recent=tuple(recent[:RECENT][::-1]),
        since_improvement=journal.since_improvement(champion.id),
        owed=tuple(journal.queued()[:OWED]),
        remeasured=tuple(again[:REMEASURED][::-1]),
        parents=parents,
    )


def subtract_parent(e: Experiment, parents: Mapping[int, Experiment]) -> float | None:
    """Return a score minus its parent's, None if either is unknown. Negative is better."""
    parent = parents.get(e.parent_id) if e.parent_id is not None else None
    return None if parent is None or parent.value is None or e.value is None else e.value - parent.value


def difference_error(e: Experiment, parents: Mapping[int, Experiment], trial_std: float | None) -> float | None:
    """Return the standard error of `subtract_parent`, from the noise of single trials; None if that is unknown."""
    parent = parents.get(e.parent_id) if e.parent_id is not None else None
    if trial_std is None or parent is None or not e.scores or not parent.scores:
        return None
    return trial_std * math.sqrt(1 / len(e.scores) + 1 / len(parent.scores))


def rank_near_misses(discarded: Iterable[Experiment], parents: Mapping[int, Experiment]) -> tuple[Experiment, ...]:
    """Return discarded ideas, smallest loss against their own parent first; those with an unknown parent last.

    Scores under different parents are not comparable: a poor idea on a good file beats a good idea on a poor one.
    """

    def rank(e: Experiment) -> tuple[bool, float, int]:
        loss = subtract_parent(e, parents)
        return loss is None, e.sign * loss if loss is not None else e.cost or math.inf, -e.id

    return tuple(sorted(discarded, key=rank))


def _find_parents(
    journal: Journal, children: Iterable[Experiment], again: Sequence[Experiment]
) -> dict[int, Experiment]:
    """Return the parents of experiments, each with all trials of its source."""
    ids = {e.parent_id for e in children if e.parent_id is not None}
    return {e.id: _with_all_trials(e, again) for e in journal.find(ids)}


def _measured_on(e: Experiment, hardware: str, again: Sequence[Experiment]) -> Experiment | None:
    """Return an experiment with the score that its source has on a class of hardware; None if it has none there."""
    if e.hardware == hardware:
        return e
    there = next((a for a in again if a.remeasures_id == e.id and a.score), None)
    return replace(e, score=there.score, repeat_scores=there.repeat_scores) if there else None


def _with_all_trials(e: Experiment, again: Sequence[Experiment]) -> Experiment:
    """Return an experiment with its later remeasurements under the same conditions."""
    scores = [score for a in again if a.remeasures_id == e.id and a.conditions == e.conditions for score in a.scores]
    return replace(e, repeat_scores=(*e.scores, *scores)) if scores else e


class FullHistory(Sequence[Experiment]):
    """All finished experiments, oldest first, read on access."""

    def __init__(self, journal: Journal) -> None:
        """Read nothing yet."""
        self._journal = journal

    def __len__(self) -> int:
        """Return the number of experiments."""
        return self._journal.count()

    @overload
    def __getitem__(self, index: int) -> Experiment: ...

    @overload
    def __getitem__(self, index: slice) -> list[Experiment]: ...

    def __getitem__(self, index: int | slice) -> Experiment | list[Experiment]:
        """Return experiments by index or slice; a slice such as [-500:] reads only the newest."""
        match index:
            case slice(start=int(start), stop=None, step=None) if start < 0:
                return self._journal.newest(-start)[::-1]
        return self._journal.experiments()[index]
