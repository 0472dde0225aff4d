"""An engine that is killed or shut down in mid-run: `infra`, never a result, and its container dies all the same."""

import io
import os
import signal
import subprocess
import tarfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from attacks.walls.own_engine import own_engine
from orchestrator.errors import SandboxError
from orchestrator.execution.experiment import failure_of
from orchestrator.types import Role, Status
from orchestrator.units import MIB
from orchestrator.walls.container import RunningContainer, start
from orchestrator.walls.engine import Engine
from orchestrator.walls.spec import ContainerSpec, Resources

# the SDK leaves the sockets of its attached streams to the garbage collector
ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.engine, ignored]
SLEEPS = "#include <unistd.h>\nint main(void) { sleep(60); return 0; }\n"


def test_an_engine_that_dies_is_our_failure(tmp_path: Path, seccomp: str, unique: str) -> None:
    """Waiting raises SandboxError, from which the loop makes `infra`; nothing is taken for the container's end."""
    with own_engine() as address, closing(Engine.connect(address)) as engine:
        spec = sleeper(load_image(address, tmp_path), seccomp, unique)
        running = start(engine, spec, deadline_s=40.0, folder=tmp_path)
        state = engine.inspect(running.id)["State"]
        pid = int((Path(address.removeprefix("unix://")).parent / "pid").read_text())
        threading.Timer(0.5, kill, (pid,)).start()
        began = time.monotonic()
        with pytest.raises(SandboxError) as failure:
            running.wait()
        waited = time.monotonic() - began
        abandon(running)
        shim = parent_of(state["Pid"])
        kill(state["Pid"])
        kill(shim)  # it waits for an engine that never comes back

    assert state["Running"]
    assert waited < 30
    assert "engine" in str(failure.value)


def test_an_engine_that_is_shut_down_is_our_failure(tmp_path: Path, seccomp: str, unique: str) -> None:
    """SIGTERM, as a service manager sends it: the engine kills what runs, and may still say so before it goes."""
    with own_engine() as address, closing(Engine.connect(address)) as engine:
        running = start(
            engine, sleeper(load_image(address, tmp_path), seccomp, unique), deadline_s=40.0, folder=tmp_path
        )
        os.kill(int((Path(address.removeprefix("unix://")).parent / "pid").read_text()), signal.SIGTERM)
        try:
            failure = failure_of(running.wait())
        except SandboxError:
            failure = Status.INFRA
        abandon(running)

    assert Status.INFRA is failure


def parent_of(pid: int) -> int:
    """Who started a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def kill(pid: int) -> None:
    """SIGKILL."""
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], check=False)


def abandon(running: RunningContainer) -> None:
    """End its threads, although there is no engine to remove it from."""
    with suppress(SandboxError):
        running.close()


def load_image(address: str, folder: Path, source: str = SLEEPS) -> str:
    """An image of one static program, under the name that every container of ours starts."""
    (folder / "program.c").write_text(source)
    subprocess.run(["gcc", "-static", "-o", str(folder / "python3"), str(folder / "program.c")], check=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder / "python3", "usr/bin/python3")
    command = ["docker", "-H", address, "import", "-"]
    return subprocess.run(command, input=archive.getvalue(), capture_output=True, check=True).stdout.decode().strip()


def sleeper(image_id: str, seccomp: str, name: str) -> ContainerSpec:
    """A trainer with nothing mounted."""
    small = Resources(memory=64 * MIB, cpus=1.0, pids=16, tmp=MIB, cache=MIB, shm=MIB)
    return ContainerSpec(
        role=Role.TRAINER, name=name, image_id=image_id, program=("nothing",), hard_limit_s=60.0, mounts=(),
        resources=small, environment={"PATH": "/usr/bin"}, labels={"autoresearch": "1"}, seccomp=seccomp,
    )  # fmt: skip
