"""What NVML says, through the real binding and a fake library."""

from pathlib import Path

import pynvml
import pytest

from orchestrator.devices import gpu
from orchestrator.errors import LeaseUnavailable
from orchestrator.host.host_facts import inspect_gpus
from tests.support.fake_nvml import Machine


def test_a_gpu_is_known_by_what_scores_depend_on(tmp_path: Path) -> None:
    """UUID, place in sysfs, memory, and a hardware class of model, power limit and driver."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1", power=350)
    (device,) = gpu.devices(machine.sysfs)

    assert "GPU-1" == device.uuid
    assert machine.sysfs / "bus/pci/devices/0000:01:00.0" == device.pci
    assert 80000 * gpu.MIB == device.memory_bytes
    assert "NVIDIA H100, 350 W, driver 580.159.03" == device.hardware


def test_mig_instances_stand_in_for_their_gpu(tmp_path: Path) -> None:
    """A GPU that is cut up is not leasable itself; the profile is part of the hardware class."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.gpu("GPU-2")
    machine.mig("MIG-a", "GPU-2")
    machine.mig("MIG-b", "GPU-2")
    found = gpu.devices(machine.sysfs)

    assert ["GPU-1", "MIG-a", "MIG-b"] == [device.uuid for device in found]
    assert ("GPU-2", 1) == (found[2].parent, found[2].mig_index)
    assert found[1].pci == found[2].pci
    assert "1g.10gb" in found[1].hardware


def test_activity_is_read_anew_each_time(tmp_path: Path) -> None:
    """Processes, memory and utilisation as they are now; a MIG instance has no utilisation of its own."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.gpu("GPU-2")
    machine.mig("MIG-a", "GPU-2")
    device, instance = gpu.devices(machine.sysfs)
    before = gpu.activity(device)
    machine.gpu("GPU-1", used=4000, util=60)
    machine.runs("GPU-1", 41, 42)
    after = gpu.activity(device)

    assert (frozenset(), 0) == (before.pids, before.utilisation_percent)
    assert (frozenset({41, 42}), 60, 4000 * gpu.MIB) == (after.pids, after.utilisation_percent, after.memory_bytes)
    assert gpu.activity(instance).utilisation_percent is None


@pytest.mark.parametrize(
    ("used", "util", "busy"),
    [(4, 0, False), (1599, 5, False), (1600, 0, True), (4, 6, True)],
)
def test_idle_means_little_memory_and_little_work(tmp_path: Path, used: int, util: int, busy: bool) -> None:
    """Less than 2 % of 80000 MiB, at most 5 % busy."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1", used=used, util=util)
    (device,) = gpu.devices(machine.sysfs)

    assert busy == bool(gpu.activity(device).busy(device))


def test_a_small_gpu_may_use_500_mib_and_still_be_idle(tmp_path: Path) -> None:
    """2 % of 8 GB would be what a driver needs for itself."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1", memory=8000, used=499)
    (device,) = gpu.devices(machine.sysfs)

    assert "" == gpu.activity(device).busy(device)


@pytest.mark.parametrize(
    ("code", "fix"), [(18, "reboot"), (9, "modprobe"), (12, "install"), (4, "permissions"), (999, "nvidia-smi")]
)
def test_a_driver_that_does_not_work_is_told_with_its_mend(tmp_path: Path, code: int, fix: str) -> None:
    """One line: what NVML said and what to do."""
    machine = Machine(tmp_path, init=code)

    with pytest.raises(LeaseUnavailable, match=fix) as caught:
        gpu.devices(machine.sysfs)
    assert 1 == len(str(caught.value).splitlines())


def test_a_lost_gpu_is_left_out_while_others_answer(tmp_path: Path) -> None:
    """And told of when it was the only one, or the one that was asked."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.gpu("GPU-2")
    lost = gpu.devices(machine.sysfs)[0]
    machine.gpu("GPU-1", error=15)

    assert ["GPU-2"] == [device.uuid for device in gpu.devices(machine.sysfs)]
    with pytest.raises(LeaseUnavailable, match="fell off the bus"):
        gpu.activity(lost)
    machine.gpu("GPU-2", error=15)
    with pytest.raises(LeaseUnavailable, match="fell off the bus"):
        gpu.devices(machine.sysfs)


def test_no_gpu_is_no_error(tmp_path: Path) -> None:
    """A driver without a device: an empty list."""
    assert () == gpu.devices(Machine(tmp_path).sysfs)


def test_xids_are_seen_once(tmp_path: Path) -> None:
    """Those reported while watching, not before."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1", xid=31)
    (device,) = gpu.devices(machine.sysfs)
    with gpu.XidWatch(device) as watch:
        before = watch.new()
        machine.gpu("GPU-1", xid=79)

        assert ([], [79], []) == (before, watch.new(), watch.new())


@pytest.mark.parametrize(
    ("change", "said"),
    [({}, ""), ({"mode": 3}, "compute mode"), ({"rows": 1}, "wait for a reset"), ({"ecc": 2}, "2 memory errors")],
)
def test_what_speaks_against_a_device_is_told(tmp_path: Path, change: dict[str, int], said: str) -> None:
    """Its mode, or memory that is broken; of a MIG instance, that of the whole GPU."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1", **change)
    machine.mig("MIG-a", "GPU-1")

    for device in gpu.devices(machine.sysfs):
        assert said in gpu.trouble(device)
        assert bool(said) is bool(gpu.trouble(device))


def test_a_gpu_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """The others can be leased all the same; doctor says what is wrong with this one."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.gpu("GPU-2", error=pynvml.NVML_ERROR_RESET_REQUIRED)

    assert ["GPU-1"] == [device.uuid for device in gpu.devices(machine.sysfs)]
    (said,) = gpu.lost(machine.sysfs)
    assert said.startswith("GPU 1: ")
    assert "needs a reset" in said
    assert (said,) == inspect_gpus().troubles
