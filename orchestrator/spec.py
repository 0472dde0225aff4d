"""The one place that builds a container: every wall as plain data, and what weakens one refused.

Covered: no network, no capabilities, no new privileges, our own seccomp profile, a non-root user, a read-only root, only
the declared writable mounts (size-capped, in memory; only the compile cache executable), limits on memory (swap
included), processors, processes, files and locked memory, private namespaces, no devices but a leased GPU by its
UUID, an allowlist of environment variables, bounded logs, a local image by its id.

Not covered: one kernel and one GPU driver are shared with the host; GPU memory cannot be capped; the page cache
shares inodes of read-only mounts (so every experiment has private copies, hashed before and after). See SECURITY.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import SpecRefused
from orchestrator.types import Role

UID = 65532
USER = f"{UID}:{UID}"
LABEL = "autoresearch"
MIB = 1 << 20
WRITABLE = {  # the only places a role may write to, tmpfs apart
    Role.TRAINER: {"/out"},
    Role.PREDICTOR_A: {"/answer"},
    Role.PREDICTOR_B: {"/answer"},
    Role.SCORER: {"/ask-a", "/ask-b"},
    Role.PREPARE: {"/staging"},
}
ENVIRONMENT = frozenset(
    "AUTORESEARCH_PROFILE AUTORESEARCH_TIME_BUDGET AUTORESEARCH_SEED HOME USER TMPDIR TORCHINDUCTOR_CACHE_DIR "
    "TRITON_CACHE_DIR CUDA_CACHE_PATH PYTHONPATH PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED OMP_NUM_THREADS PATH LANG".split()
)
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container before it exists. `as_config` is the engine's view of it."""

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
    runtime: str = ""  # "" is the engine's default
    gpu_uuid: str | None = None
    user: str = USER
    log_bytes: int = field(default=8 * MIB)

    @property
    def argv(self) -> tuple[str, ...]:
        """What PID 1 is."""
        return ("python3", "-s", "-B", "/locked/guard.py", f"{self.hard_limit_s:g}", "--", *self.program)


def as_config(spec: ContainerSpec) -> dict[str, Any]:
    """The body of the engine's create call; every security-relevant field is named, defaults included."""
    refuse_weak(spec)
    return {
        "Image": spec.image_id,
        "Entrypoint": [],
        "Cmd": list(spec.argv),
        "User": spec.user,
        "WorkingDir": "/tmp",  # noqa: S108  # a tmpfs of the container
        "Env": [f"{key}={value}" for key, value in sorted(spec.environment.items())],
        "Labels": dict(spec.labels),
        "Hostname": "sandbox",
        "Domainname": "",
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "NetworkDisabled": True,
        "ExposedPorts": {},
        "Volumes": {},
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(spec),
    }


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    limits = spec.resources
    devices = [] if spec.gpu_uuid is None else [_device_request(spec.gpu_uuid)]
    return {
        "NetworkMode": "none",
        "PortBindings": {},
        "PublishAllPorts": False,
        "Links": [],
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": [],
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "Privileged": False,
        "SecurityOpt": ["no-new-privileges", f"seccomp={spec.seccomp}"],
        "ReadonlyRootfs": True,
        "ReadonlyPaths": list(READ_ONLY),
        "MaskedPaths": list(MASKED),
        "Binds": [],
        "VolumesFrom": [],
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "Tmpfs": {
            "/tmp": f"rw,noexec,nosuid,nodev,size={limits.tmp},nr_inodes=65536,mode=1777",  # noqa: S108
            "/cache": f"rw,exec,nosuid,nodev,size={limits.cache},nr_inodes=65536,mode=1777",
        },
        "ShmSize": limits.shm,
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "MemorySwappiness": 0,
        "MemoryReservation": 0,
        "KernelMemory": 0,
        "OomKillDisable": False,
        "OomScoreAdj": 500,
        "NanoCpus": int(limits.cpus * 1e9),
        "CpusetCpus": limits.cpuset,
        "CpusetMems": "",
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "PidsLimit": limits.pids,
        "BlkioWeight": 0,
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in (
                ("core", 0),
                ("fsize", limits.file_size),
                ("memlock", MIB // 16),
                ("nofile", limits.files),
            )
        ],
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "CgroupnsMode": "private",
        "Cgroup": "",
        "CgroupParent": "",
        "Devices": [],
        "DeviceCgroupRules": [],
        "DeviceRequests": devices,
        "GroupAdd": [],
        "Sysctls": {},
        "StorageOpt": {},
        "Runtime": spec.runtime,
        "Isolation": "",
        "Init": False,  # the guard is PID 1: it knows the deadline
        "AutoRemove": False,  # it would take the log and the exit state along
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "VolumeDriver": "",
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": str(spec.log_bytes), "max-file": "1", "compress": "false"},
        },
    }


