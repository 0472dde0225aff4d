"""The wheel alone, in an empty environment and an empty folder: a task, and a loop in it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.types import Status
from tests.support.wheels import build_wheel, install_wheel

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
SHORT = {  # a budget of seconds, and whoever else is busy on the machine that tests
    "AUTORESEARCH_PROFILE__CPU__TIME_BUDGET_S": "16", "AUTORESEARCH_CONTENTION__MAX_FOREIGN_CPU_SHARE": "9.9",
}  # fmt: skip
PASSED_ON = ("DOCKER_HOST", "HOME", "AUTORESEARCH_NOISE__BASELINE_RUNS")


def test_a_wheel_is_all_that_a_loop_needs(tmp_path: Path) -> None:
    """`autoresearch new mytask && cd mytask && autoresearch loop --experiments 1`: data made, a baseline scored."""
    programs = install_wheel(build_wheel(tmp_path), tmp_path / "venv")
    mine = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment = {**mine, **SHORT, "PATH": f"{programs}:{os.environ['PATH']}"}
    (folder := tmp_path / "empty").mkdir()
    typed = "autoresearch new mytask && cd mytask && autoresearch loop --experiments 1"
    done = subprocess.run(
        ["bash", "-c", typed], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    told = subprocess.run(
        ["autoresearch", "status", "--json"], cwd=folder / "mytask", env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    used = [str(programs / "python"), "-c", "import orchestrator; print(orchestrator.__file__)"]
    package = subprocess.run(used, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    experiments = json.loads(told.stdout)["experiments"]

    assert package.startswith(f"{tmp_path}/venv/lib/")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "no document is on two sides" in done.stderr
    assert Status.KEEP == experiments[0]["status"]
    assert "L2" == experiments[0]["score"]["level"]
    assert 1.0 < experiments[0]["val_bpb"] < 6.0
    assert "experiment 0" in done.stdout
