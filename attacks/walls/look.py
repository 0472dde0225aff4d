"""What the host sees of the processes in a container, from outside: their rights, namespaces, mounts, descriptors, network.

Everything is a line of text, so that what an attack obtained is what was not there before it. Nothing here asks the
container; what the kernel does not show to this user is left out.
"""

import ctypes
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WRITABLE = ("/tmp", "/cache", "/dev/shm", "/out", "/dev/mqueue")
NO_PROGRAMS = ("/tmp/", "/dev/shm/", "/out/")  # nothing there may be executed
HARMLESS_DEVICES = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), *((136, n) for n in range(64))}
HARMLESS_OBJECTS = {"[eventpoll]", "[eventfd]", "[signalfd]", "[timerfd]", "[pidfd]", "inotify"}
HARMLESS_SOCKETS = {"TCP", "TCPv6", "UDP", "UDPv6", "UNIX", "UNIX-STREAM", "NETLINK"}
KERNELS = {"proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "binfmt_misc", "bpf", "devtmpfs"}
STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "VmLck")
MANY_FILES = 65536
LARGE = (16 << 20) + 4096
CONNECTED = "01"
CLONE_NEWUTS = 0x04000000


Holdings = dict[int, frozenset[str]]  # by process; 0 is what they share


def held(pid: int) -> Holdings:
    """Return what the process and each of its descendants hold, as far as it is worth an attack."""
    found: Holdings = {}
    shared: set[str] = set()
    seen: set[str] = set()  # namespaces
    for one in family(pid):
        proc, own = Path(f"/proc/{one}"), set[str]()
        for facts in (status, namespaces, mounts, bounds, programs, descriptors, many_files):
            with suppress(OSError, ValueError, LookupError):  # it has ended
                own.update(facts(proc))
        found[one] = frozenset(own)
        with suppress(OSError):
            if (network := str((proc / "ns/net").readlink())) not in seen:
                shared.update(connections(proc, own=network == str(Path("/proc/self/ns/net").readlink())))
            if (machine := str((proc / "ns/uts").readlink())) not in seen:
                shared.update(machine_names(proc / "ns/uts"))
            seen |= {network, machine}
    return {**found, 0: frozenset(shared)}


def acquired(before: Holdings, after: Holdings) -> list[str]:
    """List what is new; of a new process, what no process held before."""
    known = frozenset().union(*before.values())
    return sorted({fact for pid, facts in after.items() for fact in facts - before.get(pid, known)})


def family(pid: int) -> Iterator[int]:
    """Yield a process and all of its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from family(int(child))


def lines(path: Path) -> list[str]:
    """Read the lines of a file; [] if it does not exist."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def status(proc: Path) -> Iterator[str]:
    """Yield the process's identity and rights."""
    known = dict(line.split(":", 1) for line in lines(proc / "status") if ":" in line)
    yield from (f"{name} {' '.join(known[name].split())}" for name in STATUS if name in known)
    if known.get("TracerPid", "0").strip() != "0":
        yield "traced"


def namespaces(proc: Path) -> Iterator[str]:
    """Yield its namespaces and its root."""
    for link in (proc / "ns").iterdir():
        with suppress(OSError):  # that of children, before there is one
            yield f"namespace {link.name} {link.readlink()}"
    yield f"root {(proc / 'root').readlink()}"
    yield from (f"cgroup {line}" for line in lines(proc / "cgroup"))


def machine_names(uts: Path) -> list[str]:
    """Read host and domain name in that namespace, in a thread that ends afterwards."""
    found: list[str] = []

    def read() -> None:
        with suppress(OSError), uts.open() as namespace:
            if ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWUTS) == 0:
                names = ("hostname", "domainname")
                found.extend(f"{name} {lines(Path('/proc/sys/kernel', name))}" for name in names)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return found


def mounts(proc: Path) -> Iterator[str]:
    """Yield each mount with its options, and how many there are."""
    every = lines(proc / "mountinfo")
    yield f"{len(every)} mounts"
    yield from (f"mount {line}" for line in every)


