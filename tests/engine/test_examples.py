"""Another task than language models, on the same loop: its own data, harness, scorer and metric, in real containers."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.record.journal import Journal
from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


def autoresearch(task: Path, command: str, *flags: str) -> str:
    """Everything that a command prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUTORESEARCH_CONTENTION__MAX_EXTRA_WAIT_SHARE": "1"}
    environment.pop("ANTHROPIC_API_KEY", None)
    whole = [sys.executable, "-m", "orchestrator", command, "--task", str(task), *flags]
    done = subprocess.run(whole, env=environment, cwd=task, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_a_task_that_is_no_language_model_runs_on_the_same_loop(tmp_path: Path, unique: str) -> None:
    """It prepares data of its own, learns, is scored by its own scorer at L2 under its own name, and is verifiable."""
    task = tmp_path / "code-size"
    shutil.copytree(ROOT / "examples" / "code-size", task)
    text = (task / "task.toml").read_text()
    (task / "task.toml").write_text(re.sub(r"time_budget_s = .*", "time_budget_s = 6.0", text))
    (task / "locked" / "make_data.py").write_text(
        (task / "locked" / "make_data.py").read_text().replace("30_000", "3_000")
    )
    try:
        autoresearch(task, "prepare-data")
        autoresearch(task, "loop", "--run", unique, "--experiments", "1", "--proposer", "sweep")
    finally:
        Engine.connect().reap()
    found = json.loads(autoresearch(task, "status", "--run", unique, "--json"))["experiments"]

    assert 2 == len(found)
    assert all(0.05 < e["val_rmse"] < 0.6 and "L2" == e["score"]["level"] for e in found)
    assert all(e["score"]["audited_positions"] >= 256 for e in found)
    assert re.search(r"best: 0\.\d+ (± \S+ )?val_rmse", autoresearch(task, "status", "--run", unique))
    assert f"{unique}: intact" in autoresearch(task, "verify", "--run", unique)
    with Journal.read(task / "runs" / unique) as journal:
        assert "val_rmse" == journal.metric()


def run_drafts(task: Path, tag: str, *drafts: str) -> list[dict[str, object]]:
    """The experiments of a loop over some of an example's drafts, on a copy of it; its record is intact."""
    shutil.copytree(ROOT / "examples" / task.name, task)
    for path in (task / "drafts").iterdir():
        if not path.name.startswith(drafts):
            path.unlink()
    try:
        autoresearch(task, "loop", "--run", tag, "--experiments", str(len(drafts)), "--proposer", "drafts")
    finally:
        Engine.connect().reap()
    found = json.loads(autoresearch(task, "status", "--run", tag, "--json"))["experiments"]

    assert f"{tag}: intact" in autoresearch(task, "verify", "--run", tag)
    return list(found)


def test_a_post_is_kept_or_refused_by_name(tmp_path: Path, unique: str) -> None:
    """No program of a proposer runs; a draft that copies a kept post is a copy beside the archive in the container."""
    found = run_drafts(tmp_path / "drift", unique, "01", "02", "10")

    assert ["keep", "keep", "discard", "cheat"] == [e["status"] for e in found]
    assert all(e["post_score"] >= 70 for e in found[:2])  # type: ignore[operator]


def test_a_faster_routine_is_kept_and_a_wrong_one_is_not(tmp_path: Path, unique: str) -> None:
    """A product of matrices is many times faster; single precision gets no time at all."""
    found = run_drafts(tmp_path / "kernel", unique, "02", "05")

    assert ["keep", "crash", "keep"] == [e["status"] for e in found]
    assert found[2]["time_ratio"] < 0.5 < found[0]["time_ratio"]  # type: ignore[operator]
