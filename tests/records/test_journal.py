"""The journal: append-only, chained, mirrored, resumable."""

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from orchestrator.errors import JournalError
from orchestrator.record.chain import GENESIS
from orchestrator.record.index import MIGRATIONS, canonical
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Proposal, Reply, Status, Usage
from tests.support import fakes
from tests.support.journals import kept


def candidate(**changes: object) -> Candidate:
    """A candidate as the loop makes it."""
    values: dict[str, object] = {
        "proposal": Proposal(hypothesis="warm up longer"), "source": fakes.TRAIN_PY, "parent_id": None,
        "parent_source": fakes.TRAIN_PY, "reply": Reply(proposer="scripted", model="", prompt="p", text="t"),
    }  # fmt: skip
    return Candidate(**(values | changes))  # type: ignore[arg-type]


def test_every_record_carries_the_hash_of_the_one_before(tmp_path: Path) -> None:
    """The chain can be re-derived from the mirror alone."""
    with Journal.open(tmp_path) as journal:
        for number in range(5):
            journal.note("test", {"number": number})
        head = journal.head()

    previous = GENESIS
    for line in (tmp_path / "record.jsonl").read_text().splitlines():
        assert previous == json.loads(line)["previous"]
        previous = hashlib.sha256(line.encode()).hexdigest()
    assert head == previous


def test_a_second_session_on_one_run_is_refused(tmp_path: Path) -> None:
    """Two writers cannot open one journal; a reader can."""
    with Journal.open(tmp_path):
        with pytest.raises(JournalError, match="another session"):
            Journal.open(tmp_path)
        Journal.read(tmp_path).close()
    Journal.open(tmp_path).close()


def test_what_began_and_never_ended_is_found(tmp_path: Path) -> None:
    """After a crash the next session knows what was running."""
    with Journal.open(tmp_path) as journal:
        assert 0 == journal.begin(candidate(), intent={})
    with Journal.open(tmp_path) as journal:
        assert [0] == [record.experiment_id for record in journal.unfinished()]
        journal.finish(kept(2.0))
        assert [] == journal.unfinished()
        assert 1 == journal.next_id()


def test_the_best_is_the_lowest_kept_one(tmp_path: Path) -> None:
    """Discarded and failed experiments are never the best."""
    with Journal.open(tmp_path) as journal:
        journal.finish(kept(2.0))
        journal.finish(kept(1.5, id=1))
        journal.finish(kept(1.0, id=2, status=Status.DISCARD))
        journal.finish(kept(0.0, id=3, status=Status.CHEAT))

        best = journal.best()
        assert best is not None
        assert 1 == best.id
        assert tmp_path / "0001" == best.folder


def test_experiments_come_back_as_they_went_in(tmp_path: Path) -> None:
    """The whole value survives, a missing number as None."""
    written = kept(2.0, id=7, score=None, status=Status.CRASH, folder=tmp_path / "0007")
    with Journal.open(tmp_path) as journal:
        journal.finish(written)
    with Journal.read(tmp_path) as journal:
        assert written == journal.experiment(7)
        assert journal.experiment(7).value is None


def test_infra_is_owed_again_but_not_for_ever(tmp_path: Path) -> None:
    """Queued until a later experiment retries it, and at most three attempts."""
    with Journal.open(tmp_path) as journal:
        journal.finish(kept(2.0, id=1, status=Status.INFRA, score=None))
        assert [1] == [e.id for e in journal.queued()]
        journal.finish(kept(2.0, id=2, status=Status.CONTENDED, score=None, attempt=2, retry_of=1))
        assert [2] == [e.id for e in journal.queued()]
        journal.finish(kept(2.0, id=3, status=Status.INFRA, score=None, attempt=3, retry_of=2))
        assert [] == journal.queued()


def test_money_is_summed_over_replies_and_infra_counts_in_a_row(tmp_path: Path) -> None:
    """Spending holds over sessions; neither the baseline nor what is queued again counts as an experiment."""
    with Journal.open(tmp_path) as journal:
        journal.finish(kept(2.0))
        journal.reply(Reply(proposer="c", model="m", prompt="", text="", usage=Usage(input_tokens=7, cost_usd=0.25)))
        journal.finish(kept(1.0, id=1, status=Status.DISCARD))
        journal.finish(kept(1.0, id=2, status=Status.INFRA, score=None))
    with Journal.read(tmp_path) as journal:
        spent = journal.spent()

        assert (1, 0.25, 7, 1) == (
            spent.experiments,
            spent.usage.cost_usd,
            spent.usage.input_tokens,
            spent.consecutive_infra,
        )


