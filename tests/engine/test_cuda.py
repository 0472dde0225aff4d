"""A GPU that torch cannot use in a container is said before the first experiment, and never the processor instead."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from docker.errors import APIError

from attacks.walls.own_engine import own_engine
from orchestrator import compose, preflight
from orchestrator.config import load
from orchestrator.devices.gpu import Device
from orchestrator.devices.lease import Lease
from orchestrator.errors import ConfigError, LeaseUnavailable, SandboxError
from orchestrator.walls import engine, gpu_check
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext
from tests.support.boxes import ENVIRONMENT, ROOT, Boxes
from tests.walls.test_gpu_engine import hook, load_image  # noqa: F401  # a fixture

UUID = "GPU-5f3d2c1b-0000-4000-8000-0123456789ab"
CDI = "failed to discover GPU vendor from CDI: no known GPU vendor found"
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[ExecutionContext]:
    """The cpu profile's, with the containers of a run of its own."""
    made = compose.build_execution_context(load(ROOT, {"tag": "cuda", "runs": tmp_path}), engine)
    yield made
    assert [] == list((ROOT / "build").glob(".cuda-*"))


def device(**changes: str) -> Device:
    """A GPU, or a MIG instance."""
    known = Device(uuid=UUID, name="H100", memory_bytes=1, pci=Path("/sys"), driver="580", power_limit_w=None)
    return replace(known, **changes)  # type: ignore[arg-type]


def test_torch_that_sees_no_gpu_stops_the_session(place: ExecutionContext) -> None:
    """With torch's own reason and the fix, in one line."""
    with pytest.raises(LeaseUnavailable, match=r"torch in a container cannot use .*AssertionError.* driver") as caught:
        gpu_check.check_gpu(place)

    assert 1 == len(str(caught.value).splitlines())


def test_an_engine_that_hands_out_no_gpu_is_found_before_the_first_experiment(place: ExecutionContext) -> None:
    """Not by three of them that fail."""
    with pytest.raises(SandboxError, match="NVIDIA Container Toolkit"):
        compose.build_leased_context(place.config, place.engine, Lease(name=UUID, hardware="H100", device=device()))


def test_a_gpu_that_works_lets_the_session_begin(place: ExecutionContext, hook: Path) -> None:  # noqa: F811  # the fixture
    """Our program ran on it and ended well."""
    with own_engine(hook) as address, closing(Engine.connect(address)) as engine:
        gpu_check.check_gpu(replace(place, engine=engine, image_id=load_image(address, hook), gpu_uuid=UUID))
        asked = (hook / "asked").read_text()

    assert f"NVIDIA_VISIBLE_DEVICES={UUID}" in asked


@pytest.mark.parametrize("said", ["could not select device driver with capabilities: [[gpu]]", CDI])
def test_engines_of_every_age_without_nvidia_support_get_the_mend(said: str) -> None:
    """Each has words of its own for it."""
    with pytest.raises(SandboxError, match="install the NVIDIA Container Toolkit"), engine._translated("start"):
        raise APIError(said)


def test_podman_and_gvisors_mig_are_refused_in_plain_words(place: ExecutionContext, tmp_path: Path) -> None:
    """Podman ignores a request for a GPU, gVisor knows no MIG instance."""
    config = load(ROOT, {"tag": "cuda", "runs": tmp_path, "profile_name": "gpu"})
    part = Lease(name="MIG-1", hardware="H100", device=device(uuid="MIG-1", parent=UUID))
    with pytest.raises(ConfigError, match="Podman cannot pass a single GPU to a container"):
        preflight.require_gpu_support(config, Engine(place.engine._api, {"engine": "podman 5.2"}))
    there = Engine(place.engine._api, {**place.engine.describe(), "default_runtime": "runsc"})
    with pytest.raises(ConfigError, match="gVisor does not support: exclude"):
        compose.build_leased_context(place.config, there, part)


def test_a_program_of_the_gpu_profile_never_falls_back_to_the_processor(boxes: Boxes) -> None:
    """Whoever starts it: it ends with one line that names the reason."""
    environment = {**ENVIRONMENT, "AUTORESEARCH_PROFILE": "gpu"}
    ended = boxes.run("import prepare\nprint('on', prepare.device())", environment=environment)

    assert 1 == ended.exit_code
    assert "error: AUTORESEARCH_PROFILE=gpu, but torch cannot use a GPU here (Torch not compiled" in ended.log_tail
    assert "on cpu" not in ended.log_tail
