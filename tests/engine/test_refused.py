"""What is wrong before the first experiment is said then: where it stands, the value, the fix; nothing is made."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from orchestrator import compose
from orchestrator.config import load
from orchestrator.errors import ConfigError, EngineUnavailable, SpecRefused
from orchestrator.record.journal import Journal
from orchestrator.walls.container import start
from orchestrator.walls.engine import Engine
from orchestrator.walls.seccomp import read_profile
from orchestrator.walls.spec import ContainerSpec
from tests.support.boxes import ROOT, Boxes

pytestmark = pytest.mark.engine
NOBODY = 65534


@pytest.mark.parametrize("runtime", ["", "runsc"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", r"in JSON \(.*line 1"),
        ("[]", "in JSON"),
        ("{}", "defaultAction"),
        ('{"defaultAction": "SCMP_ACT_ALLOW"}', "defaultAction"),
        ('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}', "names"),
        ('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {"names": []}}', "syscalls"),
    ],
)
def test_a_broken_profile_is_named(tmp_path: Path, text: str, says: str, runtime: str) -> None:
    """The file, what it must be, and the fix, whichever runtime reads it."""
    (path := tmp_path / "seccomp.json").write_text(text)

    with pytest.raises(ConfigError, match=rf"{path}: it must be .*{says}.*; restore it"):
        read_profile(path, runtime)


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Because it is not there, or is no text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "nowhere", tmp_path / "binary"):
        with pytest.raises(ConfigError, match=rf"{path}: cannot be read: .*; restore it"):
            read_profile(path, "")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"profile.cpu.cpus": 1e-10}, r"resources.cpus = 1e-10 .*0.01 or more: fix task.toml \[profile.cpu\]"),
        ({"profile.cpu.memory_gb": 1e-12}, r"resources.memory = 0 .*: fix task.toml \[profile.cpu\]"),
        ({"runs": Path("/etc/runs")}, r"mounts = '/etc/runs/.* the option"),
    ],
)
def test_a_weak_box_is_refused_before_anything_is_made(engine: Engine, flags: dict[str, Any], says: str) -> None:
    """By the field, and where it was set."""
    config = load(ROOT, {"tag": "t", "runs": Path("/tmp/runs"), **flags})

    with pytest.raises(ConfigError, match=says):
        compose.build_execution_context(config, engine)


def test_a_loop_that_is_refused_begins_nothing(tmp_path: Path) -> None:
    """One line, a non-zero exit, no experiment in the record."""
    where = ["--task", str(ROOT), "--run", "refused", "--runs", str(tmp_path), "--experiments", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "loop", *where], capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "AUTORESEARCH_PROFILE__CPU__CPUS": "1e-10"},
    )  # fmt: skip
    with Journal.open(tmp_path / "refused") as journal:
        experiments = journal.experiments()

    assert (1, []) == (done.returncode, list(experiments)), done.stdout + done.stderr
    assert "container spec: resources.cpus = 1e-10 weakens a wall" in done.stderr


def test_a_runtime_that_the_engine_does_not_know_is_named(engine: Engine, tmp_path: Path) -> None:
    """With those that it knows."""
    with pytest.raises(SpecRefused, match=r"--runtime nowhere: unknown runtime; available: .*runc.*\. Register it in"):
        compose.build_execution_context(load(ROOT, {"tag": "t", "runs": tmp_path, "runtime": "nowhere"}), engine)


def test_an_image_that_declares_volumes_is_refused(engine: Engine, unique: str) -> None:
    """They would be writable."""
    subprocess.run(["docker", "build", "-q", "-t", unique, "-"], input=b"FROM scratch\nVOLUME /a\n", check=True)
    try:
        with pytest.raises(SpecRefused, match=f"image {unique} declares volumes.*build it without VOLUME"):
            engine.image_id(unique)
    finally:
        engine._api.remove_image(unique)


def test_a_capability_that_is_added_on_the_way_is_refused(engine: Engine, boxes: Boxes) -> None:
    """As by a plugin or a proxy in front of the engine: it makes the container, which never starts."""
    spec = boxes.spec("print('ran')")

    with pytest.raises(SpecRefused, match=r"HostConfig.CapAdd: asked None, is \['(CAP_)?NET_RAW'\]"):
        start(AddingEngine(engine._api, engine.describe()), spec, deadline_s=5, folder=boxes.folder)
    assert not (boxes.folder / "trainer.log").exists()
    assert spec.name not in str(engine._api.containers(all=True))


def test_a_socket_that_one_may_not_use_is_no_missing_engine() -> None:
    """To start another engine would not help."""
    with (
        socket_of_another() as path,
        pytest.raises(EngineUnavailable, match=r"may not use .*docker.*rootless") as found,
    ):
        Engine.connect(f"unix://{path}")
    assert "start-engine" not in str(found.value)


def test_swap_that_cannot_be_limited_is_named_and_may_be_accepted(
    image_id: str, seccomp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker would drop the limit without a word, and each read-back refuse what it made."""
    info = docker.APIClient.info
    monkeypatch.setattr(docker.APIClient, "info", lambda api: {**info(api), "SwapLimit": False})
    with closing(Engine.connect()) as engine:
        with pytest.raises(ConfigError, match=r"cannot limit swap.*swapaccount=1.*--accept-risk limits"):
            compose.build_execution_context(load(ROOT, {"tag": "t", "runs": tmp_path}), engine)
        compose.build_execution_context(load(ROOT, {"tag": "t", "runs": tmp_path, "accept_risk": ("limits",)}), engine)
        result = Boxes(engine=engine, image_id=image_id, seccomp=seccomp, folder=tmp_path).run("print('ran')")

    assert "ran" == result.log_tail.strip()
    assert -1 == json.loads((tmp_path / "trainer.created.json").read_text())["HostConfig"]["MemorySwap"]


class AddingEngine(Engine):
    """One that is asked for more than it was."""

    def _create(self, spec: ContainerSpec, config: dict[str, Any], folder: Path) -> str:
        more = {**config, "HostConfig": {**config["HostConfig"], "CapAdd": ["NET_RAW"]}}
        return super()._create(spec, more, folder)


@contextmanager
def socket_of_another() -> Iterator[Path]:
    """A listening socket that this process may not open, for as long."""
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    try:
        folder.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "socket"))
            (folder / "socket").chmod(0)
            server.listen()
            if user == 0:  # whom no mode stops
                os.seteuid(NOBODY)
            yield folder / "socket"
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)
