"""Owners of processes, from /proc: so that a wait can name its cause. No process is ever signalled."""

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
COMMAND_CHARS = 80
MPS_NAME = "nvidia-cuda-mps"  # of nvidia-cuda-mps-control and -server; /proc cuts names to 15 characters
ENGINES = ("dockerd", "containerd", "containerd-shim", "rootlesskit", "podman", "conmon")  # cut to 15 characters
_CONTAINER = re.compile(r"[0-9a-f]{64}")


def describe(pid: int, proc: Path = PROC) -> str:
    """Describe a process as `alice's python train.py (pid 42)`, as far as this user may see it."""
    folder = proc / str(pid)
    try:
        uid = folder.stat().st_uid
        words = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        command = words or (folder / "comm").read_text(errors="replace").strip()
    except OSError:
        return f"a process that /proc does not show (pid {pid})"
    plain = "".join(c if c.isprintable() else "?" for c in command)
    return f"{_user(uid)}'s {plain[:COMMAND_CHARS]} (pid {pid})"


def containers_of(pid: int, proc: Path = PROC) -> frozenset[str]:
    """Return the ids of the containers a process is in; empty if it is in none or has ended."""
    try:
        return frozenset(_CONTAINER.findall((proc / str(pid) / "cgroup").read_text()))
    except OSError:
        return frozenset()


def is_hidden(proc: Path = PROC) -> bool:
    """Return whether other users' processes are hidden (`hidepid`): then our own containers' are too."""
    try:
        (proc / "1" / "cgroup").read_text()
    except OSError:
        return True
    return False


def describe_holder(file: int, proc: Path = PROC) -> str:
    """Describe the process that holds the flock on an open file."""
    found = os.fstat(file)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with suppress(OSError):
        for line in (proc / "locks").read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and place in words and "->" not in words:
                return describe(int(words[4]), proc)
    return "a process that /proc/locks does not show"


def mps_daemon(proc: Path = PROC) -> str:
    """Describe the MPS daemon of this machine, "" if none runs. One that runs may serve any GPU."""
    for pid in _pids(proc):
        with suppress(OSError):
            if (proc / str(pid) / "comm").read_text().startswith(MPS_NAME):
                return describe(pid, proc)
    return ""


def engine_pids(proc: Path = PROC) -> frozenset[int]:
    """Return the processes of container engines: they work for containers, ours among them, outside of their groups."""
    found = set[int]()
    for pid in _pids(proc):
        with suppress(OSError):
            if (proc / str(pid) / "comm").read_text().strip() in ENGINES:
                found.add(pid)
    return frozenset(found)


def cpu_s(pid: int, proc: Path = PROC) -> float:
    """Return the processor seconds of a process and of those it reaped; 0.0 if it has ended."""
    try:
        return _used_s((proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError, IndexError):
        return 0.0


def _used_s(stat: str) -> float:
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")


def _pids(proc: Path) -> Iterator[int]:
    return (int(path.name) for path in proc.iterdir() if path.name.isdigit())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def process_tree_cpu_s(word: str, proc: Path = PROC) -> float | None:
    """Return processor seconds of the processes with a word on their command line and their children; None if none."""
    parents, used, roots = dict[int, int](), dict[int, float](), set[int]()
    for path in proc.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            stat = (path / "stat").read_text(encoding="ascii", errors="replace")
            pid = int(path.name)
            parents[pid] = int(stat.rpartition(")")[2].split()[1])
            used[pid] = _used_s(stat)
            if word.encode() in (path / "cmdline").read_bytes():
                roots.add(pid)
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(used.get(pid, 0.0) for pid in found) if roots else None
