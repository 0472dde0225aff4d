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
    "AUTORESEARCH_PROFILE__CPU__TIME_BUDGET_S": "16", "AUTORESEARCH_CONTENTION__MAX_EXTRA_WAIT_SHARE": "1",
}  # fmt: skip
PASSED_ON = ("DOCKER_HOST", "HOME", "AUTORESEARCH_NOISE__RULE")


def test_a_wheel_is_all_that_a_loop_needs(tmp_path: Path) -> None:
    """Data is made, the baseline and an experiment are scored, and the report is written; nothing else was typed."""
    programs = install_wheel(build_wheel(tmp_path), tmp_path / "venv")
    mine = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment = {**mine, **SHORT, "PATH": f"{programs}:{os.environ['PATH']}"}
    (folder := tmp_path / "empty").mkdir()
    typed = "autoresearch new mytask && cd mytask && autoresearch loop --experiments 1 && autoresearch report"
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
    assert 2 == len(experiments)
    assert ["L2", "L2"] == [one["score"]["level"] for one in experiments]
    assert all(1.0 < one["val_bpb"] < 6.0 for one in experiments)
    assert "next: autoresearch report --run " in done.stdout
    report = Path(done.stdout.rpartition("report: ")[2].strip())
    assert "<html" in (folder / "mytask" / report).read_text()
