"""`make test-gpu` without containers, tried on the cpu profile: the same programs as processes, and a score."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.boxes import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is carried to a machine without an engine: the project's files and prepared data."""
    for name in ("gpu_day", "locked", "mutable", "orchestrator"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", tmp_path)
    shutil.copytree(ROOT / "data" / "cpu-python", tmp_path / "carried")
    return tmp_path


def checked(clone: Path, image_id: str, *words: str) -> tuple[dict[str, Any], str]:
    """Figures and last line; in the image, as that is where torch is."""
    where = [f"--volume={clone}:/repo", "--workdir=/repo", f"--user={os.getuid()}:{os.getgid()}"]
    check = ["python3", "-B", "-m", "gpu_day.check", "--profile", "cpu", "--data", "carried", *words]

    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", *where, image_id, *check],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip

    assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
    figures, line = done.stdout.splitlines()[-2:]
    return json.loads(figures), line


def test_the_direct_way_trains_and_scores(clone: Path, image_id: str) -> None:
    """On data that was brought along; its predictors wait before the training, as the loop's do."""
    figures, line = checked(clone, image_id, "--seconds", "25", "--small-audit")

    assert "L2" == figures["level"]
    assert 1.5 < figures["figures"]["val_bpb"] < 6.0
    assert line.startswith("test-gpu: no GPU, the cpu profile")
    assert "MFU unknown" in line