def bounds(proc: Path) -> Iterator[str]:
    """Yield its resource limits and priorities."""
    yield from (f"limit {' '.join(line.split())}" for line in lines(proc / "limits"))
    yield f"oom_score_adj {lines(proc / 'oom_score_adj')}"
    yield f"personality {lines(proc / 'personality')}"
    fields = (proc / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    yield f"nice {fields[16]}, scheduler {fields[38]}"


def programs(proc: Path) -> Iterator[str]:
    """Yield programs mapped from places where execution is forbidden, and its System V memory."""
    with suppress(OSError):
        if (program := str((proc / "exe").readlink())).startswith(NO_PROGRAMS):
            yield f"runs {program}"
    for line in lines(proc / "maps"):
        _, rights, _, _, _, *name = line.split(None, 5)
        if name and (name[0].startswith("/SYSV") or ("x" in rights and name[0].startswith(NO_PROGRAMS))):
            yield f"maps {rights} {name[0]}"


def descriptors(proc: Path) -> Iterator[str]:
    """Yield what it has open beyond ordinary files, pipes and sockets."""
    places = {words[0]: words for words in map(str.split, lines(proc / "mountinfo"))}
    for link in (proc / "fd").iterdir():
        with suppress(OSError):
            yield from descriptor(link, lines(proc / "fdinfo" / link.name), places)


def descriptor(link: Path, info: list[str], places: dict[str, list[str]]) -> Iterator[str]:
    """Yield what one descriptor gives access to, unless it is harmless."""
    target = str(link.readlink())
    if target.startswith("anon_inode:"):
        kind = target.removeprefix("anon_inode:")
        if kind not in HARMLESS_OBJECTS:
            yield f"object {kind}"
    elif target.startswith("socket:"):
        kind = os.getxattr(link, "system.sockprotoname").rstrip(b"\0").decode()
        if kind not in HARMLESS_SOCKETS:
            yield f"socket {kind}"
    elif target.startswith("/") and not target.startswith("/memfd:"):
        yield from opened(target, link.stat(), dict(line.split(":\t", 1) for line in info if ":\t" in line), places)


def opened(target: str, facts: os.stat_result, info: dict[str, str], places: dict[str, list[str]]) -> Iterator[str]:
    """Yield an open file, folder or device."""
    if stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
        device = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
        if device not in HARMLESS_DEVICES:
            yield f"device {device} {target}"
        return
    place = places.get(info["mnt_id"])
    if place is None:
        yield f"open on a mount of its own: {target}"
        return
    if (kind := place[place.index("-") + 1]) in KERNELS:
        yield f"open on {kind}: {target}"
    if int(info["flags"], 8) & os.O_ACCMODE != os.O_RDONLY and place[4] not in WRITABLE:
        yield f"open to write: {target}"
    if facts.st_mode & stat.S_ISUID and facts.st_uid == 0:
        yield f"setuid: {target}"
    if stat.S_ISREG(facts.st_mode) and facts.st_size > LARGE:
        yield f"beyond 16 MiB: {target}"


def connections(proc: Path, *, own: bool) -> Iterator[str]:
    """Yield interfaces, addresses, routes and peers; in this machine's own network only the interfaces."""
    yield from (f"interface {line.split(':')[0].strip()}" for line in lines(proc / "net/dev")[2:])
    if own:
        return
    for name in ("fib_trie", "route", "if_inet6"):
        every = lines(proc / "net" / name)
        yield f"{len(every)} lines of {name}"
        yield from (f"{name} {line.strip()}" for line in every)
    for name in ("tcp", "tcp6", "udp", "udp6"):
        words = map(str.split, lines(proc / "net" / name)[1:])
        yield from (f"{name} to {word[2]}" for word in words if word[3] == CONNECTED)
    yield from (f"netlink {word[1]}" for word in map(str.split, lines(proc / "net/netlink")[1:]) if word[1] != "0")
    words = map(str.split, lines(proc / "net/unix"))
    yield from (f"talks to {word[7]}" for word in words if len(word) > 7 and word[5] in ("02", "03"))


def many_files(proc: Path) -> Iterator[str]:
    """Yield the places with more files than our memory file systems may hold."""
    for place in WRITABLE:
        with suppress(OSError):
            room = os.statvfs(f"{proc}/root{place}")
            if room.f_files - room.f_ffree > MANY_FILES:
                yield f"too many files on {place}"
