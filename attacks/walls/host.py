"""What the host sees of a container by itself: its counters, its limits, its processes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.walls.container import RunningContainer

ROOT = Path("/sys/fs/cgroup")


def cgroups_of(running: RunningContainer) -> dict[str, str]:
    """Return the container's cgroup path by hierarchy, as the host names it; {} if it has no process."""
    pid = running._engine.inspect(running.id)["State"].get("Pid") or 0  # noqa: SLF001
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    parts = [line.split(":", 2) for line in lines if running.id in line]
    return {name: path.lstrip("/") for _, names, path in parts for name in names.split(",")}


def file_of(folders: dict[str, str], first: str, second: str) -> Path | None:
    """Return the file of the container's cgroup, by its name in version 1 or 2; None if it does not exist."""
    controller, _, name = first.partition("/")
    if controller in folders:
        path = ROOT / controller / folders[controller] / name
    elif "" in folders:
        path = ROOT / folders[""] / second
    else:
        return None
    return path if path.is_file() else None


def while_alive(running: RunningContainer) -> Iterator[dict[str, str]]:
    """Yield the container's cgroups repeatedly until it has ended."""
    folders: dict[str, str] = {}
    while running.alive():
        folders = folders or cgroups_of(running)
        yield folders
        time.sleep(0.02)


def processes(mark: str) -> list[int]:
    """List the host's processes whose command line contains `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def memory_mib() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
