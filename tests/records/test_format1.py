"""Records of format 1, as written until November 2026, are read through one converter.

`format1/scripted` is a run of the loop of that time with a scripted proposer, in which everything happened once;
`format1/real` is the record of three experiments in real containers. Both were recorded by the version before format 2.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from orchestrator.events import (
    ConfirmationFailed,
    ExperimentConfirmed,
    ExperimentDoubted,
    ExperimentFinished,
    FilesRemoved,
    SessionStarted,
    TrialRepeated,
)
from orchestrator.record.journal import Journal
from orchestrator.record.verify import find_damage
from orchestrator.types import Role, Status

RECORDED = Path(__file__).parent / "format1"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the scripted run."""
    return Path(shutil.copytree(RECORDED / "scripted", tmp_path / "t"))


def test_an_old_run_reads_as_it_did(run: Path) -> None:
    """Statuses, scores, the champion, what was spent, what is due, and the head of the chain."""
    expected = json.loads((RECORDED / "expected.json").read_text())
    with Journal.read(run) as journal:
        champion, spent = journal.champion(), journal.spent()
        assert expected["statuses"] == [[e.id, e.status.value, e.value, e.parent_id] for e in journal.experiments()]
        assert champion is not None
        assert expected["best"] == [champion.id, champion.value, list(champion.scores)]
        usage = spent.usage
        assert expected["spent"] == [spent.experiments, spent.inconclusive, usage.cost_usd, usage.output_tokens]
        assert expected["queued"] == [e.id for e in journal.queued()]
        assert (expected["head"], expected["next_id"]) == (journal.head(), journal.next_id())


def test_each_old_event_has_a_value_of_today(run: Path) -> None:
    """What was prose or had another name is a field."""
    with Journal.read(run) as journal:
        repeated = journal.events(TrialRepeated)[0].event
        doubted = journal.events(ExperimentDoubted)[0].event
        confirmed = journal.events(ExperimentConfirmed)[0].event
        failed = journal.events(ConfirmationFailed)[0].event
        removed = journal.events(FilesRemoved)[0].event

        assert (0, 2, 2) == (repeated.experiment_id, repeated.trial, repeated.at_most)
        assert "far beyond" in doubted.reason
        assert ((1.04, 1.05), "arithmetic") == (confirmed.holdout, confirmed.environment.hardware)
        assert (Status.CHEAT, "peeks") == (failed.failure, failed.message)
        assert {"trainer.log": "older than 1 days"} == removed.files
        assert journal.experiment(7).needs_review
        assert (0.25, "script") == (journal.begun(1).reply.usage.cost_usd, journal.begun(1).reply.model)


def test_an_old_run_is_intact_and_goes_on(run: Path) -> None:
    """Its chain and files verify; what is appended follows it."""
    assert [] == list(find_damage(run))
    with Journal.open(run) as journal:
        head = journal.head()
        first = journal.events(SessionStarted)[0].event
        appended = journal.append(first)

    assert head == appended.previous
    assert [] == list(find_damage(run))


def test_what_only_the_old_database_holds_is_not_lost(run: Path) -> None:
    """A crash between its two copies left the last line in journal.db alone: it was written there first."""
    lines = (run / "record.jsonl").read_text().splitlines()
    with sqlite3.connect(run / "journal.db") as database:
        database.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, line TEXT)")
        database.executemany("INSERT INTO records VALUES (?, ?)", enumerate(lines, start=1))
    database.close()
    (run / "record.jsonl").write_text("".join(f"{line}\n" for line in lines[:-1]) + lines[-1][:20])
    Journal.open(run).close()

    assert lines == (run / "record.jsonl").read_text().splitlines()


def test_a_run_in_real_containers_reads_too(tmp_path: Path) -> None:
    """Its scores at L2, its contention, and how each container ended."""
    shutil.copy(RECORDED / "real" / "record.jsonl", tmp_path)
    with Journal.read(tmp_path) as journal:
        experiments = journal.experiments()
        executions = journal.finished(1).executions

        assert ["keep", "keep", "discard"] == [e.status.value for e in experiments[:3]]
        assert {"contended"} == {e.status.value for e in experiments[3:]}
        assert [3, 3] == [len(e.scores) for e in experiments[:2]]
        assert all(e.level == "L2" and e.score and e.score.undetectable for e in experiments[:3])
        assert {Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER} <= {e.role for e in executions}
        environment = journal.begun(0).environment
        assert environment.image_id.startswith("sha256:")
        assert ("0.01", "0.0002") == (environment.audit_cap, environment.audit_floor)
        assert journal.finished(0).self_reported["tokens_per_second"] > 0
        assert "val_bpb" == journal.metric()
        assert all(isinstance(one.event, ExperimentFinished) for one in journal.events(ExperimentFinished))
