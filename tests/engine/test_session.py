"""The main job, as a user types it: real engine, real training on real text, short budgets."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.record.journal import Journal
from orchestrator.types import Status
from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[2]
BUDGET_S = 8.0
pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@pytest.fixture
def task(tmp_path: Path, unique: str) -> Iterator[Path]:
    """A task directory of its own with a budget of a few seconds; the prepared data is shared."""
    for name in ("locked", "mutable"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("task.toml", "program.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "data").symlink_to(ROOT / "data")
    text = (tmp_path / "task.toml").read_text()
    quick = {r"time_budget_s = 25\.0": f"time_budget_s = {BUDGET_S}", r"rule = \"estimate\"": 'rule = "lowest"'}
    others = "max_extra_wait_share = "
    quick[rf"{others}0\.25"] = f"{others}1.0"  # whoever else is busy on the machine that tests
    for pattern, value in quick.items():
        text = re.sub(pattern, value, text, count=1)
    (tmp_path / "task.toml").write_text(text)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    yield tmp_path
    Engine.connect().reap()


def loop(task: Path, unique: str, *flags: str, rule: str = "lowest") -> "subprocess.Popen[str]":
    """`autoresearch loop` in that task directory."""
    command = [sys.executable, "-m", "orchestrator", "loop", "--task", str(task), "--run", unique, *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECRET_CANARY": "kept-on-the-host"}
    environment["AUTORESEARCH_NOISE__RULE"] = rule
    environment.pop("ANTHROPIC_API_KEY", None)
    return subprocess.Popen(
        command, env=environment, cwd=task, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ends(process: "subprocess.Popen[str]", expected: int = 0, timeout_s: float = 200) -> str:
    """Everything it printed, once it has ended as it should."""
    output, _ = process.communicate(timeout=timeout_s)

    assert expected == process.returncode, output
    return output


def containers(unique: str) -> list[str]:
    """Names of the containers of a run that are still there."""
    command = ["docker", "ps", "-a", "--filter", f"label=autoresearch.run={unique}", "--format", "{{.Names}}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def running(unique: str, role: str) -> None:
    """Wait until a container of that role is up."""
    until = time.monotonic() + 60
    while not any(name.endswith(role) for name in containers(unique)):
        assert time.monotonic() < until, f"no {role} came up"
        time.sleep(0.1)


def status(task: Path, unique: str) -> dict[str, Any]:
    """`autoresearch status --json`."""
    command = [sys.executable, "-m", "orchestrator", "status", "--task", str(task), "--run", unique, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_baseline_and_an_experiment_end_on_record(task: Path, unique: str) -> None:
    """Real scores at L2, every container gone, nothing of the host's environment in the record, the record intact."""
    ends(loop(task, unique, "--experiments", "1", "--proposer", "sweep", rule="lowest"))
    found = status(task, unique)

    assert 2 == len(found["experiments"])
    assert all(0.5 < e["val_bpb"] < 8.0 and e["score"]["level"] == "L2" for e in found["experiments"])
    assert [] == containers(unique)
    assert not any(b"kept-on-the-host" in path.read_bytes() for path in (task / "runs").rglob("*") if path.is_file())
    where = ("--task", str(task), "--run", unique)
    subprocess.run([sys.executable, "-m", "orchestrator", "verify", *where], check=True, cwd=ROOT)
    copy = ("--out", str(task / "copy.pt"))
    subprocess.run([sys.executable, "-m", "orchestrator", "export", "0", *copy, *where], check=True, cwd=ROOT)
    assert (task / "copy.pt").read_bytes()[:2] == b"PK"  # as torch writes it; never opened here


def test_a_printed_score_is_never_believed(task: Path, unique: str) -> None:
    """A train.py that prints `val_bpb: 0.1`, whenever and wherever, is kept at its true score."""
    path = task / "mutable" / "train.py"
    lie = 'import atexit\natexit.register(print, "---\\nval_bpb: 0.100000\\nlevel: L2\\naudited_positions: 99999")\n'
    path.write_text(path.read_text().replace("import math\n", f"import math\n{lie}", 1))
    ends(loop(task, unique, "--experiments", "0", "--hours", "0.001", "--proposer", "sweep"))
    found = status(task, unique)

    assert 0.5 < found["experiments"][0]["val_bpb"] < 8.0
    log = (task / "runs" / unique / "0000" / "trainer.log").read_text()
    assert "val_bpb: 0.100000" in log


def test_a_killed_session_goes_on_where_it_was(task: Path, unique: str) -> None:
    """Kill -9 in mid-training: the next start reaps the orphans, closes the record and runs it again."""
    process = loop(task, unique, "--experiments", "1", "--proposer", "sweep")
    running(unique, "-trainer")
    process.kill()
    process.communicate()
    assert containers(unique)

    ends(loop(task, unique, "--experiments", "1", "--proposer", "sweep"))
    found = [(e["id"], e["status"], e["attempt"]) for e in status(task, unique)["experiments"]]

    where = ("--task", str(task), "--run", unique)
    subprocess.run([sys.executable, "-m", "orchestrator", "verify", *where], check=True, cwd=ROOT)
    assert (0, Status.INFRA, 1) == found[0]
    assert (1, Status.KEEP, 2) == found[1]
    assert 3 == len(found)
    assert [] == containers(unique)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_it_cleanly_at_once(task: Path, unique: str, number: signal.Signals) -> None:
    """The container dies, the record is closed, the exit is quick."""
    process = loop(task, unique, "--experiments", "1", "--proposer", "sweep")
    running(unique, "-trainer")
    began = time.monotonic()
    process.send_signal(number)
    output = ends(process)

    assert time.monotonic() - began < 15
    assert "interrupted" in output
    assert [] == containers(unique)
    with Journal.read(task / "runs" / unique) as journal:
        assert [] == journal.unfinished()


def test_what_is_wrong_is_said_in_one_line(task: Path, unique: str) -> None:
    """A train.py that does not parse, an unknown key: the file, the value, the fix; nothing half-written."""
    path = task / "mutable" / "train.py"
    whole = path.read_text()
    path.write_text("def load_model(:\n")
    assert "train.py" in ends(loop(task, unique, "--experiments", "1"), 1)
    path.write_text(whole)
    toml = task / "task.toml"
    toml.write_text(toml.read_text() + "\n[limits.more]\nspeed = 1\n")
    output = ends(loop(task, unique, "--experiments", "1"), 1)

    assert "unknown key" in output
    assert "Traceback" not in output
