"""What a machine and a new task are set up with: from a checkout, and from a wheel."""

import os
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import compose, preflight
from orchestrator.cli import app
from orchestrator.config import load
from orchestrator.errors import EngineUnavailable, SandboxError
from orchestrator.host import image
from orchestrator.shipped import SANDBOX, SHIPPED
from orchestrator.types import Stages
from orchestrator.walls import locked_files
from tests.support.wheels import build_wheel

ROOT = Path(__file__).parents[1]
FAILS = """#!/usr/bin/env bash
echo "image: building"
echo "the compiler's own words" >&2
echo "image: building failed; the whole output is in $2" >&2
exit 1
"""

DOCKER = """#!/usr/bin/env bash
case "$1 $*" in
    image*autoresearch-sandbox:*) cat "$FAKE_ENGINE/recipe" ;;
    image*) echo here ;;
    run*version_info*) echo 3.11 ;;
    run*) ;;
    build*)
        echo "$*" >>"$FAKE_ENGINE/builds"
        echo "Step 2/9 : RUN classic"
        echo "#5 [library 2/4] RUN buildkit $BUILDKIT_PROGRESS" >&2
        echo "#6 sha256:0 done" >&2
        grep -o 'RECIPE=[0-9a-f]*' <<<"$*" | cut -d= -f2 >"$FAKE_ENGINE/recipe"
        (cd "${!#}" && find . -type f) >"$FAKE_ENGINE/context"
        ;;
    *) exit 9 ;;
esac
"""
PIP = """#!/usr/bin/env bash
while [ "$1" != --dest ]; do shift; done
mkdir -p "$2" && touch "$2/torch.whl" && echo Collecting torch==2
"""


def test_a_new_task_is_whole_and_says_what_to_type_next(tmp_path: Path) -> None:
    """The shipped task's files, and no trace of a run; it is loaded as any task."""
    folder = tmp_path / "mine" / "task"
    done = CliRunner().invoke(app, ["new", str(folder)])
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert 0 == done.exit_code, done.output
    assert {"task.toml", "program.md", "mutable/train.py", "reference_models/base.py", ".gitignore"} <= made
    assert {f"locked/{name}" for name in locked_files.WANTED[Stages.TRAIN]} <= made
    assert not [name for name in made if "__pycache__" in name or name.startswith(("runs/", "data/", "build/"))]
    assert (SHIPPED / "mutable" / "train.py").read_text() == (folder / "mutable" / "train.py").read_text()
    assert "language-model" == load(folder, {"tag": "t", "runs": folder / "runs"}).task.name
    assert f"next: cd {folder} && autoresearch loop" in done.output


@pytest.mark.parametrize("spoil", ["a folder in use", "a file"])
def test_a_new_task_overwrites_nothing(tmp_path: Path, spoil: str) -> None:
    """Whatever is there stays; an empty folder is fine."""
    folder = tmp_path / "task"
    if spoil == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    done = CliRunner().invoke(app, ["new", str(folder)])
    (tmp_path / "empty").mkdir()

    assert f"{folder}: exists and is not an empty folder; name another" == str(done.exception)
    assert ["mine"] == [path.read_text() for path in (folder, *tmp_path.glob("task/*")) if path.is_file()]
    assert 0 == CliRunner().invoke(app, ["new", str(tmp_path / "empty")]).exit_code


