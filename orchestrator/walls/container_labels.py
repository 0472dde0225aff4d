"""Who owns a container or volume: labels that tell a reaper whether its orchestrator still lives."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.walls.spec import LABEL

AFTER_DEADLINE_S = 60


def owner_labels(*, tag: str, experiment_id: int, attempt: int, role: str, dies_in_s: float) -> dict[str, str]:
    """Build the labels of every container and volume of an experiment."""
    return {
        LABEL: "1",
        f"{LABEL}.run": tag,
        f"{LABEL}.experiment": str(experiment_id),
        f"{LABEL}.attempt": str(attempt),
        f"{LABEL}.role": role,
        f"{LABEL}.uid": str(os.getuid()),
        f"{LABEL}.owner": f"{_boot()}:{os.getpid()}:{_start(os.getpid())}",
        f"{LABEL}.namespace": _namespace(),
        f"{LABEL}.deadline": str(int(time.time() + dies_in_s)),
        f"{LABEL}.monotonic": str(int(time.monotonic() + dies_in_s)),  # the deadline, however the clock is set
    }


def belongs_to(owner: str, found: Mapping[str, str]) -> bool:
    """Return whether labels name this owner, a process of this user, as `boot:pid:start`."""
    return LABEL in found and (found.get(f"{LABEL}.uid"), found.get(f"{LABEL}.owner")) == (str(os.getuid()), owner)


def is_orphaned(found: Mapping[str, str]) -> bool:
    """Return whether the owner is dead or the deadline passed a minute ago; other users' containers are left to them.

    Of an owner on another machine, before a reboot or in another container nobody here knows whether they are alive:
    then the deadline alone counts.
    """
    if LABEL not in found or found.get(f"{LABEL}.uid") != str(os.getuid()):
        return False
    boot, pid, start = [*found.get(f"{LABEL}.owner", "").split(":"), "", "", ""][:3]
    if boot != _boot():
        return time.time() > float(found.get(f"{LABEL}.deadline") or 0) + AFTER_DEADLINE_S
    ours = found.get(f"{LABEL}.namespace", _namespace()) == _namespace()
    dead = ours and not (pid.isdigit() and _start(int(pid)) == start)
    return dead or time.monotonic() > float(found.get(f"{LABEL}.monotonic", "inf")) + AFTER_DEADLINE_S


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    """Return the pid namespace, within which a pid is unique: two containers on one machine each have a pid 1."""
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _start(pid: int) -> str:
    """Return when a process began, in ticks since boot: pids are reused."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
