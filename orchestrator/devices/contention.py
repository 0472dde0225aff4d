"""Who else uses the leased device while an experiment runs: then it is not judged but queued again."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import structlog

from orchestrator.devices import gpu, processes
from orchestrator.devices.cpus import busy_s, numbers
from orchestrator.devices.gpu import Device
from orchestrator.devices.lease import Lease
from orchestrator.errors import LeaseUnavailable

INTERVAL_S = 5.0
CONFIRM_S = 1.0  # a process that is just ending may outlive its place in /proc by a moment
OTHERS = 0.4  # of the leased processors' time, averaged over WINDOW samples
WINDOW = 3
CGROUPS = Path("/sys/fs/cgroup")

Ours = Callable[[], Collection[str]]  # ids of the containers that are ours right now
Then = Callable[[str], None]  # what to do about somebody else there; told at each look from the first one on
UNKNOWN = (OSError, ValueError, IndexError)  # what this kernel says is not what we know
log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class GpuMonitor:
    """Looks for other people's processes on a GPU; knows ours by their container."""

    device: Device
    ours: Ours
    proc: Path = processes.PROC
    confirm_s: float = CONFIRM_S
    _seen: set[str] = field(default_factory=set)
    _lists: bool | None = None  # whether NVML lists processes where there must be some

    def __call__(self) -> str:
        """Return who else uses the GPU, "" if no one. Raises LeaseUnavailable if the GPU is lost."""
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
    """Compares how busy the leased processors were with what our containers and this process account for."""

    cpuset: str
    ours: Ours
    max_foreign_cpu_share: float = OTHERS
    proc: Path = processes.PROC
    cgroups: Path = CGROUPS
    clock: Callable[[], float] = time.monotonic
    _before: tuple[float, float, dict[str, float]] | None = None
    _window: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _paths: dict[str, Path] = field(default_factory=dict)

    def __call__(self) -> str:
        """Describe how much others took of the last samples' time if it was too much, else return ""."""
        cpus = numbers(self.cpuset)
        before, now = self._before, (self.clock(), busy_s(self.proc, cpus) - _own_s(), self._containers_s())
        self._before = now
        # what a container used in its last moments went with it: such a sample says nothing about others
        if before is None or not before[2].keys() <= now[2].keys():
            return ""
        used = sum(seconds - before[2].get(name, 0.0) for name, seconds in now[2].items())
        self._window.append((now[0] - before[0], now[1] - before[1] - used))
        elapsed_s = sum(seconds for seconds, _ in self._window) * len(cpus)
        share = sum(foreign for _, foreign in self._window) / max(elapsed_s, 1e-6)
        if len(self._window) < WINDOW or share <= self.max_foreign_cpu_share:
            return ""
        return f"other programs ({share:.0%} of processors {self.cpuset})"

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


class ContentionMonitor:
    """Looks every few seconds while its block runs; afterwards it can say what it saw."""

    def __init__(
        self,
        look: Callable[[], str],
        *,
        device: Device | None = None,
        interval_s: float = INTERVAL_S,
        used_by: Callable[[], Collection[str] | None] = lambda: None,
        then: Then = lambda _: None,
    ) -> None:
        """Watch with `look`, and `device` for Xid errors; `used_by` returns which of our containers `look` has seen."""
        self.used_by = used_by
        self.contended_by = ""
        self.lost = ""  # why the device itself is to blame
        self.xids: list[int] = []
        self._look, self._then, self._interval_s = look, then, interval_s
        self._watch = None if device is None else gpu.XidWatch(device)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="contention", daemon=True)

    def __enter__(self) -> Self:
        """Start looking."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

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


def monitor_for(
    lease: Lease, ours: Ours, then: Then, *, interval_s: float = INTERVAL_S, max_foreign_cpu_share: float = OTHERS
) -> ContentionMonitor:
    """Build the monitor that fits a lease."""
    if lease.device is not None:
        look = GpuMonitor(device=lease.device, ours=ours)
        return ContentionMonitor(look, device=lease.device, interval_s=interval_s, used_by=look.used_by, then=then)
    return ContentionMonitor(
        CpuMonitor(cpuset=lease.cpuset, ours=ours, max_foreign_cpu_share=max_foreign_cpu_share),
        interval_s=interval_s,
        then=then,
    )


def _own_s() -> float:
    return sum(os.times()[:4])


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
