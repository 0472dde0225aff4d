"""The journal: append-only, chained, indexed, resumable."""

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from orchestrator.errors import JournalError, RecordChanged, RecordFailed, RecordTooNew
from orchestrator.events import LoopWaiting, ReplyReceived, ReplyRejected
from orchestrator.record import index
from orchestrator.record.index import TABLES, Index
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import GENESIS
from orchestrator.types import Reply, Status, Usage
from tests.support.journals import begin, candidate, finish, kept, rewrite_format


def test_every_line_carries_the_hash_of_the_one_before(tmp_path: Path) -> None:
    """The chain can be re-derived from record.jsonl alone."""
    with Journal.open(tmp_path) as journal:
        for number in range(5):
            journal.append(LoopWaiting(reason=f"{number}"))
        head = journal.head()

    previous = GENESIS
    for line in (tmp_path / "record.jsonl").read_text().splitlines():
        assert previous == json.loads(line)["previous"]
        previous = hashlib.sha256(line.encode()).hexdigest()
    assert head == previous


def test_subscribers_hear_of_every_event_once_it_is_recorded(tmp_path: Path) -> None:
    """In order, and each can read the journal."""
    with Journal.open(tmp_path) as journal:
        heard: list[tuple[int, str, bool]] = []
        journal.subscribe(lambda one: heard.append((one.seq, one.event.kind, journal.head() == one.hash)))
        journal.append(LoopWaiting(reason="a device"))
        begin(journal)

    assert [(1, "loop.waiting", True), (2, "experiment.begun", True)] == heard


def test_a_second_session_on_one_run_is_refused(tmp_path: Path) -> None:
    """Two writers cannot open one journal; a reader can, and cannot write."""
    with Journal.open(tmp_path):
        with pytest.raises(JournalError, match="another session"):
            Journal.open(tmp_path)
        with Journal.read(tmp_path) as journal, pytest.raises(RecordFailed, match="reading only"):
            journal.append(LoopWaiting(reason="x"))
    Journal.open(tmp_path).close()


def test_what_began_and_never_ended_is_found(tmp_path: Path) -> None:
    """After a crash the next session knows what was running."""
    with Journal.open(tmp_path) as journal:
        assert 0 == begin(journal)
    with Journal.open(tmp_path) as journal:
        assert [0] == [begun.experiment_id for begun in journal.unfinished()]
        finish(journal, kept(2.0))
        assert [] == journal.unfinished()
        assert 1 == journal.next_id()


def test_the_champion_is_the_lowest_kept_one(tmp_path: Path) -> None:
    """Discarded and failed experiments never are."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0))
        finish(journal, kept(1.5, id=1))
        finish(journal, kept(1.0, id=2, status=Status.DISCARD))
        finish(journal, kept(0.0, id=3, status=Status.CHEAT))

        champion = journal.champion()
        assert champion is not None
        assert 1 == champion.id
        assert tmp_path / "0001" == champion.experiment.folder


def test_experiments_come_back_as_they_went_in(tmp_path: Path) -> None:
    """The whole value survives, a missing number as None."""
    written = kept(2.0, id=7, score=None, status=Status.CRASH, folder=tmp_path / "0007")
    with Journal.open(tmp_path) as journal:
        finish(journal, written)
    with Journal.read(tmp_path) as journal:
        assert written == journal.experiment(7)
        assert journal.experiment(7).value is None


def test_infra_is_queued_again_but_not_for_ever(tmp_path: Path) -> None:
    """Until a later experiment retries it, and at most three attempts."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0, id=1, status=Status.INFRA, score=None))
        assert [1] == [e.id for e in journal.queued()]
        finish(journal, kept(2.0, id=2, status=Status.CONTENDED, score=None, attempt=2, retry_of=1))
        assert [2] == [e.id for e in journal.queued()]
        finish(journal, kept(2.0, id=3, status=Status.INFRA, score=None, attempt=3, retry_of=2))
        assert [] == journal.queued()


def test_money_is_summed_over_replies_and_infra_counts_in_a_row(tmp_path: Path) -> None:
    """Spending holds over sessions; neither the baseline nor what is queued again counts as an experiment."""
    usage = Usage(input_tokens=7, cost_usd=0.25)
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0))
        journal.append(ReplyReceived(reply=Reply(proposer="c", model="m", usage=usage)))
        finish(journal, kept(1.0, id=1, status=Status.DISCARD))
        finish(journal, kept(1.0, id=2, status=Status.INFRA, score=None))
    with Journal.read(tmp_path) as journal:
        spent = journal.spent()

        assert (1, 0.25, 7, 1) == (
            spent.experiments,
            spent.usage.cost_usd,
            spent.usage.input_tokens,
            spent.consecutive_infra,
        )


