"""What CUDA_VISIBLE_DEVICES gives to a session is all that it may lease."""

import os
from pathlib import Path

import pytest

from gpu_day.direct import leased
from gpu_day.record import TrialFailedError
from orchestrator import compose
from orchestrator.config import load
from orchestrator.devices.cuda_visible_devices import allowed_devices
from orchestrator.errors import ConfigError
from tests.support.boxes import ROOT
from tests.support.fake_nvml import Machine

BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Two GPUs, a third one cut in two."""
    made = Machine(tmp_path)
    for uuid in ("GPU-1aa", "GPU-1bb", "GPU-2cc"):
        made.gpu(uuid)
    made.mig("MIG-1", "GPU-2cc")
    made.mig("MIG-2", "GPU-2cc")
    return made


@pytest.mark.parametrize(
    ("said", "order", "expected"),
    [
        ("GPU-1bb", {}, ("GPU-1bb",)),
        (" GPU-1b, MIG-2", {}, ("GPU-1bb", "MIG-2")),
        ("GPU-2", {}, ("GPU-2cc",)),
        ("1", BY_BUS, ("GPU-1bb",)),
        ("2,0", BY_BUS, ("GPU-2cc", "GPU-1aa")),
    ],
)
def test_only_what_it_names_may_be_leased(
    machine: Machine, said: str, order: dict[str, str], expected: tuple[str, ...]
) -> None:
    """By UUID, by the beginning of one, or by a number where it is clear whose; a list of task.toml wins."""
    assert expected == allowed_devices((), {"CUDA_VISIBLE_DEVICES": said, **order})
    assert ("GPU-1aa",) == allowed_devices(["GPU-1aa"], {"CUDA_VISIBLE_DEVICES": said, **order})
    assert () == allowed_devices((), {})


@pytest.mark.parametrize("said", ["", "GPU-1", "GPU-9", "0", "-1", "NoDevFiles", "GPU-1aa,"])
def test_what_it_does_not_name_for_sure_is_refused(machine: Machine, said: str) -> None:
    """Rather than that another GPU is taken; an empty one hides all of them."""
    with pytest.raises(
        ConfigError, match=rf"CUDA_VISIBLE_DEVICES='{said}': .* does not name one GPU .* UUIDs.* \[gpu\] al"
    ):
        allowed_devices((), {"CUDA_VISIBLE_DEVICES": said})


def test_a_number_counts_gpus_that_all_answer(machine: Machine) -> None:
    """One that does not may have been any of them; one alone is always the first."""
    with pytest.raises(ConfigError, match="'3' does not name one GPU"):
        allowed_devices((), {"CUDA_VISIBLE_DEVICES": "3", **BY_BUS})
    machine.gpu("GPU-1aa", error=15)
    with pytest.raises(ConfigError, match="'0' does not name one GPU"):
        allowed_devices((), {"CUDA_VISIBLE_DEVICES": "0", **BY_BUS})
    for uuid in ("GPU-1aa", "GPU-2cc"):
        del machine.gpus[uuid]
    machine.migs.clear()
    machine.write()

    assert ("GPU-1bb",) == allowed_devices((), {"CUDA_VISIBLE_DEVICES": "0"})


def test_every_way_to_a_lease_asks(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions by their config, and the check without containers; the cpu profile leases no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1bb")
    gpu, cpu = (load(ROOT, {"tag": "t", "runs": tmp_path, "profile_name": name}) for name in ("gpu", "cpu"))

    assert ("GPU-1bb",) == compose.build_lease_policy(gpu).allow
    assert () == compose.build_lease_policy(cpu).allow
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ConfigError):
        compose.build_lease_policy(gpu)
    with pytest.raises(TrialFailedError, match="'0' does not name one GPU"), leased("gpu"):
        pass
    assert "0" == os.environ["CUDA_VISIBLE_DEVICES"]
