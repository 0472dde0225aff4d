"""`make test-gpu` without containers, tried on the cpu profile: the same programs as processes, and a score."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.boxes import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_the_direct_way_trains_and_scores(image_id: str, tmp_path: Path) -> None:
    """In the image, as that is where torch is; its predictors wait before the training, as the loop's do."""
    for name in ("benchmarks", "locked", "mutable", "orchestrator"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", tmp_path)
    shutil.copytree(ROOT / "data" / "cpu-python", tmp_path / "data" / "cpu-python")
    where = [f"--volume={tmp_path}:/repo", "--workdir=/repo", f"--user={os.getuid()}:{os.getgid()}"]
    check = ["python3", "-B", "-m", "benchmarks.gpu", "--profile", "cpu", "--seconds", "15"]

    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", *where, image_id, *check],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip

    assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
    figures, line = done.stdout.splitlines()[-2:]
    assert "L2" == json.loads(figures)["level"]
    assert 1.5 < json.loads(figures)["val_bpb"] < 6.0
    assert line.startswith("test-gpu: no GPU, the cpu profile")