def test_ideas_since_the_champion_leave_out_what_only_measured_it_again(tmp_path: Path) -> None:
    """Nor do they count what is queued again."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0))
        finish(journal, kept(2.5, id=1, status=Status.DISCARD))
        finish(journal, kept(2.0, id=2, status=Status.DISCARD, remeasures_id=0))
        finish(journal, kept(2.0, id=3, status=Status.INFRA, score=None))
        finish(journal, kept(2.0, id=4, status=Status.CRASH, score=None))

        assert 2 == journal.since_improvement(0)


def test_a_stored_reply_that_was_never_acted_on_comes_back(tmp_path: Path) -> None:
    """It was paid for: a session killed right after it uses it."""
    reply = Reply(proposer="c", model="m", prompt="p", text='{"a": 1}')
    with Journal.open(tmp_path) as journal:
        journal.append(ReplyReceived(reply=reply))
    with Journal.open(tmp_path) as journal:
        pending = journal.pending_reply()
        assert pending is not None
        assert reply == pending[1]
        journal.append(ReplyRejected(reply=pending[0], reason="no"))
        assert journal.pending_reply() is None


def test_a_half_written_line_is_cut_off(tmp_path: Path) -> None:
    """A crash in the middle of an append loses that event alone; the next one follows the last whole line."""
    with Journal.open(tmp_path) as journal:
        journal.append(LoopWaiting(reason="a"))
        index = (tmp_path / "index.db").read_bytes()
        journal.append(LoopWaiting(reason="b"))
    (tmp_path / "index.db").write_bytes(index)  # a line is on the disk before it is indexed
    record = tmp_path / "record.jsonl"
    whole = record.read_bytes()
    record.write_bytes(whole[:-30])
    with Journal.open(tmp_path) as journal:
        assert ["a"] == [one.event.reason for one in journal.events(LoopWaiting)]
        journal.append(LoopWaiting(reason="c"))

    assert whole.splitlines()[0] == record.read_bytes().splitlines()[0]
    with Journal.read(tmp_path) as journal:
        assert ["a", "c"] == [one.event.reason for one in journal.events(LoopWaiting)]


@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbage", "behind", "another version"])
def test_the_index_is_rebuilt_from_the_record(tmp_path: Path, damage: str) -> None:
    """Whatever happened to it: it answers as before, for a reader, who writes nothing, and for the next session."""
    path = tmp_path / "index.db"
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0))
        behind = path.read_bytes()
        finish(journal, kept(1.5, id=1))
    whole = path.read_bytes()
    damaged = {"emptied": b"", "garbage": b"not a database" * 100, "behind": behind}.get(damage, whole)
    path.write_bytes(damaged)
    if damage == "deleted":
        path.unlink()
    if damage == "another version":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        damaged = path.read_bytes()

    for look in (Journal.read, Journal.open):
        with look(tmp_path) as journal:
            champion = journal.champion()
            assert champion is not None
            assert ([0, 1], 1) == ([e.id for e in journal.experiments()], champion.id)
        assert look == Journal.open or damage == "deleted" or damaged == path.read_bytes()
    built = Index.build(tmp_path, tmp_path / "record.jsonl")
    again = Index.read(tmp_path, tmp_path / "record.jsonl")
    assert [] == [name for name in TABLES if built.differs_from(again, name)]


def test_a_record_that_lost_a_line_is_not_continued_by_itself(tmp_path: Path) -> None:
    """Its index still knows the experiment: nothing is thrown away until a human types `reindex`."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0))
        record = (tmp_path / "record.jsonl").read_bytes()
        finish(journal, kept(1.5, id=1))
    index = (tmp_path / "index.db").read_bytes()
    (tmp_path / "record.jsonl").write_bytes(record)

    for look in (Journal.open, Journal.read):
        with pytest.raises(RecordChanged, match=r"record\.jsonl: line 2 is missing .*autoresearch reindex"):
            look(tmp_path)
    with Journal.salvage(tmp_path) as journal:
        assert [0, 1] == [e.id for e in journal.experiments()]
        assert 2 == journal.count()
        assert [] == journal.unfinished()
    assert index == (tmp_path / "index.db").read_bytes()
    (tmp_path / "index.db").unlink()
    with Journal.open(tmp_path) as journal:
        assert [0] == [e.id for e in journal.experiments()]


