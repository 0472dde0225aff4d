"""Who else uses the device: strangers on a GPU, load on leased processors, a GPU that breaks."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.devices import gpu
from orchestrator.devices.contention import ContentionMonitor, CpuMonitor, GpuMonitor, UsualLoad
from orchestrator.devices.cpus import TICKS_PER_S
from orchestrator.devices.load import load_of
from orchestrator.events import ConditionsChanged
from orchestrator.types import MachineLoad
from tests.support import fakes
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
    """A machine with two leased processors whose clock and counters move only when told."""

    def __init__(self, root: Path, *, version: int = 2) -> None:
        """Lay out /proc/stat and one container's control group."""
        self.now, self.root, self.version = 0.0, root, version
        self.ticks, self.used_s, self.engine_s = [0.0, 0.0, 0.0], 0.0, 0.0
        self.interrupts = self.stolen = 0.0
        (root / "proc/77").mkdir(parents=True)
        (root / "proc/77/comm").write_text("dockerd\n")
        self.group = root / ("cg/system.slice/docker-" if version == 2 else "cg/cpuacct/docker/")
        self.group = Path(f"{self.group}{'' if version == 2 else '/'}{OURS}{'.scope' if version == 2 else ''}")
        self.group.mkdir(parents=True)
        if version == 2:
            (root / "cg/cgroup.controllers").write_text("cpu\n")
        self.passes(0)

    def passes(
        self, seconds: float, *, ours: float = 0.0, theirs: float = 0.0, elsewhere: float = 0.0, engine: float = 0.0,
        interrupts: float = 0.0, stolen: float = 0.0,
    ) -> None:  # fmt: skip
        """Let time pass in which we and they kept the two leased processors busy, in processors."""
        self.now += seconds
        self.used_s += ours * seconds
        self.engine_s += engine * seconds
        self.interrupts += interrupts * seconds * TICKS_PER_S
        self.stolen += stolen * seconds * TICKS_PER_S
        for cpu, share in enumerate(((ours + theirs + engine) / 2, (ours + theirs + engine) / 2, elsewhere)):
            self.ticks[cpu] += share * seconds * TICKS_PER_S
        rest = f"0 0 12345 0 {int(self.interrupts / 2)} {int(self.interrupts / 2)} {int(self.stolen)} 0 0"
        lines = [f"cpu{cpu} {int(ticks)} {rest}" for cpu, ticks in enumerate(self.ticks)]
        (self.root / "proc/stat").write_text("\n".join(["cpu 1 1 1 1 1 1 1 1 1 1", *lines]) + "\n")
        ticks = int(self.engine_s * TICKS_PER_S)
        (self.root / "proc/77/stat").write_text(f"77 (dockerd) S 1 {'0 ' * 9}{ticks} 0 0 0 20 0\n")
        if self.version == 2:
            (self.group / "cpu.stat").write_text(f"usage_usec {int(self.used_s * 1e6)}\nuser_usec 0\n")
        else:
            (self.group / "cpuacct.usage").write_text(f"{int(self.used_s * 1e9)}\n")

    def look(self) -> CpuMonitor:
        """Looks at the leased two."""
        return CpuMonitor(
            cpuset="0-1", ours=lambda: [OURS], proc=self.root / "proc", cgroups=self.root / "cg",
            sysfs=self.root / "sys", clock=lambda: self.now,
        )  # fmt: skip


def seen(cores: Cores, look: CpuMonitor, samples: int = 5, **load: float) -> float | None:
    """What others used on average, in processors, while time passed."""
    look()
    for _ in range(samples):
        cores.passes(5, **load)
        look()
    known = [one.others_cpu_s for one in look.samples[-samples:] if one.others_cpu_s is not None]
    return round(sum(known) / (5 * len(known)), 2) if known else None


@pytest.mark.parametrize("version", [1, 2])
def test_others_are_who_works_on_our_processors_and_not_for_us(tmp_path: Path, version: int) -> None:
    """Neither our container, nor what works elsewhere, nor the engine that carries our output."""
    cores = Cores(tmp_path, version=version)

    assert 0.0 == pytest.approx(seen(cores, cores.look(), ours=2.0), abs=0.02)
    assert 0.0 == pytest.approx(seen(cores, cores.look(), ours=1.9, elsewhere=1.0), abs=0.02)
    assert 1.0 == pytest.approx(seen(cores, cores.look(), ours=1.0, theirs=1.0), abs=0.02)
    assert 0.3 == pytest.approx(seen(cores, cores.look(), ours=1.0, theirs=0.3, engine=0.7), abs=0.02)


def test_interrupts_are_no_ones_work_and_steal_is_told_apart(tmp_path: Path) -> None:
    """A candidate that floods its own loopback is not to look like others."""
    cores = Cores(tmp_path)
    look = cores.look()

    assert 0.0 == pytest.approx(seen(cores, look, ours=1.0, interrupts=0.8, stolen=0.1), abs=0.02)
    assert 1.0 == pytest.approx(look.samples[-1].steal_s)
    assert look.samples[-1].clock_mhz is None


