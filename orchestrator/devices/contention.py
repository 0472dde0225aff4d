"""Who else uses the leased device while an experiment runs, and what the machine is like meanwhile.

A process of others on a GPU, and on processors a training that had to wait for others more than usual: the trial is not
judged but queued again.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Self

from orchestrator.devices import gpu, processes
from orchestrator.devices.cpus import clock_mhz, numbers, work_and_steal_s
from orchestrator.devices.gpu import Device
from orchestrator.devices.lease import Lease
from orchestrator.devices.load import Sample, Watched, measure_pace
from orchestrator.errors import LeaseUnavailable
from orchestrator.events import ConditionsChanged
from orchestrator.logger import log
from orchestrator.types import MachineLoad

INTERVAL_S = 2.0
CONFIRM_S = 1.0  # a process that is just ending may outlive its place in /proc by a moment
EXTRA_WAIT_SHARE = 0.25
MORE_OF_OTHERS = 0.1  # of the leased processors' time; what a candidate does to itself is no contention
RECENT = 5  # trials; their median is what is usual
LEAST_RECENT = 3  # before it is said that others always work here
CGROUPS = Path("/sys/fs/cgroup")

Ours = Callable[[], Collection[str]]  # ids of the containers that are ours right now
Then = Callable[[str], None]  # what to do about somebody else there; told at each look from the first one on
UNKNOWN = (OSError, ValueError, IndexError)  # what this kernel says is not what we know


@dataclass(slots=True, kw_only=True)
class GpuMonitor:
    """Looks for other people's processes on a GPU; knows ours by their container."""

    device: Device
    ours: Ours
    proc: Path = processes.PROC
    confirm_s: float = CONFIRM_S
    _seen: set[str] = field(default_factory=set)
    clock: Callable[[], float] = time.monotonic
    samples: list[Sample] = field(default_factory=list)
    _lists: bool | None = None  # whether NVML lists processes where there must be some
    _looked: float | None = None

    def __call__(self) -> str:
        """Return who else uses the GPU, "" if no one. Raises LeaseUnavailable if the GPU is lost."""
        before, self._looked = self._looked, self.clock()
        if before is not None:
            self.samples.append(Sample(from_s=before, to_s=self._looked, gpu=gpu.clocks(self.device)))
        suspects = self._foreign()
        if suspects:
            time.sleep(self.confirm_s)
            suspects &= self._foreign()
        return processes.describe(min(suspects), self.proc) if suspects else ""

    def used_by(self) -> frozenset[str] | None:
        """Return our containers seen on the GPU; None if NVML lists no process although the GPU was in use."""
        return None if self._lists is False else frozenset(self._seen)

    def _foreign(self) -> frozenset[int]:
        ours, found, now = frozenset(self.ours()), set(), gpu.activity(self.device)
        if now.pids or now.busy(self.device):
            self._lists = self._lists or bool(now.pids)
        for pid in now.pids:
            mine = processes.containers_of(pid, self.proc) & ours
            self._seen.update(mine)
            if not mine:
                found.add(pid)
        return frozenset(found)