def test_a_record_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """A clear error that names the line, instead of a guess."""
    with Journal.open(tmp_path) as journal:
        journal.append(LoopWaiting(reason="x"))
    path = tmp_path / "record.jsonl"
    rewrite_format(path, 3)
    before = path.read_bytes()

    for look in (Journal.open, Journal.read):
        with pytest.raises(RecordTooNew, match=r"record\.jsonl: line 1: written by a newer version"):
            look(tmp_path)
    assert before == path.read_bytes()


def test_a_damaged_line_is_a_clear_error_and_the_rest_can_be_read(tmp_path: Path) -> None:
    """It names file, line and what to do; nothing is overwritten."""
    with Journal.open(tmp_path) as journal:
        for number in range(3):
            finish(journal, kept(2.0 - number / 10, id=number))
    path = tmp_path / "record.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{not json\n" + lines[2])
    (tmp_path / "index.db").unlink()

    for look in (Journal.open, Journal.read):
        with pytest.raises(JournalError, match=r"record\.jsonl: line 2: damaged: .*autoresearch verify"):
            look(tmp_path)
    with Journal.salvage(tmp_path) as journal:
        assert [0, 2] == [e.id for e in journal.experiments()]
    assert lines[0] + b"{not json\n" + lines[2] == path.read_bytes()


def test_similar_ideas_are_found_by_their_words(tmp_path: Path) -> None:
    """Full-text search over hypotheses and diffs; hostile text is only text. A rebuilt index finds the same."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0, id=1, hypothesis="warm up the learning rate longer"))
        (tmp_path / "0002").mkdir()
        (tmp_path / "0002" / "patch.diff").write_text("+DEPTH = 12")
        finish(journal, kept(2.0, id=2, hypothesis="deeper network"))
    for _ in range(2):
        with Journal.open(tmp_path) as journal:
            assert [1] == [e.id for e in journal.similar("longer warm up", 5)]
            assert [2] == [e.id for e in journal.similar("DEPTH", 5)]
            assert [] == journal.similar('" OR 1 NEAR( *', 5)
        (tmp_path / index.NAME).unlink()


def test_a_call_is_charged_its_worst_case_until_it_is_settled(tmp_path: Path) -> None:
    """A session killed in mid-call has spent what the call could cost; a settled call what it did cost."""
    with Journal.open(tmp_path) as journal:
        call = journal.reserve(Usage(output_tokens=100, cost_usd=2.0))
        journal.reserve(Usage(output_tokens=100, cost_usd=4.0))
        assert 6.0 == journal.charged().cost_usd
        journal.settle(call, Usage(output_tokens=10, cost_usd=0.5))
    with Journal.open(tmp_path) as journal:
        assert Usage(output_tokens=110, cost_usd=4.5) == journal.charged() == journal.spent().usage


def test_a_reply_that_was_charged_by_its_calls_is_not_charged_twice(tmp_path: Path) -> None:
    """The reply reports what it cost; the ledger has it already."""
    usage = Usage(output_tokens=10, cost_usd=0.5)
    with Journal.open(tmp_path) as journal:
        call = journal.reserve(usage)
        journal.settle(call, usage)
        journal.append(ReplyReceived(reply=Reply(proposer="c", model="m", usage=usage, calls=(call,))))

        assert usage == journal.charged()


def test_a_reply_that_came_while_an_experiment_ran_waits_for_its_turn(tmp_path: Path) -> None:
    """Neither the end of that experiment nor its second attempt uses it up; the next new experiment does."""
    with Journal.open(tmp_path) as journal:
        begin(journal)
        journal.append(ReplyReceived(reply=Reply(proposer="c", model="m", text="ahead")))
        finish(journal, kept(2.0, status=Status.INFRA, score=None))
        assert journal.pending_reply() is not None
        begin(journal, candidate(attempt=2, retry_of=0))
        assert journal.pending_reply() is not None
        begin(journal)
        assert journal.pending_reply() is None


def test_a_copy_of_a_run_can_be_read_anywhere(tmp_path: Path) -> None:
    """Its folders are those of the copy."""
    with Journal.open(tmp_path / "a") as journal:
        finish(journal, kept(2.0))
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    with Journal.read(tmp_path / "b") as journal:
        assert tmp_path / "b" / "0000" == journal.experiment(0).folder
