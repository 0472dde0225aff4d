"""The positive control: the trainer's container with its walls taken down."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.types import Role
from orchestrator.units import MIB
from orchestrator.walls.engine import Engine
from orchestrator.walls.experiment_sandbox import ExperimentSandbox
from orchestrator.walls.spec import ContainerSpec

CAPABILITIES = [  # by their number in the kernel, as far as the oldest engine knows them
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Weaker:
    """What a control needs beyond that."""

    host: Mapping[str, Any] = field(default_factory=dict)  # of the engine's host configuration
    config: Mapping[str, Any] = field(default_factory=dict)  # of the rest
    mounts: Sequence[dict[str, Any]] = ()
    environment: Sequence[str] = ()
    patience_s: float = 0.0  # how long its deadline is overlooked
    keeps: list[bytes] | None = None  # everything it prints goes there


class WeakEngine(Engine):
    """Starts what it is asked for with its walls taken down and without reading back.

    What it may reach of the host is what a probe's control needs and no more; memory, processes and life stay bounded.
    """

    weaker: Weaker

    def _body(self, spec: ContainerSpec) -> dict[str, Any]:
        config = super()._body(spec)
        config.update(User="0:0", NetworkDisabled=False, Env=[*config["Env"], *self.weaker.environment])
        config["Cmd"] = [word for word in config["Cmd"] if "=" not in word]  # the guard's limits
        config.update(self.weaker.config)
        config["HostConfig"] = self._host(config["HostConfig"])
        return config

    def _read_back(self, container_id: str, spec: ContainerSpec, config: dict[str, Any], folder: Path) -> None:
        """Skip the comparison: the weak container differs on purpose."""

    def _host(self, host: dict[str, Any]) -> dict[str, Any]:
        no_walls = {
            "CapAdd": capabilities(), "CapDrop": [], "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
            "ReadonlyRootfs": False, "MaskedPaths": [], "ReadonlyPaths": [], "DeviceCgroupRules": ["a *:* rwm"],
            "Ulimits": [], "Runtime": self.describe()["default_runtime"], "OomScoreAdj": 0, "NanoCpus": 0,
            "Memory": 1024 * MIB, "MemorySwap": 1024 * MIB, "PidsLimit": 600, "ShmSize": 64 * MIB,
            "UsernsMode": "host",  # where the engine maps users, only without that may one share the host's namespaces
        }  # fmt: skip
        if self.is_podman:
            no_walls["SecurityOpt"] = ["seccomp=unconfined", "unmask=ALL"]
            no_walls["OomScoreAdj"] = 200  # a user's session has 100 from systemd, and without root none goes below
        if self.weaker.host.get("IpcMode") == "host":
            del host["ShmSize"], no_walls["ShmSize"]  # the host has its own
        shared = {"/dev/shm"} if self.weaker.host.get("IpcMode") == "host" else set()
        roomy = f"rw,exec,suid,dev,size={64 * MIB},nr_inodes=400000,mode=1777"
        return {
            **host,
            **no_walls,
            "Tmpfs": dict.fromkeys(host["Tmpfs"].keys() - shared, roomy),
            "Mounts": [*({**mount, "ReadOnly": False} for mount in host["Mounts"]), *self.weaker.mounts],
            **self.weaker.host,
        }

    def volume(self, name: str, size: int, labels: dict[str, str]) -> None:
        """Create a volume with four times the room."""
        super().volume(name, size * 4, labels)

    def attach_and_start(self, container_id: str) -> Iterator[tuple[str, bytes]]:
        """Keep all of it, as a careless reader does."""
        return self._kept(super().attach_and_start(container_id))

    def _kept(self, pieces: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        for stream, data in pieces:
            if self.weaker.keeps is not None:
                self.weaker.keeps.append(data)
            yield stream, data


def bind(source: Path, target: str) -> dict[str, object]:
    """Build a mount for the weak container."""
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": False}


class PatientSandbox(ExperimentSandbox):
    """Overlooks deadlines for as long as the control of a probe needs it; on a strong engine it overlooks none."""

    def deadline_s(self, role: Role) -> float:
        """Return the seconds from a container's start to SIGKILL."""
        engine = self.place.engine
        return super().deadline_s(role) + (engine.weaker.patience_s if isinstance(engine, WeakEngine) else 0.0)


def capabilities() -> list[str]:
    """List every capability this machine can grant; a virtual machine may lack some."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    bounds = int(next(line for line in status.splitlines() if line.startswith("CapBnd")).split()[1], 16)
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bounds >> number & 1]
