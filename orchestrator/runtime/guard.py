"""PID 1 of every container: the killer inside. Standard library only.

Starts the program in a session of its own, reaps what it leaves behind, and ends the container when the program ends or
its hard limit is over, whichever comes first. PID 1 cannot be killed from inside its namespace, and is not dumpable, so
the program can neither stop it, trace it nor write its memory. It outlives an orchestrator that was killed.
"""

import ctypes
import os
import resource
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

PR_SET_DUMPABLE = 4
FROM_OUTSIDE = 128 + signal.SIGKILL  # how PID 1 ends if it is killed, so no program's own end is reported by it
OUT_OF_MEMORY = 128 + 65  # read by walls/container.py, as is the next; not every engine reports it
BY_ITSELF = 128 + 64  # past every signal: what would be the same code, but came from inside
EVENTS = Path("/sys/fs/cgroup/memory.events")
WARM, CACHE, KEPT = (
    Path("/warm"),
    Path("/cache"),
    Path("/out/cache"),
)  # compile caches: given, in use, and kept if the host asks for it


def copy_plain(source: Path, target: Path) -> None:
    """Copy the plain files of a tree, follow nothing, keep no mode; what does not fit is left out."""
    for root, _folders, names in os.walk(source):
        place = target / Path(root).relative_to(source)
        try:
            place.mkdir(parents=True, exist_ok=True)
            for name in names:
                path = Path(root, name)
                if stat.S_ISREG(path.lstat().st_mode):
                    shutil.copyfile(path, place / name)
        except OSError as error:
            print(f"warning: {place}: {error.strerror}", file=sys.stderr, flush=True)


def child_exit(limit_s: float, child: int) -> int:
    """Wait for the child until the limit; its exit code as a shell would say it, but for SIGKILL."""
    deadline = time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            pid, status = os.waitpid(-1, 0)
        except InterruptedError:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            if code and out_of_memory():
                return OUT_OF_MEMORY
            return BY_ITSELF if code == FROM_OUTSIDE else code
    return FROM_OUTSIDE


def out_of_memory() -> bool:
    """Return whether the kernel killed anything in this container for its memory; known under cgroup v2."""
    try:
        events = dict(line.split() for line in EVENTS.read_text().splitlines())
    except (OSError, ValueError):
        return False
    return events.get("oom_kill", "0") != "0"


def interrupted(_number: int, _frame: object) -> None:
    """Break waitpid when the limit is over."""
    raise InterruptedError


def set_limit(which: int, value: int) -> None:
    """Set a limit unless the engine has; gVisor refuses to set some limits from inside, even to their current value."""
    if resource.getrlimit(which) != (value, value):
        resource.setrlimit(which, (value, value))


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Split the words at the first `--`."""
    at = words.index("--")
    return words[:at], words[at + 1 :]


def main() -> None:
    """Run `guard.py LIMIT_S [NAME=LIMIT ...] [--keep-cache] -- PROGRAM [ARGUMENT ...]`; LIMITs by ulimit's names."""
    limit_s, options, program = float(sys.argv[1]), *split(sys.argv[2:])
    for name, limit in (option.split("=") for option in options if "=" in option):
        set_limit(getattr(resource, f"RLIMIT_{name.upper()}"), int(limit))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGALRM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, interrupted)
    environment = {**os.environ, "AUTORESEARCH_STARTED": repr(time.monotonic())}
    child = os.fork()
    if child == 0:
        os.setsid()
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        if WARM.is_dir():
            copy_plain(WARM, CACHE)
        try:
            os.execvpe(program[0], program, environment)  # noqa: S606  # an argv list of the host's
        except OSError as error:
            print(f"error: {program[0]}: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(127)
    code = child_exit(limit_s, child)
    if code == 0 and "--keep-cache" in options:
        copy_plain(CACHE, KEPT)
    os._exit(code)  # PID 1 gone: the kernel kills whatever is left


if __name__ == "__main__":
    main()