def _device_request(uuid: str) -> dict[str, Any]:
    return {
        "Driver": "", "Count": 0, "DeviceIDs": [uuid], "Capabilities": [["gpu", "compute", "utility"]], "Options": {}
    }  # fmt: skip


def _mount(mount: Mount) -> dict[str, Any]:
    if mount.volume:
        options: dict[str, Any] = {"Type": "volume", "VolumeOptions": {"NoCopy": True}}
    else:
        options = {"Type": "bind", "BindOptions": {"Propagation": "rprivate"}}
    return {**options, "Source": mount.source, "Target": mount.target, "ReadOnly": not mount.writable}


def refuse_weak(spec: ContainerSpec) -> None:
    """Raise SpecRefused, naming the field, for a spec that weakens a wall."""
    user = spec.user.split(":")
    if len(user) != 2 or not all(part.isdigit() and int(part) > 0 for part in user):  # noqa: PLR2004  # uid:gid
        _refuse("user", spec.user, "a numeric uid:gid, neither of them root")
    if not spec.image_id.startswith("sha256:"):
        _refuse("image_id", spec.image_id, "the id of a local image, sha256:...")
    for name in ("memory", "cpus", "pids", "tmp", "cache", "shm", "files", "file_size"):
        if not getattr(spec.resources, name) > 0:
            _refuse(f"resources.{name}", getattr(spec.resources, name), "a limit above 0")
    if not spec.hard_limit_s > 0:
        _refuse("hard_limit_s", spec.hard_limit_s, "a deadline above 0")
    if not spec.program:
        _refuse("program", spec.program, "an explicit argv")
    for mount in spec.mounts:
        _refuse_mount(spec.role, mount)
    if unknown := set(spec.environment) - ENVIRONMENT:
        _refuse("environment", sorted(unknown), "variables of the allowlist only")
    if not spec.seccomp:
        _refuse("seccomp", spec.seccomp, "the profile's JSON text")
    if spec.gpu_uuid is not None and not spec.gpu_uuid.startswith(("GPU-", "MIG-")):
        _refuse("gpu_uuid", spec.gpu_uuid, "a UUID, neither an index nor all")


def _refuse_mount(role: Role, mount: Mount) -> None:
    if mount.writable and mount.target not in WRITABLE[role]:
        _refuse("mounts", mount.target, f"read-only; a {role} may write to {sorted(WRITABLE[role])} only")
    if not mount.target.startswith("/") or ".." in Path(mount.target).parts:
        _refuse("mounts", mount.target, "an absolute path")
    if not mount.volume and not Path(mount.source).is_absolute():
        _refuse("mounts", mount.source, "an absolute host path")
    if mount.source.endswith(".sock") or mount.source in ("/", "/proc", "/sys", "/dev", "/etc", "/run", "/var/run"):
        _refuse("mounts", mount.source, "a path of the experiment, not of the host")


def _refuse(name: str, value: object, wanted: str) -> None:
    message = f"container spec: {name} = {value!r} weakens a wall; it must be {wanted}"
    raise SpecRefused(message)
