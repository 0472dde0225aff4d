"""The path of a GPU request through a real engine, with a stand-in for NVIDIA's hook."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from attacks.walls.own_engine import own_engine
from orchestrator.errors import SandboxError
from orchestrator.types import ExecutionResult, Role
from orchestrator.walls.container import start
from orchestrator.walls.engine import Engine
from orchestrator.walls.spec import ContainerSpec, Resources

FAKE = Path(__file__).parents[1] / "fake_hook"
UUID = "GPU-5f3d2c1b-0000-4000-8000-0123456789ab"
MIB = 1 << 20
# the SDK leaves the sockets of its attached streams to the garbage collector
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the hook, which writes what it was asked beside itself."""
    folder = tmp_path_factory.mktemp("hook")
    shutil.copy(FAKE / "nvidia-container-runtime-hook", folder)
    return folder


@pytest.fixture(scope="module")
def engine(hook: Path) -> Iterator[tuple[Engine, str]]:
    """An engine that found the hook when it started, and the id of an image that prints its environment."""
    with own_engine(hook) as address, closing(Engine.connect(address)) as engine:
        yield engine, load_image(address, hook)


def load_image(address: str, folder: Path) -> str:
    """An image of one static program, under the name that every container of ours starts."""
    program = folder / "python3"
    subprocess.run(["gcc", "-static", "-O1", "-o", str(program), str(FAKE / "python3.c")], check=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(program, "usr/bin/python3")
    program.unlink()
    done = subprocess.run(
        ["docker", "-H", address, "import", "-"], input=archive.getvalue(), capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def spec(image_id: str) -> ContainerSpec:
    """A trainer with the smallest limits and nothing mounted."""
    return ContainerSpec(
        role=Role.TRAINER,
        name="gpu-request",
        image_id=image_id,
        program=("python3",),
        hard_limit_s=30,
        mounts=(),
        resources=Resources(memory=64 * MIB, cpus=0.5, pids=16, tmp=MIB, cache=MIB, shm=MIB),
        environment={"PATH": "/usr/bin"},
        labels={"autoresearch": "1"},
        seccomp=(FAKE.parent.parent / "sandbox" / "seccomp.json").read_text(),
    )


def run(engine: Engine, asked: ContainerSpec, folder: Path) -> ExecutionResult:
    """Start it and wait for its end."""
    with start(engine, asked, deadline_s=20, folder=folder) as running:
        return running.wait()


def test_only_the_leased_gpu_is_asked_for(engine: tuple[Engine, str], hook: Path, tmp_path: Path) -> None:
    """By UUID, for compute and utility: neither graphics nor video, and no other GPU."""
    result = run(engine[0], replace(spec(engine[1]), gpu_uuid=UUID), tmp_path)
    asked = (hook / "asked").read_text().split("\n")

    assert 0 == result.exit_code
    assert "called prestart" in asked
    assert f"NVIDIA_VISIBLE_DEVICES={UUID}" in asked
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in asked
    assert f"NVIDIA_VISIBLE_DEVICES={UUID}" in result.log_tail


def test_a_container_without_a_lease_gets_no_gpu(engine: tuple[Engine, str], hook: Path, tmp_path: Path) -> None:
    """The scorer, and everything on the cpu profile: the hook is not even called."""
    (hook / "asked").unlink(missing_ok=True)
    result = run(engine[0], spec(engine[1]), tmp_path)

    assert 0 == result.exit_code
    assert "NVIDIA" not in result.log_tail
    assert not (hook / "asked").exists()


def test_an_engine_without_nvidia_support_says_so(tmp_path: Path) -> None:
    """On a machine with a GPU: one line that names what to install."""
    with own_engine() as address, closing(Engine.connect(address)) as engine:
        image_id = load_image(address, tmp_path)
        with pytest.raises(SandboxError, match="NVIDIA Container Toolkit") as caught:
            run(engine, replace(spec(image_id), gpu_uuid=UUID), tmp_path)

    assert 1 == len(str(caught.value).splitlines())