@dataclass(slots=True, kw_only=True)
class CpuMonitor:
    """Sees how busy the leased processors are with what our containers and this process do not account for."""

    cpuset: str
    ours: Ours
    proc: Path = processes.PROC
    cgroups: Path = CGROUPS
    sysfs: Path = gpu.SYSFS
    clock: Callable[[], float] = time.monotonic
    samples: list[Sample] = field(default_factory=list)
    _before: "_Counters | None" = None
    _paths: dict[str, Path] = field(default_factory=dict)
    _engines: tuple[frozenset[str], frozenset[int]] = (frozenset(), frozenset())  # of which containers, and their pids

    def __call__(self) -> str:
        """Take a sample; return "": whether others were too many shows at the trial's end, by what is usual."""
        cpus = numbers(self.cpuset)
        before, now = self._before, self._count(cpus)
        self._before = now
        if before is None:
            return ""
        # what a container used in its last moments went with it: such a sample says nothing about others
        told = now.ours_s.keys() >= before.ours_s.keys()
        ours_s = sum(seconds - before.ours_s.get(name, 0.0) for name, seconds in now.ours_s.items())
        self.samples.append(
            Sample(
                from_s=before.at_s,
                to_s=now.at_s,
                others_cpu_s=now.work_s - before.work_s - ours_s if told else None,
                steal_s=now.steal_s - before.steal_s,
                clock_mhz=clock_mhz(self.sysfs, cpus),
            )
        )
        return ""

    def _count(self, cpus: Collection[int]) -> "_Counters":
        at_s, (work_s, steal_s) = self.clock(), work_and_steal_s(self.proc, cpus)
        ours_s = self._containers_s()
        ours_s |= {f"engine {pid}": processes.cpu_s(pid, self.proc) for pid in self._engine_pids()}
        return _Counters(at_s=at_s, work_s=work_s - sum(os.times()[:4]), steal_s=steal_s, ours_s=ours_s)

    def _engine_pids(self) -> frozenset[int]:
        """Return the processes that serve our containers; looked for only where those have changed."""
        ours = frozenset(self.ours())
        if ours != self._engines[0] or not self._engines[1]:
            self._engines = ours, processes.engine_pids(self.proc)
        return self._engines[1]

    def _containers_s(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name in self.ours():
            with suppress(OSError):
                try:
                    path = self._paths.get(name) or self._paths.setdefault(name, _cgroup(self.cgroups, name))
                    found[name] = _used_s(path)
                except StopIteration:  # an engine without root has none to give on cgroup v1
                    used = processes.process_tree_cpu_s(name, self.proc)
                    found |= {} if used is None else {name: used}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counters:
    at_s: float
    work_s: float  # of programs on the leased processors, this one left out
    steal_s: float
    ours_s: dict[str, float]  # by what works for us


@dataclass(slots=True, kw_only=True)
class UsualLoad:
    """What the last trials on a device were like: contention is what goes beyond it, so a busy machine starves nobody.

    A candidate can make its own threads wait, but not others work more: it takes both.
    """

    max_extra_wait_share: float = EXTRA_WAIT_SHARE
    recent: deque[MachineLoad] = field(default_factory=lambda: deque(maxlen=RECENT))
    told: float = 0.0  # the others' usual share that was last recorded

    def find_contention(self, load: MachineLoad, processors: str) -> str:
        """Describe the others if a training had to wait more than usual because of them, else return ""."""
        wait, others = self.usual_wait(), self.usual_others()
        if others is None or load.others_share is None or load.others_share - others < MORE_OF_OTHERS:
            return ""
        if wait is None or load.wait_share is None:  # this host does not tell how long threads wait
            extra, waited = load.others_share - others, ""
        else:
            extra = load.wait_share - wait
            waited = f"; the training waited {load.wait_share:.0%} of its time, usually {wait:.0%}"
        if extra <= self.max_extra_wait_share:
            return ""
        return f"other programs ({load.others_share:.0%} of processors {processors}, usually {others:.0%}{waited})"

    def add(self, load: MachineLoad) -> ConditionsChanged | None:
        """Take a trial into account, contended or not; return what is to be recorded if others' use has changed."""
        self.recent.append(load)
        others = self.usual_others()
        if others is None or len(self.recent) < LEAST_RECENT or abs(others - self.told) < MORE_OF_OTHERS:
            return None
        self.told = others
        return ConditionsChanged(others_share=round(others, 3), wait_share=_rounded(self.usual_wait()))

    def usual_wait(self) -> float | None:
        """Return the median share of its time that a training waited; None if it is not known."""
        return _median([load.wait_share for load in self.recent])

    def usual_others(self) -> float | None:
        """Return the median share of the processors' time that others used; None if it is not known."""
        return _median([load.others_share for load in self.recent])


class ContentionMonitor:
    """Looks every few seconds while its block runs; afterwards it can say what it saw."""

    def __init__(  # noqa: PLR0913  # what it watches, and how
        self,
        look: Callable[[], str],
        *,
        device: Device | None = None,
        interval_s: float = INTERVAL_S,
        used_by: Callable[[], Collection[str] | None] = lambda: None,
        then: Then = lambda _: None,
        samples: Sequence[Sample] = (),
        cpus: Collection[int] = (),
    ) -> None:
        """Watch with `look`, and `device` for Xid errors; `used_by` returns which of our containers `look` has seen.

        `look` adds to `samples`; the pace of the leased processors, `cpus`, is measured before and after.
        """
        self.used_by = used_by
        self.watched = Watched(samples=samples, cpus=len(cpus) or None)
        self.contended_by = ""
        self.lost = ""  # why the device itself is to blame
        self.xids: list[int] = []
        self._look, self._then, self._interval_s, self._cpus = look, then, interval_s, cpus
        self._watch = None if device is None else gpu.XidWatch(device)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="contention", daemon=True)

    def __enter__(self) -> Self:
        """Start looking."""
        self.watched = replace(self.watched, pace_before=measure_pace(self._cpus))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()
        self.watched = replace(self.watched, pace_after=measure_pace(self._cpus))

    def now(self) -> str:
        """Return who else is there now, if one look can tell. Raises LeaseUnavailable if the device is lost."""
        try:
            return self._look()
        except UNKNOWN:
            return ""

    def _run(self) -> None:
        with ExitStack() as stack:
            try:
                watch = None if self._watch is None else stack.enter_context(self._watch)
                while not self.lost:
                    self._sample(watch)
                    if self._stop.is_set():
                        return
                    self._stop.wait(self._interval_s)
            except LeaseUnavailable as error:
                self.lost = str(error)
            except UNKNOWN as error:
                log.warning("device.not_watched", error=str(error))

    def _sample(self, watch: gpu.XidWatch | None) -> None:
        for xid in watch.new() if watch else []:
            self.xids.append(xid)
            log.warning("gpu.xid_reported", xid=xid)
            if xid in gpu.BROKEN_XIDS:
                self.lost = f"the GPU reported Xid {xid}, an error of its own"
        seen = self._look()
        if seen and not self.contended_by:
            self.contended_by = seen
            log.warning("device.contended", by=seen)
        if self.contended_by:
            self._then(self.contended_by)


