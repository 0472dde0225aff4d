"""A short form of the rootless half of `make test-tiers`: the contract, and attacks on files, kernel and network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_the_walls_stand_on_rootless_podman() -> None:
    """The same contract as on Docker, and attacks by the same probes."""
    command = [sys.executable, "-m", "attacks.walls.rootless", "files", "kernel", "network, IPC"]
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=True)

    assert 0 == done.returncode, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"^\d\d passed, 4 deselected", done.stdout, re.MULTILINE)
    blocked = re.search(r"^probes: (\d+) blocked, 0 allowed, 0 void$", done.stdout, re.MULTILINE)
    assert blocked and int(blocked[1]) > 90
