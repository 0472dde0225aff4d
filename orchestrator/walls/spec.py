"""One container before it exists, as plain data; spec_policy.py refuses a weak one, create_body.py asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.types import Role
from orchestrator.units import MIB

UID = 65532
USER = f"{UID}:{UID}"
LABEL = "autoresearch"
GUARD = "/locked/guard.py"
SIGNALS = 4096  # queued; the kernel holds each, and counts those of all containers together


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A bind of a host path (absolute `source`), or a tmpfs volume by its name."""

    source: str
    target: str
    volume: bool = False
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Hard limits; bytes, processors, counts."""

    memory: int
    cpus: float
    pids: int
    tmp: int
    cache: int
    shm: int
    cpuset: str = ""  # "" is every processor
    files: int = 4096  # open at once
    file_size: int = 64 << 30  # the volumes' sizes are tighter; this one is for what has none

    @property
    def of_process(self) -> dict[str, int]:
        """Soft and hard limits of every process, by their names in ulimit.

        Not `nproc`: the kernel counts a user's processes in all containers together. `pids` counts them in each.
        """
        return {
            "core": 0, "fsize": self.file_size, "memlock": MIB // 16, "msgqueue": 0, "nice": 0, "nofile": self.files,
            "rtprio": 0, "sigpending": SIGNALS,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container before it exists. `create_body` is the engine's view of it."""

    role: Role
    name: str
    image_id: str
    program: tuple[str, ...]
    hard_limit_s: float  # the guard inside ends it then, should the host not have
    mounts: tuple[Mount, ...]
    resources: Resources
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    seccomp: str  # the profile's JSON text
    shared_data: tuple[str, ...] = ()  # names below /data that the task shares among its containers
    runtime: str = ""  # "" is the engine's default
    gpu_uuid: str | None = None
    user: str = USER
    userns: str = ""  # "host" only for what writes files of yours, where the engine remaps users
    log_bytes: int = field(default=8 * MIB)
    keep_cache: bool = False  # into /out, when it ends well: only for the human's own train.py (warm.py)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line of PID 1."""
        options = ("--keep-cache",) if self.keep_cache else ()
        limits = tuple(f"{name}={value}" for name, value in self.resources.of_process.items())
        return ("python3", "-s", "-B", GUARD, f"{self.hard_limit_s:g}", *limits, *options, "--", *self.program)
