"""Facts about this machine, as far as this user can see them; nothing is judged or changed here."""

import grp
import os
import pwd
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from orchestrator.devices import gpu, processes
from orchestrator.devices.lease import find_occupant
from orchestrator.errors import AutoresearchError, EngineUnavailable, SandboxError
from orchestrator.execution.join import TOKEN_FILE
from orchestrator.walls import nvidia
from orchestrator.walls.engine import LIMITS, Engine
from orchestrator.walls.engine_address import find_address

PROC = Path("/proc")
FIRST_PERSON_UID = 1000
DIRECTORIES = {"sss", "ldap", "winbind", "nis", "compat"}  # sources of users that cannot be listed
PORTS = (2375, 2376)  # the engine's, without encryption and with it
LISTENS = "0A"
ACL = "system.posix_acl_access"
ACL_USER, ACL_GROUP = 0x02, 0x08
ASK_S = 10.0
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """The engine's socket, and who else can use it."""

    address: str
    setting: str = ""  # DOCKER_HOST or a context of docker, if one names it
    everyone: bool = False
    others: tuple[str, ...] = ()
    group: str = ""
    unseen: str = ""  # why it could not be inspected


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Devices and the software between them and a container; "" is unknown."""

    devices: tuple[str, ...] = ()
    driver: str = ""
    toolkit: str = ""
    mps: str = ""
    troubles: tuple[str, ...] = ()  # per device: why a loop would wait for it, or should not use it
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The input of all checks; what could not be determined is empty or None."""

    socket: Socket
    engine_error: str = ""
    podman: bool = False
    engine: str = ""
    runc: str = ""
    crun: str = ""  # in its place, on Podman
    image_store: str = ""  # containerd's, where an image has another id on each machine; "" for the classic one
    runtimes: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)  # their arguments, None if unknown
    security: tuple[str, ...] = ()
    cgroup: str = ""
    limits_missing: tuple[str, ...] = ()
    ports: tuple[int, ...] | None = ()  # the engine's ports that something listens on; None: unknown
    no_nvidia: bool = False  # the engine certainly cannot pass a GPU on
    hidden: bool = False  # /proc hides other users' processes
    kernel: str = ""
    kernel_built: date | None = None
    gpus: Gpus = field(default_factory=Gpus)
    free_bytes: Mapping[str, int | None] = field(default_factory=dict)
    people: tuple[str, ...] = ()  # other users who may log in
    cluster_token: Path | None = None  # the file of a Ray cluster's token
    token_is_shared: bool = False  # others than its owner can read it
    open_heads: tuple[int, ...] = ()  # processes of Ray heads here that ask for no token, as far as can be seen


def collect(root: Path) -> HostFacts:
    """Collect the facts; an engine that does not answer is recorded as an error."""
    try:
        with closing(Engine.connect()) as engine:
            return summarise(engine.info(), engine_error="", root=root)
    except SandboxError as error:
        return summarise({}, engine_error=str(error), root=root)


def summarise(info: Mapping[str, Any], *, engine_error: str, root: Path) -> HostFacts:
    """Collect the facts; `info` is the engine's description of itself, {} if there is none."""
    version: Mapping[str, Any] = info.get("Version") or {}
    said = {str(c.get("Name", "")): str(c.get("Version", "")).strip() for c in version.get("Components") or []}
    components = {name: text.partition("\n")[0].replace(" version ", " ") for name, text in said.items()}
    podman = any("podman" in name.lower() for name in components)
    storage = str(info.get("DockerRootDir") or "")
    return HostFacts(
        socket=_find_socket(),
        engine_error=engine_error,
        podman=podman,
        engine=str(version.get("Version") or ""),
        runc=next((text for name, text in components.items() if "runc" in name.lower()), ""),
        crun=next((text for name, text in components.items() if "crun" in name.lower()), ""),
        image_store="containerd" if "io.containerd" in str(info.get("DriverStatus") or "") else "",
        runtimes={
            name: _arguments(found or {})
            for name, found in sorted((info.get("Runtimes") or {}).items())
            if not podman or Path(str((found or {}).get("path"))).exists()  # it lists what could be installed
        },
        security=tuple(str(option) for option in info.get("SecurityOptions") or ()),
        cgroup=str(info.get("CgroupVersion") or ""),
        limits_missing=tuple(name for key, name in LIMITS.items() if not info.get(key)),
        ports=find_listening_ports(PROC),
        no_nvidia=nvidia.is_missing(info),
        hidden=processes.is_hidden(PROC),
        kernel=str(info.get("KernelVersion") or os.uname().release),
        kernel_built=parse_build_date(_read(PROC / "version")),
        gpus=inspect_gpus(),
        free_bytes={"records": _free(str(root)), "the engine": _free(storage)},
        people=list_people(),
        cluster_token=token if (token := TOKEN_FILE.expanduser()).exists() else None,
        token_is_shared=token.exists() and bool(token.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)),
        open_heads=find_open_heads(PROC),
    )


def find_open_heads(proc: Path) -> tuple[int, ...]:
    """Return the processes of Ray heads that ask for no token; those of other users are seen by root alone."""
    found = []
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):
            is_head = (folder / "comm").read_bytes().strip() == b"gcs_server"
            if is_head and b"RAY_AUTH_MODE=token" not in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return tuple(sorted(found))


def _find_socket() -> Socket:
    """Return the way to the user's own engine; a setting that leads to none says so itself."""
    try:
        found = find_address()
    except EngineUnavailable as error:
        said = str(error).partition("; ")[0]
        return Socket(address=said, setting=said, unseen="no engine is named")
    return replace(inspect_socket(found.url, encrypted=found.certificates is not None), setting=found.setting)