def monitor_for(lease: Lease, ours: Ours, then: Then, *, interval_s: float = INTERVAL_S) -> ContentionMonitor:
    """Build the monitor that fits a lease."""
    if lease.device is not None:
        look = GpuMonitor(device=lease.device, ours=ours)
        return ContentionMonitor(
            look, device=lease.device, interval_s=interval_s, used_by=look.used_by, then=then, samples=look.samples
        )
    cores = CpuMonitor(cpuset=lease.cpuset, ours=ours)
    return ContentionMonitor(cores, interval_s=interval_s, then=then, samples=cores.samples, cpus=numbers(lease.cpuset))


def _median(shares: Iterable[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return median(known) if known else None


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 3)


def _cgroup(cgroups: Path, container_id: str) -> Path:
    """Find a container's directory with its processor time, for any driver and version; StopIteration if none."""
    root = cgroups if (cgroups / "cgroup.controllers").exists() else cgroups / "cpuacct"
    return next(path for path in root.rglob(f"*{container_id}*") if path.is_dir())


def _used_s(path: Path) -> float:
    """Return the processor seconds of a control group, version 2 or 1."""
    stat = path / "cpu.stat"
    if (path / "cpuacct.usage").exists():
        return int((path / "cpuacct.usage").read_text()) / 1e9
    return int(stat.read_text().split("usage_usec ")[1].split()[0]) / 1e6
