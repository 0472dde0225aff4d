"""What is remembered of a run, and that remembering stays cheap."""

from pathlib import Path

from orchestrator.propose.history import FullHistory, select_history
from orchestrator.record.journal import Journal
from orchestrator.types import Status
from tests.support.journals import champion, finish, kept


def test_memory_holds_the_telling_experiments(tmp_path: Path) -> None:
    """Kept in order, near misses best first, failures newest first, what is queued again left out."""
    ends = [
        (Status.KEEP, 2.0), (Status.CRASH, None), (Status.DISCARD, 2.5), (Status.KEEP, 1.9), (Status.INFRA, None),
        (Status.DISCARD, 1.95), (Status.OOM, None), (Status.CHEAT, None),
    ]  # fmt: skip
    with Journal.open(tmp_path) as journal:
        for number, (status, bpb) in enumerate(ends):
            score = {} if bpb is not None else {"score": None}
            finish(journal, kept(bpb or 0.0, id=number, status=status, folder=tmp_path / f"{number:04d}", **score))
        best = journal.champion()
        assert best is not None
        memory = select_history(journal, best)

        assert [0, 3] == [e.id for e in memory.kept]
        assert [5, 2] == [e.id for e in memory.near_misses]
        assert [7, 6, 1] == [e.id for e in memory.failures]
        assert [0, 1, 2, 3, 5, 6, 7] == [e.id for e in memory.recent]
        assert 3 == memory.since_improvement


def test_a_kept_one_that_ran_again_is_told_with_all_its_runs(tmp_path: Path) -> None:
    """Its measurements are no near misses of it, no ideas, and no part of a stagnation."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0, folder=tmp_path / "0000"))
        finish(journal, kept(1.8, id=1, folder=tmp_path / "0001"))
        again = {"status": Status.DISCARD, "remeasures_id": 1, "folder": tmp_path / "0002"}
        finish(journal, kept(1.9, id=2, **again))
        finish(journal, kept(1.7, id=3, **again, hardware="another"))
        memory = select_history(journal, champion(1.8, id=1))

    assert [(2.0,), (1.8, 1.9)] == [e.scores for e in memory.kept]
    assert () == memory.near_misses
    assert [0, 1] == [e.id for e in memory.recent]
    assert 0 == memory.since_improvement


def test_history_is_read_where_it_is_looked_at(tmp_path: Path) -> None:
    """The same as the list of all, whichever way it is asked."""
    with Journal.open(tmp_path) as journal:
        for number in range(7):
            finish(journal, kept(2.0 - number / 10, id=number, folder=tmp_path / f"{number:04d}"))
        history, everything = FullHistory(journal), journal.experiments()

        assert 7 == len(history)
        assert everything == list(history)
        for part in (slice(-3, None), slice(-100, None), slice(2, 5), slice(None, None, 2)):
            assert everything[part] == history[part]
        assert everything[-1] == history[-1]
