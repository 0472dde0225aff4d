"""Is this machine fit and safe: one check per line, ok / weak / unsafe, why, and the mend. What is unknown is never ok."""

import grp
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator import gpu
from orchestrator.errors import AutoresearchError

GIB = 1 << 30
LEAST_DISK_GIB = 10
# Least versions by branch, as of November 2026: one tuple per branch that still gets mends
LEAST = {
    "Docker Engine": ((29, 7, 1),),
    "runc": ((1, 3, 6), (1, 4, 3)),
    "NVIDIA Container Toolkit": ((1, 19, 1),),
    "NVIDIA driver": ((535, 309, 1), (580, 159, 3)),
}


class Judgement(StrEnum):
    """What a check came to."""

    OK = "ok"
    WEAK = "weak"
    UNSAFE = "unsafe"


COLOURS = {Judgement.OK: "green", Judgement.WEAK: "yellow", Judgement.UNSAFE: "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line."""

    name: str
    judgement: Judgement
    detail: str
    mend: str = ""


def examine(info: Mapping[str, Any], task: Path) -> list[Check]:
    """Every check; `info` is what the engine says of itself."""
    version = info.get("Version") or {}
    components = {str(c.get("Name", "")).lower(): str(c.get("Version", "")) for c in version.get("Components") or []}
    return [
        version_check("Docker Engine", str(version.get("Version", "")), "own seccomp profile, no exec, cp or archive calls"),
        version_check("runc", components.get("runc", ""), "no capabilities, no new privileges, private copies"),
        seccomp_check(info.get("SecurityOptions") or []),
        lsm_check(info.get("SecurityOptions") or []),
        user_namespace_check(info.get("SecurityOptions") or []),
        cgroup_check(info),
        kernel_check(str(info.get("KernelVersion", ""))),
        socket_check(Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))),
        disk_check(task),
        *gpu_checks(),
    ]