def test_a_stored_reply_that_was_never_acted_on_comes_back(tmp_path: Path) -> None:
    """It was paid for: a session killed right after it uses it."""
    reply = Reply(proposer="c", model="m", prompt="p", text='{"a": 1}')
    with Journal.open(tmp_path) as journal:
        journal.reply(reply)
    with Journal.open(tmp_path) as journal:
        pending = journal.pending_reply()
        assert pending is not None
        assert reply == pending[1]
        journal.note("reply.rejected", {"reply": pending[0], "reason": "no"})
        assert journal.pending_reply() is None


def test_the_mirror_is_completed_after_a_crash(tmp_path: Path) -> None:
    """A half-written last line is cut off, a missing one copied from the database."""
    with Journal.open(tmp_path) as journal:
        journal.note("test", {"a": 1})
        journal.note("test", {"a": 2})
    mirror = tmp_path / "record.jsonl"
    whole = mirror.read_text()
    mirror.write_text(whole[:-30])
    Journal.open(tmp_path).close()

    assert whole == mirror.read_text()


def test_a_newer_journal_is_left_alone(tmp_path: Path) -> None:
    """A clear error instead of a guess."""
    Journal.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(JournalError, match="newer version"):
        Journal.open(tmp_path)


def test_a_corrupt_journal_is_a_clear_error(tmp_path: Path) -> None:
    """Garbage in the database names the file and the fix."""
    Journal.open(tmp_path).close()
    (tmp_path / "journal.db").write_bytes(b"not a database" * 100)

    with pytest.raises(JournalError, match=r"journal\.db"):
        Journal.open(tmp_path)


def test_similar_ideas_are_found_by_their_words(tmp_path: Path) -> None:
    """Full-text search over hypotheses and diffs; hostile text is only text."""
    with Journal.open(tmp_path) as journal:
        journal.finish(kept(2.0, id=1, hypothesis="warm up the learning rate longer"))
        journal.finish(kept(2.0, id=2, hypothesis="deeper network"), diff="+DEPTH = 12")

        assert [1] == [e.id for e in journal.similar("longer warm up", 5)]
        assert [2] == [e.id for e in journal.similar("DEPTH", 5)]
        assert [] == journal.similar('" OR 1 NEAR( *', 5)


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
    """The reply tells what it cost; the ledger has it already."""
    usage = Usage(output_tokens=10, cost_usd=0.5)
    with Journal.open(tmp_path) as journal:
        call = journal.reserve(usage)
        journal.settle(call, usage)
        journal.reply(Reply(proposer="c", model="m", prompt="", text="", usage=usage, calls=(call,)))

        assert usage == journal.charged()


def test_a_reply_that_came_while_an_experiment_ran_waits_for_its_turn(tmp_path: Path) -> None:
    """Neither the end of that experiment nor its second attempt uses it up; the next new experiment does."""
    with Journal.open(tmp_path) as journal:
        journal.begin(candidate(), intent={})
        journal.reply(Reply(proposer="c", model="m", prompt="", text="ahead"))
        journal.finish(kept(2.0, status=Status.INFRA, score=None))
        assert journal.pending_reply() is not None
        journal.begin(candidate(attempt=2, retry_of=0), intent={})
        assert journal.pending_reply() is not None
        journal.begin(candidate(), intent={})
        assert journal.pending_reply() is None


def test_a_journal_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """What was spent and how long experiments took is found again; who only reads changes nothing."""
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1")
        body = json.dumps({"usage": {"input_tokens": 7, "output_tokens": 1, "cost_usd": 0.25}})
        line = json.dumps({"body": json.loads(body)})
        connection.execute("INSERT INTO records VALUES (1, 'reply.received', NULL, ?, 'h')", (line,))
        connection.execute(
            "INSERT INTO experiments VALUES (0, 'keep', 1.0, NULL, '', ?)",
            (canonical(Journal.as_json(kept(1.0, duration_s=3.5))),),
        )
    connection.close()
    (tmp_path / "record.jsonl").write_text(line + "\n")

    before = (tmp_path / "journal.db").read_bytes()
    with Journal.read(tmp_path) as journal:
        assert (3.5, 0) == (journal.spent().device_seconds, journal.spent().experiments)
    assert before == (tmp_path / "journal.db").read_bytes()

    with Journal.open(tmp_path) as journal:
        assert Usage(input_tokens=7, output_tokens=1, cost_usd=0.25) == journal.charged()
        assert (3.5, 0) == (journal.spent().device_seconds, journal.spent().experiments)


def test_a_record_that_names_no_experiment_is_not_the_baselines(tmp_path: Path) -> None:
    """Whoever needs to know which it is about is told what is wrong."""
    with Journal.open(tmp_path) as journal:
        journal.note("experiment.run_again", {})
        journal.note("experiment.run_again", {}, 0)
        nameless, named = journal.records("experiment.run_again")

    assert 0 == named.of_experiment
    with pytest.raises(JournalError, match=r"record 1 \(experiment\.run_again\) names no experiment"):
        _ = nameless.of_experiment
