"""Who else uses the device: strangers on a GPU, load on leased processors, a GPU that breaks."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.devices import gpu
from orchestrator.devices.contention import ContentionMonitor, CpuMonitor, GpuMonitor
from orchestrator.devices.cpus import TICKS_PER_S
from tests.support.fake_nvml import Machine

OURS = "a" * 64
THEIRS = "b" * 64


def until(true: Callable[[], object]) -> None:
    """Wait for a thread, not for long."""
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)


def gpu_look(machine: Machine) -> GpuMonitor:
    """Looks at the first GPU."""
    (device, *_) = gpu.devices(machine.sysfs)
    return GpuMonitor(device=device, ours=lambda: [OURS], proc=machine.proc, confirm_s=0.01)


def test_our_own_containers_are_no_contention(tmp_path: Path) -> None:
    """NVML gives pids of the host; their control group names the container."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.process(42, "python3 /mutable/train.py", container=OURS)
    machine.runs("GPU-1", 42)

    assert "" == gpu_look(machine)()


@pytest.mark.parametrize("container", ["", THEIRS])
def test_a_stranger_on_the_gpu_is_named(tmp_path: Path, container: str) -> None:
    """A process of the host, or in somebody else's container."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.process(42, "python3 /mutable/train.py", container=OURS)
    machine.process(43, "python their_training.py", container=container)
    machine.runs("GPU-1", 42, 43)

    assert "their_training.py (pid 43)" in gpu_look(machine)()


def test_a_process_that_is_just_ending_is_no_stranger(tmp_path: Path) -> None:
    """Listed by NVML once more than by /proc: looked at twice."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.runs("GPU-1", 42)
    look = gpu_look(machine)
    pids = iter([[OURS], [OURS]])

    def ours() -> list[str]:
        machine.runs("GPU-1")  # gone by the second look
        return next(pids)

    look.ours = ours
    machine.runs("GPU-1", 42)

    assert "" == look()


def test_the_sampler_remembers_the_first_stranger(tmp_path: Path) -> None:
    """Also when it has gone again by the end."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.process(43, "python their_training.py")
    with ContentionMonitor(gpu_look(machine), interval_s=0.02) as sampler:
        time.sleep(0.05)
        calm = sampler.contended_by
        machine.runs("GPU-1", 43)
        until(lambda: sampler.contended_by)
        machine.runs("GPU-1")
        time.sleep(0.05)

    assert "" == calm
    assert "their_training.py" in sampler.contended_by
    assert "" == sampler.lost


def test_a_gpu_that_falls_off_the_bus_is_to_blame_itself(tmp_path: Path) -> None:
    """NVML says it is lost: infra, never a result."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    with ContentionMonitor(gpu_look(machine), interval_s=0.02) as sampler:
        machine.gpu("GPU-1", error=15)
        until(lambda: sampler.lost)

    assert "fell off the bus" in sampler.lost


@pytest.mark.parametrize(("xid", "lost"), [(79, True), (31, False)])
def test_xids_are_recorded_and_the_devices_own_are_its_fault(tmp_path: Path, xid: int, lost: bool) -> None:
    """31 is a program's memory fault, 79 a GPU off the bus."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    look = gpu_look(machine)
    with ContentionMonitor(look, device=look.device, interval_s=0.02) as sampler:
        time.sleep(0.1)
        machine.gpu("GPU-1", xid=xid)
        until(lambda: sampler.xids)

    assert [xid] == sampler.xids
    assert lost == bool(sampler.lost)


class Cores:
    """A machine with two processors whose clock and counters move only when told."""

    def __init__(self, root: Path, *, version: int = 2) -> None:
        """Lay out /proc/stat and one container's control group."""
        self.now, self.root, self.version = 0.0, root, version
        self.ticks, self.used_s = [0.0, 0.0, 0.0], 0.0
        (root / "proc").mkdir()
        self.group = root / ("cg/system.slice/docker-" if version == 2 else "cg/cpuacct/docker/")
        self.group = Path(f"{self.group}{'' if version == 2 else '/'}{OURS}{'.scope' if version == 2 else ''}")
        self.group.mkdir(parents=True)
        if version == 2:
            (root / "cg/cgroup.controllers").write_text("cpu\n")
        self.passes(0)

    def passes(self, seconds: float, *, ours: float = 0.0, theirs: float = 0.0, elsewhere: float = 0.0) -> None:
        """Let time pass in which we and they kept the two leased processors busy, in processors."""
        self.now += seconds
        self.used_s += ours * seconds
        for cpu, share in enumerate(((ours + theirs) / 2, (ours + theirs) / 2, elsewhere)):
            self.ticks[cpu] += share * seconds * TICKS_PER_S
        lines = [f"cpu{cpu} {int(ticks)} 0 0 12345 0 0 0 0 0 0" for cpu, ticks in enumerate(self.ticks)]
        (self.root / "proc/stat").write_text("\n".join(["cpu 1 1 1 1 1 1 1 1 1 1", *lines]) + "\n")
        if self.version == 2:
            (self.group / "cpu.stat").write_text(f"usage_usec {int(self.used_s * 1e6)}\nuser_usec 0\n")
        else:
            (self.group / "cpuacct.usage").write_text(f"{int(self.used_s * 1e9)}\n")

    def look(self, max_foreign_cpu_share: float = 0.4) -> CpuMonitor:
        """Looks at the leased two."""
        return CpuMonitor(
            cpuset="0-1", ours=lambda: [OURS], max_foreign_cpu_share=max_foreign_cpu_share,
            proc=self.root / "proc", cgroups=self.root / "cg",
            clock=lambda: self.now,
        )  # fmt: skip


def seen(cores: Cores, look: CpuMonitor, samples: int = 5, **load: float) -> str:
    """The first thing that is seen in a row of samples."""
    look()
    for _ in range(samples):
        cores.passes(5, **load)
        if reason := look():
            return reason
    return ""


@pytest.mark.parametrize("version", [1, 2])
def test_load_of_others_on_our_processors_is_contention(tmp_path: Path, version: int) -> None:
    """Half of them taken away; ours alone, or others on processors that are not leased, is none."""
    cores = Cores(tmp_path, version=version)

    assert "" == seen(cores, cores.look(), ours=2.0)
    assert "" == seen(cores, cores.look(), ours=1.9, elsewhere=1.0)
    said = "other programs (50% of processors 0-1)"  # used the device too
    assert said == seen(cores, cores.look(), ours=1.0, theirs=1.0)


def test_a_short_burst_of_others_is_borne(tmp_path: Path) -> None:
    """Five seconds of somebody's compiler do not cost an experiment; the bound can be moved."""
    cores = Cores(tmp_path)
    look = cores.look()

    assert "" == seen(cores, look, samples=1, ours=1.0, theirs=1.0)
    assert "" == seen(cores, look, samples=9, ours=1.8, theirs=0.2)
    assert "other programs" in seen(cores, cores.look(max_foreign_cpu_share=0.05), ours=1.8, theirs=0.2)


def test_a_container_that_ended_between_two_looks_is_not_blamed_on_others(tmp_path: Path) -> None:
    """Its last seconds of work are gone with its control group: that sample is not used."""
    cores = Cores(tmp_path)
    look = cores.look()
    quiet = seen(cores, look, ours=2.0)
    cores.passes(5, ours=2.0)
    for file in cores.group.iterdir():
        file.unlink()
    ended = look()

    assert ("", "") == (quiet, ended)
    assert ended == look()
