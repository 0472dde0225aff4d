"""Who owns a container or volume: labels that tell a reaper whether its orchestrator still lives."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.walls.spec import LABEL

AFTER_DEADLINE_S = 60


def labels(*, tag: str, experiment_id: int, attempt: int, role: str, dies_in_s: float) -> dict[str, str]:
    """What every container and volume of an experiment carries."""
    return {
        LABEL: "1",
        f"{LABEL}.run": tag,
        f"{LABEL}.experiment": str(experiment_id),
        f"{LABEL}.attempt": str(attempt),
        f"{LABEL}.role": role,
        f"{LABEL}.uid": str(os.getuid()),
        f"{LABEL}.owner": f"{_boot()}:{os.getpid()}:{_start(os.getpid())}",
        f"{LABEL}.deadline": str(int(time.time() + dies_in_s)),
    }


def is_gone(found: Mapping[str, str]) -> bool:
    """Whether the owner is dead or the deadline has passed by a minute; what another user owns is left to them."""
    if LABEL not in found or found.get(f"{LABEL}.uid") != str(os.getuid()):
        return False
    boot, pid, start = [*found.get(f"{LABEL}.owner", "").split(":"), "", "", ""][:3]
    dead = boot == _boot() and not (pid.isdigit() and _start(int(pid)) == start)
    deadline = found.get(f"{LABEL}.deadline", "0")
    return dead or boot != _boot() or time.time() > float(deadline or 0) + AFTER_DEADLINE_S


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start(pid: int) -> str:
    """When a process began, in ticks since boot: a pid alone is used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
