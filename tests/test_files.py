"""Folders that go with their process."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from orchestrator.files import NEW_S, temporary_folder

HOLD = """
import sys
from orchestrator.files import temporary_folder
with temporary_folder("left-") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def age(folder: Path) -> None:
    """Make a folder older than one that may not be locked yet."""
    then = time.time() - NEW_S - 10
    os.utime(folder, (then, then))


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a living one holds stays, and so does what may be younger than its lock."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    living, dead, young = (Path(one.stdout.readline().strip()) for one in holders if one.stdout)
    (dead / "file").touch()
    (tmp_path / "left-file").touch()
    for holder in holders[1:]:
        holder.kill()
        holder.communicate()
    age(living)
    age(dead)
    with temporary_folder("left-") as mine:
        found = {path for path in tmp_path.iterdir() if path.is_dir()}
    holders[0].communicate("")

    assert {living, young, mine} == found
    assert {young, tmp_path / "left-file"} == set(tmp_path.iterdir())