def inspect_socket(address: str, *, encrypted: bool = False) -> Socket:
    """Determine who other than this user and root can reach the engine at an address."""
    if not address.startswith("unix://"):
        plain = address.startswith("tcp://") and not encrypted
        return Socket(address=address, everyone=plain, unseen="it is not a local socket")
    path = Path(address.removeprefix("unix://"))
    try:
        status = path.stat()
        above = [folder.stat() for folder in path.resolve().parents]
        named = set().union(*(list_acl_members(place) for place in (path, *path.resolve().parents)))
    except OSError as error:
        return Socket(address=address, unseen=str(error.strerror))
    if status.st_mode & stat.S_IWOTH and all(folder.st_mode & stat.S_IXOTH for folder in above):
        return Socket(address=address, everyone=True)
    others = {_name(status.st_uid)} | named
    if status.st_mode & stat.S_IWGRP and all(_lets_in(folder, status.st_gid) for folder in above):
        others |= list_group_members(status.st_gid)
    return Socket(
        address=address, others=tuple(sorted(others - {"root", _name(os.getuid())})), group=_group(status.st_gid)
    )


def list_acl_members(path: Path) -> set[str]:
    """Return the users whom an access control list admits in addition to owner and group, whatever its mask."""
    try:
        found = os.getxattr(path, ACL)
    except OSError:  # it has none
        return set()
    entries = list(struct.iter_unpack("<HHI", found[4:]))  # after the version: tag, permissions, id
    people = {_name(number) for tag, _, number in entries if tag == ACL_USER}
    return people.union(*(list_group_members(number) for tag, _, number in entries if tag == ACL_GROUP))


def list_group_members(gid: int) -> set[str]:
    """Return all members of a group, primary and additional ones."""
    found = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid}
    try:
        return found | set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return found


def list_people(root: Path = Path("/")) -> tuple[str, ...]:
    """List who else may log in on this machine: local users, owners of homes and processes, user directories."""
    entries = {entry.pw_uid: entry for entry in pwd.getpwall()}
    for uid in _seen(root) - entries.keys():
        with suppress(KeyError):  # of a container's user, who has no name here
            entries[uid] = pwd.getpwuid(uid)
    found = [
        entry.pw_name
        for uid, entry in sorted(entries.items())
        if uid >= FIRST_PERSON_UID and uid != os.getuid() and not entry.pw_shell.endswith(("nologin", "false"))
    ]
    line = re.search(r"^passwd:(.*)$", _read(root / "etc/nsswitch.conf"), re.MULTILINE)
    directories = DIRECTORIES.intersection(line[1].split() if line else ())
    return (*found, *(f"users from {name}" for name in sorted(directories)))


def _seen(root: Path) -> set[int]:
    """Return the ids of users with a home, a session or a process."""
    found = set[int]()
    for place in ("home", "run/user", "proc"):
        with suppress(OSError):
            for path in (root / place).iterdir():
                with suppress(OSError):
                    found.add(path.stat().st_uid)
    return found


def inspect_gpus() -> Gpus:
    """Collect the devices from NVML, and the toolkit's version from its own command."""
    try:
        found, lost = gpu.devices(), gpu.lost()
    except AutoresearchError as error:
        return Gpus(error=str(error), toolkit=_toolkit())
    return Gpus(
        devices=tuple(f"{device.name} {device.uuid}" for device in found),
        driver=found[0].driver if found else "",
        toolkit=_toolkit(),
        mps=processes.mps_daemon(),
        troubles=(*lost, *(f"{device.uuid}: {reason}" for device in found if (reason := _trouble(device)))),
    )


def _trouble(device: gpu.Device) -> str:
    try:
        occupant = find_occupant(device, PROC)
        return gpu.trouble(device) or (occupant.reason if occupant else "")
    except AutoresearchError as error:
        return str(error)


def parse_build_date(text: str) -> date | None:
    """Parse the build date in /proc/version: `(2026-05-20)` or `Thu May 7 21:09:36 UTC 2026` at its end."""
    try:
        if found := re.search(r"\((\d{4}-\d\d-\d\d)\)\s*$", text):
            return date.fromisoformat(found[1])
        if found := re.search(r"\b([A-Z][a-z]{2})\s+(\d{1,2})\s[\d:]+\s(?:[A-Z]+\s)?(\d{4})\s*$", text):
            return date(int(found[3]), MONTHS.index(found[1].lower()) + 1, int(found[2]))
    except ValueError:
        return None
    return None


def _toolkit() -> str:
    command = shutil.which("nvidia-ctk")
    if command is None:
        return ""
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=ASK_S, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"version (\d[\w.+~-]*)", done.stdout)
    return found[1] if found else ""


def find_listening_ports(proc: Path) -> tuple[int, ...] | None:
    """Return which of the engine's ports anything on this machine listens on; None if that cannot be read."""
    text = _read(proc / "net/tcp")
    if not text:
        return None
    lines = [line.split() for part in (text, _read(proc / "net/tcp6")) for line in part.splitlines()[1:]]
    found = {int(words[1].rpartition(":")[2], 16) for words in lines if words[3] == LISTENS}
    return tuple(port for port in PORTS if port in found)


def _arguments(runtime: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the arguments of a runtime; None if the engine does not report them."""
    return tuple(map(str, runtime.get("runtimeArgs") or ())) if "path" in runtime else None


def _lets_in(folder: os.stat_result, gid: int) -> bool:
    return bool(folder.st_mode & (stat.S_IXGRP if folder.st_gid == gid else stat.S_IXOTH))


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(path).free if path else None
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group {gid}"
