"""The attacks on a GPU that go through NVML, in real containers with a stand-in for NVIDIA's library."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from attacks.walls import gpu
from attacks.walls.arena import Arena
from attacks.walls.base import Finding, Probe, Verdict
from orchestrator.walls.engine import Engine
from tests.support import fake_nvml

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]
GPU = "gpu uuid=GPU-{0} bus=00000000:0{0}:00.0 name=NVIDIA_H100 memory=80000 used=4 util=0 power=700 mig=0 error=0"
BY_NVML = tuple(probe for probe in (*gpu.OTHERS, *gpu.SETTINGS) if gpu.ASK in probe.source)
NOT_SUPPORTED = "set its accounting mode"


def attacked(engine: Engine, folder: Path, *, gpus: int = 2, more: str = "") -> dict[str, Finding]:
    """What becomes of the attacks where the weak container sees so many GPUs, and the trainer's its own."""
    probes = [with_library(probe, gpus, more) for probe in BY_NVML]
    return {found.probe: found for found in Arena(engine=engine, scratch=folder).shared("gpu", probes)}


def with_library(probe: Probe, gpus: int, more: str) -> Probe:
    """The same attack, which brings the library along."""
    library = base64.b64encode(fake_nvml.library().read_bytes()).decode()
    machine = [f"driver 580.1\n{more}\n" + "\n".join(GPU.format(n) for n in range(1, count + 1)) for count in (1, gpus)]
    bring = (
        f"import base64\nput('/cache/nvml.so', base64.b64decode({library!r}), 'wb')\n"
        f"put('/cache/nvml.txt', {machine!r}[WEAK].encode(), 'wb')\nos.environ['FAKE_NVML'] = '/cache/nvml.txt'\n"
    )
    return replace(probe, source=bring + probe.source.replace("libnvidia-ml.so.1", "/cache/nvml.so"))


def test_only_the_leased_gpu_is_seen_and_nothing_of_it_can_be_set(engine: Engine, tmp_path: Path) -> None:
    """Root in the weak container can do both; what the device does not support is not counted."""
    found = attacked(engine, tmp_path)

    supported = {name: finding.verdict for name, finding in found.items() if name != NOT_SUPPORTED}
    assert dict.fromkeys(supported, Verdict.BLOCKED) == supported
    assert len(supported) >= 5
    assert Verdict.NOT_RUN == found[NOT_SUPPORTED].verdict


def test_a_driver_that_lets_anyone_set_is_found_out(engine: Engine, tmp_path: Path) -> None:
    """Every setting is allowed then; and where there is no second GPU, none can be seen."""
    found = attacked(engine, tmp_path, gpus=1, more="open")

    settings = {probe.name for probe in gpu.SETTINGS} - {NOT_SUPPORTED}
    assert {Verdict.ALLOWED} == {found[name].verdict for name in settings}
    assert Verdict.NOT_RUN == found["see a GPU that was not leased"].verdict


def test_without_a_gpu_nothing_is_claimed(engine: Engine, tmp_path: Path) -> None:
    """Every attack of the group is named as not run, with the reason, where NVML finds nothing."""
    fake_nvml.Machine(tmp_path, init=9)

    found = gpu.run(Arena(engine=engine, scratch=tmp_path))

    assert {(probe.name, Verdict.NOT_RUN) for probe in gpu.PROBES} == {(one.probe, one.verdict) for one in found}
    assert all("driver is not loaded" in one.why for one in found)
