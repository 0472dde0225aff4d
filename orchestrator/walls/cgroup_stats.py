"""What a container has used and waited for, read from its cgroup without asking the engine; cgroup v1 and v2."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

ROOT, PROC = Path("/sys/fs/cgroup"), Path("/proc")
NANOSECONDS, MICROSECONDS = 1e9, 1e6
THREADS_S = 0.5  # between two looks at every thread; what one waits in its last moments is missed
THREADS_SHARE = 0.02  # of one processor is what these looks may take, however many threads there are
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """None where the host does not say."""

    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    peak_pids: int | None = None
    read_bytes: int | None = None  # from block devices; what lies in memory is not among it
    written_bytes: int | None = None
    waited_s: float | None = None  # its threads were ready to run and had no processor, summed
    pressure_s: float | None = None  # at least one of them waited; version 2


@dataclass(slots=True, kw_only=True)
class ThreadWaits:
    """How long the threads of a container have waited for a processor, those that have ended included."""

    clock: Callable[[], float] = time.monotonic
    _alive: dict[int, int] = field(default_factory=dict)  # nanoseconds by thread
    _ended: int = 0
    _due: float = 0.0
    _waited_s: float | None = None

    def waited_s(self, pids: Iterable[int], proc: Path) -> float | None:
        """Return the seconds that all threads of these processes have waited; None where the kernel does not tell."""
        began = self.clock()
        if began < self._due:
            return self._waited_s
        now = _waits(pids, proc)
        if now:
            gone = (waited for thread, waited in self._alive.items() if now.get(thread, 0) < waited)
            self._ended += sum(gone)
            self._alive = now
            self._waited_s = (self._ended + sum(now.values())) / NANOSECONDS
        took = self.clock() - began
        self._due = began + max(THREADS_S, took / THREADS_SHARE)
        return self._waited_s


def read(pid: int, container_id: str, before: Usage, waits: ThreadWaits | None = None) -> Usage:
    """Read the counters of the container's cgroup, found by its process `pid`; unreadable ones keep their value.

    With `waits`, also how long its threads have waited.

    A process that has ended, or whose number another one has by now, is in no cgroup of that container.
    """
    try:
        lines = (PROC / str(pid) / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return before
    lines = [line for line in lines if container_id in line]
    groups = {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}
    if "memory" in groups:
        folder, now = ROOT / "memory" / groups["memory"].lstrip("/"), _version_1(groups)
    elif "" in groups:
        folder = ROOT / groups[""].lstrip("/")
        now = _version_2(folder)
    else:
        return before
    if waits is not None:
        now = replace(now, waited_s=waits.waited_s(_pids(folder), PROC))
    return Usage(
        peak_memory_bytes=_known(now.peak_memory_bytes, before.peak_memory_bytes),
        cpu_s=_known(now.cpu_s, before.cpu_s),
        peak_pids=max(now.peak_pids or 0, before.peak_pids or 0) or None,
        read_bytes=_known(now.read_bytes, before.read_bytes),
        written_bytes=_known(now.written_bytes, before.written_bytes),
        waited_s=_known(now.waited_s, before.waited_s),
        pressure_s=_known(now.pressure_s, before.pressure_s),
    )


def _version_1(groups: dict[str, str]) -> Usage:
    def folder(name: str) -> Path:
        return ROOT / name / groups.get(name, groups["memory"]).lstrip("/")

    nanoseconds = _number(folder("cpuacct") / "cpuacct.usage")
    moved = _totals(folder("blkio") / "blkio.throttle.io_service_bytes_recursive")
    return Usage(
        peak_memory_bytes=_number(folder("memory") / "memory.max_usage_in_bytes"),
        cpu_s=None if nanoseconds is None else nanoseconds / NANOSECONDS,
        peak_pids=_number(folder("pids") / "pids.current"),  # as often as it is looked at
        read_bytes=None if moved is None else moved.get("Read", 0),
        written_bytes=None if moved is None else moved.get("Write", 0),
    )


def _version_2(folder: Path) -> Usage:
    moved = _totals(folder / "io.stat")
    return Usage(
        peak_memory_bytes=_number(folder / "memory.peak"),
        cpu_s=_cpu_stat(folder),
        peak_pids=_known(_number(folder / "pids.peak"), _number(folder / "pids.current")),
        read_bytes=None if moved is None else moved.get("rbytes", 0),
        written_bytes=None if moved is None else moved.get("wbytes", 0),
        pressure_s=_pressure_s(folder),
    )


def _known(now: _Number | None, before: _Number | None) -> _Number | None:
    return before if now is None else now


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _totals(path: Path) -> dict[str, int] | None:
    """Sum bytes over all devices: lines of `8:0 Read 4096` (version 1) or `8:0 rbytes=4096 wbytes=0` (version 2)."""
    found: dict[str, int] = {}
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            _, *words = line.split()
            pairs = [word.split("=") for word in words] if "=" in line else [words]
            for key, value in (pair for pair in pairs if len(pair) == 2):  # noqa: PLR2004
                found[key] = found.get(key, 0) + int(value)
    except (OSError, ValueError):
        return None
    return found


def _cpu_stat(folder: Path) -> float | None:
    try:
        stat = dict(line.split() for line in (folder / "cpu.stat").read_text(encoding="ascii").splitlines())
        return int(stat["usage_usec"]) / MICROSECONDS
    except (OSError, ValueError, KeyError):
        return None


def _pressure_s(folder: Path) -> float | None:
    """Return the total of `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`, which is in microseconds."""
    try:
        first = (folder / "cpu.pressure").read_text(encoding="ascii").splitlines()[0]
        return int(first.rpartition("total=")[2]) / MICROSECONDS
    except (OSError, ValueError, IndexError):
        return None


def _pids(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []


def _waits(pids: Iterable[int], proc: Path) -> dict[int, int]:
    """Return the nanoseconds that each thread of these processes has waited to run, the second number of schedstat."""
    found: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            for thread in (proc / str(pid) / "task").iterdir():
                with suppress(OSError, ValueError, IndexError):
                    found[int(thread.name)] = int((thread / "schedstat").read_text(encoding="ascii").split()[1])
    return found
