"""A container spec as the body of the engine's create call: every wall by its name.

Covered: no network, no capabilities, no new privileges, our own seccomp profile, a non-root user, a read-only root,
only the declared writable mounts (size-capped, in memory; only the compile cache executable), limits on memory (swap
included), processors, processes, files and locked memory, private namespaces, no devices but a leased GPU by its
UUID, an allowlist of environment variables, bounded logs, a local image by its id.

Not covered: one kernel and one GPU driver are shared with the host; GPU memory cannot be capped; the page cache
shares inodes of read-only mounts (so every experiment has private copies, hashed before and after). See SECURITY.md.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.walls.spec import ContainerSpec, Mount

SHM = "/dev/shm"  # noqa: S108
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
OF_NVIDIA = {  # what its runtime obeys, and takes for more where it is empty
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    "NVIDIA_VISIBLE_DEVICES": "void",
}


def create_body(spec: ContainerSpec, image_variables: Iterable[str] = ()) -> dict[str, Any]:
    """Return the body of the engine's create call; every security-relevant field is named, defaults included.

    The variables that the image sets would be inherited: they are emptied, as python's and CUDA's images set many.
    The spec is not checked here: `spec_policy.validate_spec` does it.
    """
    environment = {name: OF_NVIDIA.get(name, "") for name in image_variables} | dict(spec.environment)
    return {
        "Image": spec.image_id,
        "Entrypoint": [],
        "Cmd": list(spec.argv),
        "User": spec.user,
        "WorkingDir": "/tmp",  # noqa: S108  # a tmpfs of the container
        "Env": [f"{key}={value}" for key, value in sorted(environment.items())],
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
            SHM: f"rw,noexec,nosuid,nodev,size={limits.shm},nr_inodes=65536,mode=1777",  # in place of the engine's own
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
            {"Name": name, "Soft": value, "Hard": value} for name, value in limits.of_process.items()
        ],  # the guard sets them too, for engines that do not
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": spec.userns,
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
    source = mount.source if mount.volume else str(Path(mount.source).resolve())  # what was looked at
    return {**options, "Source": source, "Target": mount.target, "ReadOnly": not mount.writable}
