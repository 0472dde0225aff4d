"""Old logs and checkpoints go by the policy, each removal on record; the chain and everything else stay."""

import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.events import FilesRemoved
from orchestrator.record import retention
from orchestrator.record.journal import Journal
from orchestrator.record.retention import Item
from orchestrator.record.verify import find_damage
from orchestrator.settings import Retention
from orchestrator.types import Status
from tests.support.runs import recorded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept 0, 1 and 3, discarded 2; each with a log."""
    return recorded(tmp_path_factory.mktemp("retention"))


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(original, tmp_path / "t"))


def item(number: int, name: str, *, days: float = 1.0, size: int = 10, status: Status = Status.KEEP) -> Item:
    """A file that may go."""
    return Item(experiment_id=number, name=name, size=size, age_days=days, status=status)


def gone(items: list[Item], policy: Retention, best: int | None = None) -> list[tuple[int, str]]:
    """What goes."""
    return [(one.item.experiment_id, one.item.name) for one in retention.plan(items, policy, best)]


NOTHING = Retention(log_days=0, checkpoints=0)


def test_age_counts_from_the_experiment_and_spares_what_the_policy_spares() -> None:
    """Logs of kept experiments and cheats stay; nothing of the best goes."""
    logs = [
        item(n, "trainer.log", days=10.0 * n, status=s)
        for n, s in enumerate([Status.CRASH, Status.CRASH, Status.KEEP, Status.CHEAT, Status.OOM])
    ]

    assert [(4, "trainer.log")] == gone(logs, Retention(log_days=20))
    assert [] == gone(logs, Retention(log_days=20), best=4)
    assert [(4, "trainer.log"), (3, "trainer.log"), (2, "trainer.log"), (1, "trainer.log")] == gone(
        logs, Retention(log_days=5, keep_logs_of=())
    )
    assert [] == gone(logs, NOTHING)


def test_the_newest_checkpoints_stay_and_the_best() -> None:
    """By number and by age."""
    pts = [item(n, "checkpoint.pt", days=10.0 - n) for n in range(6)]

    assert [(0, "checkpoint.pt"), (1, "checkpoint.pt"), (2, "checkpoint.pt")] == gone(
        pts, Retention(checkpoints=2), best=5
    )
    assert [(0, "checkpoint.pt")] == gone(pts, Retention(checkpoint_days=9.5, checkpoints=0))


def test_size_takes_the_oldest_checkpoints_first_then_logs() -> None:
    """Until what stays is small enough."""
    mb = retention.MB
    items = [
        item(n, name, days=10.0 - n, size=mb, status=Status.CRASH)
        for n in range(3)
        for name in ("checkpoint.pt", "trainer.log")
    ]

    assert [] == gone(items, Retention(checkpoints=0, max_mb=6))
    assert [(0, "checkpoint.pt"), (1, "checkpoint.pt")] == gone(items, Retention(checkpoints=0, max_mb=4))
    assert [(0, "trainer.log")] == gone(items, Retention(checkpoints=0, max_mb=2))[3:]


def test_a_removal_is_recorded_and_the_record_is_intact(run: Path) -> None:
    """Verify knows what is gone; a second time nothing goes; sources and diffs stay."""
    later = datetime.now(UTC) + timedelta(days=40)
    policy = Retention(log_days=30, keep_logs_of=())
    with Journal.open(run) as journal:
        removals = retention.planned(journal, policy, later)
        retention.remove(journal, removals)
        assert [] == retention.planned(journal, policy, later)
        told = [(one.event.experiment_id, sorted(one.event.files)) for one in journal.events(FilesRemoved)]

    assert [(0, ["trainer.log"]), (1, ["trainer.log", "trial-2/trainer.log"]), (2, ["trainer.log"])] == told
    assert [run / "0003" / "trainer.log"] == list(run.rglob("trainer.log"))
    assert [] == list(find_damage(run))
    assert all((run / f"{n:04d}" / name).exists() for n in range(4) for name in ("train.py", "patch.diff", "reply.txt"))


def test_a_removal_cut_short_is_no_tampering_and_is_finished(run: Path) -> None:
    """Killed between the record and the file: intact before, and after it was done again. Another file is missed."""
    later = datetime.now(UTC) + timedelta(days=40)
    with Journal.open(run) as journal:
        journal.append(FilesRemoved(experiment_id=2, files={"trainer.log": "older than 30 days"}))
    assert [] == list(find_damage(run))
    with Journal.open(run) as journal:
        retention.remove(journal, retention.planned(journal, Retention(log_days=30), later))
    assert [] == list(find_damage(run))
    assert not (run / "0002" / "trainer.log").exists()

    (run / "0001" / "trainer.log").unlink()
    assert any("0001/trainer.log is missing" in finding for finding in find_damage(run))


def test_gc_says_what_would_go_and_then_removes_it(run: Path, tmp_path: Path) -> None:
    """A dry run changes no byte; a running session is left alone."""
    (tmp_path / "task.toml").write_text(
        (ROOT / "task.toml").read_text().replace("log_days = 30.0", "log_days = 0.0000001")
    )
    command = [sys.executable, "-m", "orchestrator", "prune", "--task", str(tmp_path), "--runs", str(run.parent)]

    def gc(*flags: str) -> str:
        return subprocess.run([*command, *flags], check=True, capture_output=True, text=True, cwd=ROOT).stdout

    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*") if path.is_file()}
    said = gc("--dry-run")
    assert before == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*") if path.is_file()}
    with Journal.open(run):
        assert "t: skipped, a session is running\n" == gc()
    done = gc()

    assert "t/0002/trainer.log: 0.0 MB, older than 1e-07 days\nt: 1 file, 0.0 MB would be removed\n" == said
    assert "t: 1 file, 0.0 MB removed" in done
    assert [] == list(find_damage(run))
    assert json.loads((run / "record.jsonl").read_text().splitlines()[-1])["kind"] == "files.removed"