def version_check(name: str, found: str, mitigation: str) -> Check:
    """A version against the least one of its branch; a version nobody can read is weak."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", found.split("+")[0].split("~")[0])[:3])
    least = LEAST[name]
    wanted = " / ".join(".".join(map(str, branch)) for branch in least)
    if len(numbers) < 2:  # noqa: PLR2004  # no version
        return Check(name=name, judgement=Judgement.WEAK, detail="version unknown", mend=f"{wanted} or newer is known to be mended")
    branch = next((b for b in least if b[:2] == numbers[:2]), max(least))
    if numbers >= branch:
        return Check(name=name, judgement=Judgement.OK, detail=found)
    return Check(
        name=name,
        judgement=Judgement.WEAK,
        detail=f"{found} lacks known mends; what limits the harm: {mitigation}",
        mend=f"update to {wanted} or newer",
    )


def seccomp_check(options: list[str]) -> Check:
    """Without it no profile is enforced."""
    if any("seccomp" in option for option in options):
        return Check(name="seccomp", judgement=Judgement.OK, detail="the engine enforces profiles; ours is used")
    return Check(name="seccomp", judgement=Judgement.UNSAFE, detail="the engine enforces no profile", mend="use a kernel and engine with seccomp")


def lsm_check(options: list[str]) -> Check:
    """A second wall behind the first."""
    found = [name for name in ("apparmor", "selinux") if any(name in option for option in options)]
    if found:
        return Check(name="LSM", judgement=Judgement.OK, detail=found[0])
    return Check(name="LSM", judgement=Judgement.WEAK, detail="neither AppArmor nor SELinux", mend="enable AppArmor in the kernel")


def user_namespace_check(options: list[str]) -> Check:
    """Whether root inside is root outside."""
    if any("rootless" in option or "userns" in option for option in options):
        return Check(name="user namespaces", judgement=Judgement.OK, detail="root inside is nobody outside")
    mend = "use rootless Podman, rootless Docker, or userns-remap in daemon.json"
    return Check(name="user namespaces", judgement=Judgement.WEAK, detail="the engine runs as root, and root inside would be root outside (ours runs as 65532)", mend=mend)


def cgroup_check(info: Mapping[str, Any]) -> Check:
    """Limits need a controller behind each of them."""
    missing = [name for name in ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit") if not info.get(name)]
    version = f"cgroup v{info.get('CgroupVersion') or '?'}"
    if not missing:
        return Check(name="limits", judgement=Judgement.OK, detail=f"{version}: memory, swap, processors and processes")
    only_swap = missing == ["SwapLimit"]
    return Check(
        name="limits",
        judgement=Judgement.WEAK if only_swap else Judgement.UNSAFE,
        detail=f"{version}: the engine cannot limit {', '.join(missing)}",
        mend="boot with swapaccount=1" if only_swap else "use cgroup v2 with delegation, or an engine that runs as root",
    )


def kernel_check(found: str) -> Check:
    """Which kernel everyone shares; distributions mend without raising the number, so a new one is no proof."""
    return Check(name="kernel", judgement=Judgement.WEAK, detail=f"{found or 'unknown'}, shared with every container; whether it is mended cannot be seen", mend="keep it up to date; RUNTIME=runsc puts another kernel in between")


def socket_check(path: Path) -> Check:
    """Who else can reach the engine is as good as root on this host."""
    try:
        status = path.stat()
    except OSError:
        return Check(name="engine socket", judgement=Judgement.WEAK, detail=f"{path} cannot be looked at", mend="check who can reach it")
    if status.st_mode & stat.S_IWOTH:
        return Check(name="engine socket", judgement=Judgement.UNSAFE, detail=f"{path}: everyone can write to it", mend=f"chmod o-rw {path}")
    try:
        group = grp.getgrgid(status.st_gid)
    except KeyError:
        return Check(name="engine socket", judgement=Judgement.WEAK, detail=f"{path}: group {status.st_gid} has no name", mend="check who is in it")
    others = [name for name in group.gr_mem if name != os.environ.get("USER")]
    if status.st_mode & stat.S_IWGRP and others:
        detail = f"{path}: {', '.join(others)} of group {group.gr_name} can use it, which is as good as root"
        return Check(name="engine socket", judgement=Judgement.WEAK, detail=detail, mend="rootless Podman gives each user an engine of their own")
    return Check(name="engine socket", judgement=Judgement.OK, detail=f"{path}: nobody else")


def disk_check(task: Path) -> Check:
    """Room for records."""
    free = shutil.disk_usage(task).free / GIB
    if free >= LEAST_DISK_GIB:
        return Check(name="disk", judgement=Judgement.OK, detail=f"{free:.0f} GiB free")
    return Check(name="disk", judgement=Judgement.WEAK, detail=f"{free:.1f} GiB free", mend=f"free {LEAST_DISK_GIB} GiB, or use --runs DIR")


def gpu_checks() -> list[Check]:
    """Devices, driver and toolkit; none is fine for the cpu profile."""
    try:
        devices = gpu.devices()
    except AutoresearchError as error:
        return [Check(name="GPU", judgement=Judgement.WEAK, detail=f"none usable: {error}", mend="PROFILE=cpu needs none")]
    if not devices:
        return [Check(name="GPU", judgement=Judgement.WEAK, detail="none", mend="PROFILE=cpu needs none")]
    checks = [Check(name="GPU", judgement=Judgement.OK, detail=f"{device.name} {device.uuid}") for device in devices]
    checks.append(version_check("NVIDIA driver", devices[0].driver, "only the leased device is visible"))
    checks.append(version_check("NVIDIA Container Toolkit", _toolkit_version(), "only the leased device is asked for, by UUID"))
    return checks


def _toolkit_version() -> str:
    found = next(Path("/usr/share/doc").glob("nvidia-container-toolkit-base*"), None)
    listed = Path("/var/lib/dpkg/status")
    if found is None or not listed.is_file():
        return ""
    match = re.search(r"^Package: nvidia-container-toolkit\n(?:.+\n)*?Version: (\S+)", listed.read_text(errors="replace"), re.MULTILINE)
    return match[1] if match else ""


def table_of(checks: list[Check]) -> Table:
    """One row per check."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("check", "", "what is so", "the mend"):
        table.add_column(name)
    for check in checks:
        table.add_row(check.name, Text(check.judgement, COLOURS[check.judgement]), check.detail, check.mend)
    return table