def test_the_clock_is_told_where_the_kernel_has_it(tmp_path: Path) -> None:
    """In MHz, the mean of the leased processors."""
    cores = Cores(tmp_path)
    for cpu, kilohertz in enumerate((2_400_000, 2_600_000, 100_000)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    look = cores.look()
    seen(cores, look, ours=1.0)

    assert 2500.0 == look.samples[-1].clock_mhz


def test_a_container_that_ended_between_two_looks_is_not_blamed_on_others(tmp_path: Path) -> None:
    """Its last seconds of work are gone with its control group: that sample does not tell."""
    cores = Cores(tmp_path)
    look = cores.look()
    seen(cores, look, ours=2.0)
    cores.passes(5, ours=2.0)
    for file in cores.group.iterdir():
        file.unlink()
    look()

    assert look.samples[-1].others_cpu_s is None
    assert all(one.others_cpu_s is not None for one in look.samples[:-1])


def trial(*, wait: float, others: float) -> MachineLoad:
    """A trial of which the training waited a share of its time, while others used a share of two processors."""
    return MachineLoad(cpus=2, duration_s=10.0, waited_s=wait * 40, cpu_s=(1 - wait) * 40, others_cpu_s=others * 20)


def usual(*loads: MachineLoad) -> UsualLoad:
    """What is usual after these."""
    known = UsualLoad()
    for load in loads:
        known.add(load)
    return known


def test_a_training_that_had_to_wait_for_others_is_contended() -> None:
    """More than is usual, and because of them; the first trial of a run is what is usual."""
    quiet = trial(wait=0.03, others=0.02)
    said = "other programs (50% of processors 0-1, usually 2%; the training waited 40% of its time, usually 3%)"

    assert said == usual(quiet, quiet).find_contention(trial(wait=0.4, others=0.5), "0-1")
    assert "" == usual(quiet, quiet).find_contention(trial(wait=0.2, others=0.3), "0-1")
    assert "" == usual().find_contention(trial(wait=0.4, others=0.5), "0-1")


def test_a_candidate_that_makes_itself_wait_is_not_contended() -> None:
    """Many threads wait for each other; only others' work makes it contention, and that it cannot cause."""
    quiet = trial(wait=0.03, others=0.02)

    assert "" == usual(quiet, quiet).find_contention(trial(wait=0.9, others=0.02), "0-1")
    assert "" == usual(quiet, quiet).find_contention(trial(wait=0.9, others=0.1), "0-1")


def test_where_others_always_work_the_loop_goes_on_and_says_so() -> None:
    """Three trials in a row make it usual; it is recorded once, and again when they have gone."""
    quiet, busy = trial(wait=0.03, others=0.02), trial(wait=0.45, others=0.5)
    known = usual(quiet, quiet, quiet, quiet, quiet)
    judged = [(known.find_contention(busy, "0-1"), known.add(busy)) for _ in range(5)]
    gone = [known.add(quiet) for _ in range(5)]

    assert [True, True, True, False, False] == [bool(contended) for contended, _ in judged]
    assert [None, None, ConditionsChanged(others_share=0.5, wait_share=0.45)] == [told for _, told in judged[:3]]
    assert [None, None, ConditionsChanged(others_share=0.02, wait_share=0.03)] == gone[:3]
    assert [None] * 4 == [told for _, told in judged[3:]] + gone[3:]


def test_a_host_that_does_not_tell_how_long_threads_wait_counts_the_others() -> None:
    """Without either nothing is contended."""
    quiet, busy = (MachineLoad(cpus=2, duration_s=10.0, others_cpu_s=seconds) for seconds in (0.4, 10.0))

    assert "50%" in usual(quiet, quiet).find_contention(busy, "0-1")
    assert "" == usual(quiet, quiet).find_contention(MachineLoad(cpus=2, duration_s=10.0), "0-1")
    assert "" == usual(MachineLoad()).find_contention(busy, "0-1")


def test_a_gpus_clock_and_heat_are_sampled(tmp_path: Path) -> None:
    """The look that finds strangers reads them, too."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1", clock=1755, draws=310, heat=71, throttled=4)
    look = gpu_look(machine)
    with ContentionMonitor(look, interval_s=0.02, samples=look.samples) as monitor:
        until(lambda: len(look.samples) > 2)
    trained = fakes.execution(
        started_s=look.samples[0].from_s, duration_s=look.samples[-1].to_s - look.samples[0].from_s
    )
    load = load_of(trained, monitor.watched)

    assert (1755.0, 310.0, 71.0) == (load.gpu_clock_mhz, load.gpu_power_w, load.gpu_temperature_c)
    assert ("power cap",) == load.gpu_throttled
    assert load.gpu_throttled_s == pytest.approx(trained.duration_s, abs=0.1)
    assert (None, None) == (load.others_cpu_s, load.pace_before)
