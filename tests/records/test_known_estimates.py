"""Estimates in the index: a shortcut that changes no number, and that may be lost at any time."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from orchestrator import policy
from orchestrator.estimates import Estimates
from orchestrator.events import ExperimentFinished, Revision, SessionStarted
from orchestrator.record import known_estimates
from orchestrator.record.index import NAME
from orchestrator.record.journal import Journal
from orchestrator.types import Conditions, Environment, Experiment, Level, Score, Status
from tests.support.journals import finish, kept

TRIALS = 2 * known_estimates.EVERY + 7


def experiment(number: int) -> Experiment:
    """Return one of many: every seventh is kept, every third ran on other hardware."""
    status = Status.DISCARD if number % 7 else Status.KEEP
    value = 2.0 + 0.01 * (number * 7919 % 13) - (0.03 * number if status is Status.KEEP else 0.0)
    hardware = "b" if number % 3 == 2 else "a"
    return kept(value, id=number, parent_id=max(0, number - 1) if number else None, status=status, hardware=hardware)


def grow(folder: Path, start: int, end: int) -> None:
    """Record experiments, the champion known after each as in a session."""
    with Journal.open(folder) as journal:
        if not start:
            session = SessionStarted(
                task="t", metric="m", proposer="sweep", environment=Environment(), rule=policy.ESTIMATE
            )
            journal.append(session)
        for number in range(start, end):
            finish(journal, experiment(number))
            journal.champion()


def estimates_of(folder: Path) -> dict[Conditions, Estimates]:
    """Return what a reader knows."""
    with Journal.read(folder) as journal:
        return dict(journal.estimates())


def learnt_anew(folder: Path) -> dict[Conditions, Estimates]:
    """Return what the record alone says."""
    known = dict[Conditions, Estimates]()
    with Journal.read(folder) as journal:
        for one in journal.experiments():
            learnt = policy.learn(known.get(one.conditions), one)
            if learnt is not None and not journal.history().why_invalid(one.id):
                known[one.conditions] = learnt
    return known


def require_same(expected: dict[Conditions, Estimates], found: dict[Conditions, Estimates]) -> None:
    """Compare to the last bit."""
    assert {*expected} == {*found}
    for conditions, one in expected.items():
        other = found[conditions]
        mine, theirs = ((e.sources, e.ages, e.others, e.usual_others, e.seen) for e in (one, other))
        assert mine == theirs
        for name in known_estimates.ARRAYS:
            assert np.array_equal(getattr(one.beliefs, name), getattr(other.beliefs, name))


def rows(folder: Path) -> list[tuple[int, str]]:
    """Return what the index has: seq and digest of the code."""
    with sqlite3.connect(folder / NAME) as db:
        return db.execute("SELECT learnt, code FROM estimates").fetchall()


def change(folder: Path, statement: str) -> None:
    """Change the index by hand."""
    with sqlite3.connect(folder / NAME) as db:
        db.execute(statement)


def test_what_is_in_the_index_is_what_the_record_says(tmp_path: Path) -> None:
    """To the last bit, for a reader, and for a session that goes on from it."""
    grow(tmp_path, 0, TRIALS)

    assert 2 == len(rows(tmp_path))
    require_same(learnt_anew(tmp_path), estimates_of(tmp_path))
    grow(tmp_path, TRIALS, TRIALS + 5)
    require_same(learnt_anew(tmp_path), estimates_of(tmp_path))


def test_only_what_is_new_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the run is: fewer trials than make the index be written."""
    grow(tmp_path, 0, TRIALS)
    learnt = list[int]()
    learn = policy.learn

    def count(estimates: Estimates | None, one: Experiment) -> Estimates | None:
        learnt.append(one.id)
        return learn(estimates, one)

    monkeypatch.setattr(policy, "learn", count)
    estimates_of(tmp_path)

    assert len(learnt) < known_estimates.EVERY
    assert TRIALS - 1 in learnt


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE estimates SET code = 'of another version'",
        "UPDATE estimates SET body = x'00'",
        "UPDATE estimates SET body = substr(body, 1, 1000)",
        "UPDATE estimates SET conditions = conditions || ']'",
        "DELETE FROM estimates",
    ],
)
def test_what_is_of_no_use_is_learnt_again(tmp_path: Path, statement: str) -> None:
    """From the record, with the same result; so is all of it where the index is gone."""
    grow(tmp_path, 0, TRIALS)
    expected = estimates_of(tmp_path)
    change(tmp_path, statement)
    require_same(expected, estimates_of(tmp_path))
    (tmp_path / NAME).unlink()
    require_same(expected, estimates_of(tmp_path))


def test_what_cheated_taught_nothing(tmp_path: Path) -> None:
    """A verdict that is revised has all estimates learnt again, also by a reader that knew them before."""
    grow(tmp_path, 0, TRIALS)
    with Journal.read(tmp_path) as reader:
        before = dict(reader.estimates())
        with Journal.open(tmp_path) as journal:
            revision = Revision(experiment_id=7, status=Status.CHEAT, reason="it cheated")
            last = kept(9.0, id=TRIALS, status=Status.CHEAT, score=None, remeasures_id=7, hardware="a")
            journal.append(ExperimentFinished(experiment=last, revisions=(revision,)))
            writer = dict(journal.estimates())
        reader.refresh()
        after = dict(reader.estimates())

    assert any(7 in one.sources for one in before.values())
    assert not any(7 in one.sources for one in after.values())
    require_same(writer, after)
    require_same(writer, estimates_of(tmp_path))


def test_the_best_after_each_experiment_is_known_without_learning(tmp_path: Path) -> None:
    """As a replay of the record has it, beyond a change of conditions; learnt anew without an index."""
    grow(tmp_path, 0, TRIALS)
    with Journal.read(tmp_path) as journal:
        experiments, found, newest = journal.experiments(), journal.best_after(), journal.best_after(TRIALS - 3)
    known, now, expected = dict[Conditions, Estimates](), None, dict[int, float | None]()
    for one in experiments:
        learnt = policy.learn(known.get(one.conditions), one)
        if learnt is not None:
            known[one.conditions] = learnt
        now = one.conditions if one.status is Status.KEEP else now
        here = known.get(now) if now is not None else None
        expected[one.id] = None if here is None else here.level(here.best())[0]
    (tmp_path / NAME).unlink()
    with Journal.read(tmp_path) as journal:
        anew = journal.best_after()

    assert expected == found == anew
    assert {n: cost for n, cost in expected.items() if n >= TRIALS - 3} == newest != {}


def test_the_best_of_a_task_in_which_more_is_better_has_its_own_sign(tmp_path: Path) -> None:
    """In curves as elsewhere."""
    with Journal.open(tmp_path) as journal:
        session = SessionStarted(task="t", metric="m", proposer="sweep", environment=Environment(), rule="estimate")
        journal.append(session)
        for number, value in enumerate((0.8, 0.9)):
            score = Score(value=value, level=Level.L2, higher_is_better=True)
            finish(journal, kept(value, id=number, parent_id=0 if number else None, score=score))
        best, curve = journal.champion(), journal.best_after()

    assert best is not None
    assert best.value == pytest.approx(curve[1])
    assert curve[0] == pytest.approx(0.8)
