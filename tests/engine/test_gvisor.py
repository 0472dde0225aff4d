"""The gVisor half of `make test-tiers`, shorter: the contract, attacks on kernel and network, and a whole scoring."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.walls.gvisor import IMAGE, environment, own_gvisor
from attacks.walls.own_engine import load
from attacks.walls.tiers import OTHERWISE
from tests.engine.test_session import ends, loop, status, task

__all__ = ["task"]
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
SLOWLY = {"TIME_BUDGET_S": "30", "SCORE_BUDGET_S": "200"}  # a system call costs several times what it does on runc


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An engine that knows gVisor, and has the image."""
    with own_gvisor() as address:
        load(address, IMAGE)
        yield address


def test_the_walls_stand_on_gvisor(address: str) -> None:
    """The same contract as on runc, and attacks by the same probes."""
    command = [sys.executable, "-m", "attacks.walls.gvisor", "kernel", "network, IPC"]
    done = subprocess.run(command, cwd=ROOT, env=environment(address), check=False, text=True, capture_output=True)

    assert 0 == done.returncode, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(rf"^\d\d passed, {len(OTHERWISE['runsc'])} deselected", done.stdout, re.MULTILINE)
    blocked = re.search(r"^probes: (\d+) blocked, 0 allowed, 0 void$", done.stdout, re.MULTILINE)
    assert blocked and int(blocked[1]) > 90


def test_a_baseline_is_scored_on_gvisor(address: str, task: Path, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims, then their audit: frames reach the predictors and come back; the night is over after the baseline."""
    for name, value in environment(address).items():
        monkeypatch.setenv(name, value)
    for name, value in SLOWLY.items():
        monkeypatch.setenv(f"AUTORESEARCH_PROFILE__CPU__{name}", value)
    printed = ends(loop(task, unique, "--runtime", "runsc", "--hours", "0.001"), timeout_s=600)
    baseline = status(task, unique)["experiments"][0]

    assert "L2" == baseline["score"]["level"], printed
    assert 0.5 < baseline["val_bpb"] < 9.0