def test_a_script_that_fails_is_an_error_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it printed is shown, what it calls wrong is the message."""
    (tmp_path / "image.sh").write_text(FAILS)
    monkeypatch.setattr(image, "SANDBOX", tmp_path)
    lines: list[str] = []

    with pytest.raises(SandboxError, match=r"^image: building failed; the whole output is in /folder$"):
        image.build_image("cpu", Path("/folder"), lines.append)
    assert ["image: building", "the compiler's own words"] == lines


def test_the_image_is_built_from_what_it_needs_and_only_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wheels, their hashes and corpus.py, without a network; whatever else lies in the checkout is not sent."""
    for name, text in (("docker", DOCKER), ("pip", PIP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (corpus := tmp_path / "corpus.py").write_text("one")
    monkeypatch.setattr(image, "CORPUS", corpus)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_ENGINE", str(tmp_path))
    monkeypatch.setenv("PYTHON", str(tmp_path / "pip"))
    builds, lines = [], list[str]()
    for text in ("one", "one", "two"):
        corpus.write_text(text)
        image.build_image("cpu", tmp_path / "my (own) work", lines.append)
        builds.append((tmp_path / "builds").read_text().splitlines())

    assert [2, 2, 4] == [len(one) for one in builds]
    assert 4 == lines.count("image:   Step 2/9 : RUN classic")
    assert 4 == lines.count("image:   #5 [library 2/4] RUN buildkit plain")
    assert not [line for line in lines if "sha256" in line]
    assert ["library", "experiment"] == [line.split()[4] for line in builds[0]]
    assert all(f"--network none --target {line.split()[4]} " in line for line in builds[-1])
    assert all(f"--file {SANDBOX}/Dockerfile " in line for line in builds[-1])
    assert {"./corpus.py", "./requirements.txt", "./wheels/cpu/torch.whl"} == {
        *(tmp_path / "context").read_text().split()
    }
    assert not (tmp_path / "my (own) work" / "context").exists()


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_image_of_each_profile_reads_parquet(profile: str) -> None:
    """Pinned by hash, as all of it."""
    pinned = (SANDBOX / f"requirements-{profile}.txt").read_text(encoding="utf-8")

    assert "\npyarrow==" in pinned


def test_an_engine_that_does_not_answer_is_named_with_what_to_type(tmp_path: Path) -> None:
    """By the command line too, in one line."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "build-image"], cwd=tmp_path, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert (1, "") == (done.returncode, done.stdout)
    assert f"error: engine: DOCKER_HOST=unix://{tmp_path}/none.sock does not answer: start that engine" in done.stderr
    assert 1 == done.stderr.count("\n")


def test_the_wheel_has_what_a_checkout_has(tmp_path: Path) -> None:
    """The runtime of containers, the pages' templates, the sandbox, the task: byte for byte; none of its tests."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        shipped = {name: wheel.read(name) for name in wheel.namelist() if not name.startswith("autoresearch_sandbox-")}
    prefix = "orchestrator/shipped/"
    expected = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "orchestrator").rglob("*.*")}
    for folder in (SANDBOX, *(ROOT / name for name in ("locked", "mutable", "reference_models", "skeletons"))):
        expected |= {prefix + path.relative_to(ROOT).as_posix(): path for path in folder.rglob("*.*")}
    expected |= {prefix + name: ROOT / name for name in ("task.toml", "program.md", "gpu_day/shim/kernels.py")}
    expected |= {f"{prefix}sandbox/Dockerfile": SANDBOX / "Dockerfile"}
    files = {name: path.read_bytes() for name, path in expected.items() if path.is_file() and path.suffix != ".pyc"}

    assert files.keys() == shipped.keys()
    assert files == shipped


@pytest.mark.parametrize("answers", [True, False])
def test_what_is_missing_is_set_up_only_on_a_machine_that_experiments_can_run_on(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine, started only where none answers, then the checks, then the image and the data."""
    steps = list[str]()
    monkeypatch.setattr(compose, "start_engine", lambda _: steps.append("start"))
    monkeypatch.setattr(compose, "build_image", lambda *_: steps.append("image"))
    monkeypatch.setattr(compose, "prepare_data", lambda *_: steps.append("data"))
    monkeypatch.setattr(preflight, "check", lambda *_, machine_only: steps.append(f"check {machine_only}"))

    def connect() -> ExitStack:
        if not answers and "start" not in steps:
            raise EngineUnavailable("none answers")
        return ExitStack()  # which can be closed

    monkeypatch.setattr(compose.Engine, "connect", connect)
    compose.set_up(load(SHIPPED, {"tag": "t", "runs": tmp_path}), "python", print)

    assert [*([] if answers else ["start"]), "check True", "image", "data"] == steps
