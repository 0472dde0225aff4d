"""What a container has used, read from its cgroup without asking the engine; cgroup v1 and v2."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NANOSECONDS, MICROSECONDS = 1e9, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """None where the host does not say."""

    peak_memory_bytes: int | None = None
    cpu_s: float | None = None


def read(pid: int, container_id: str, before: Usage) -> Usage:
    """The counters of the container's cgroup, which its process `pid` tells; what cannot be read stays as it was.

    A process that has ended, or whose number another one has by now, is in no cgroup of that container.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return before
    lines = [line for line in lines if container_id in line]
    groups = {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}
    if "memory" in groups:
        peak = _number(ROOT / "memory" / groups["memory"].lstrip("/") / "memory.max_usage_in_bytes")
        nanoseconds = _number(ROOT / "cpuacct" / groups.get("cpuacct", groups["memory"]).lstrip("/") / "cpuacct.usage")
        cpu = None if nanoseconds is None else nanoseconds / NANOSECONDS
    else:
        if "" not in groups:
            return before
        folder = ROOT / groups[""].lstrip("/")
        peak = _number(folder / "memory.peak")
        cpu = _cpu_stat(folder)
    return Usage(
        peak_memory_bytes=before.peak_memory_bytes if peak is None else peak, cpu_s=before.cpu_s if cpu is None else cpu
    )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _cpu_stat(folder: Path) -> float | None:
    try:
        stat = dict(line.split() for line in (folder / "cpu.stat").read_text(encoding="ascii").splitlines())
        return int(stat["usage_usec"]) / MICROSECONDS
    except (OSError, ValueError, KeyError):
        return None
