"""What a container has used, read from its cgroup without asking the engine; cgroup v1 and v2."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT, PROC = Path("/sys/fs/cgroup"), Path("/proc")
NANOSECONDS, MICROSECONDS = 1e9, 1e6
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """None where the host does not say."""

    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    peak_pids: int | None = None
    read_bytes: int | None = None  # from block devices; what lies in memory is not among it
    written_bytes: int | None = None


def read(pid: int, container_id: str, before: Usage) -> Usage:
    """Read the counters of the container's cgroup, found by its process `pid`; unreadable ones keep their value.

    A process that has ended, or whose number another one has by now, is in no cgroup of that container.
    """
    try:
        lines = (PROC / str(pid) / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return before
    lines = [line for line in lines if container_id in line]
    groups = {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}
    if "memory" in groups:
        now = _version_1(groups)
    elif "" in groups:
        now = _version_2(ROOT / groups[""].lstrip("/"))
    else:
        return before
    return Usage(
        peak_memory_bytes=_known(now.peak_memory_bytes, before.peak_memory_bytes),
        cpu_s=_known(now.cpu_s, before.cpu_s),
        peak_pids=max(now.peak_pids or 0, before.peak_pids or 0) or None,
        read_bytes=_known(now.read_bytes, before.read_bytes),
        written_bytes=_known(now.written_bytes, before.written_bytes),
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
