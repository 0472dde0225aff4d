"""The containers of an experiment as they really ran: what was asked, what the engine said it made, how it ended."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.look.excerpt import Bound, Excerpt, Folder
from orchestrator.text import sanitise
from orchestrator.types import Role
from orchestrator.units import MIB
from orchestrator.walls.inspect_diff import container_diff

ORDER = (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER, Role.COURIER)
BILLION = 1_000_000_000
SHORT_PATH = 3  # last parts of a host path that are shown: the page may travel
UNBOUNDED = (None, 0, -1)
GUARD = "--"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line about a container; `good` says whether a wall stands, None where it is no wall."""

    name: str
    value: str
    good: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, for the page."""

    role: str
    ended: str
    lived: str  # well, killed, failed
    duration_s: float | None
    deadline_s: float | None
    facts: tuple[Fact, ...]
    mounts: tuple[str, ...]
    command: str
    differences: tuple[str, ...] | None  # asked and made; None where one of the two cannot be read
    log: Excerpt


def containers(
    folder: Folder, executions: Mapping[str, dict[str, Any]], bounds: Mapping[str, Bound]
) -> list[Container]:
    """The containers that left a trace in this folder, in the order of the choreography."""
    return [c for role in ORDER if (c := _container(folder, role, executions, bounds)) is not None]


def _container(
    folder: Folder, role: Role, executions: Mapping[str, dict[str, Any]], bounds: Mapping[str, Bound]
) -> Container | None:
    asked, created = folder.data(f"{role}.spec.json"), folder.data(f"{role}.created.json")
    log = folder.text(f"{role}.log", bounds.get(role, bounds["other"]))
    if asked is None and created is None and log == Excerpt():
        return None
    ended = folder.data(f"{role}.ended.json") or {}
    there = created or {}
    execution = executions.get(str(there.get("Id")), {})
    config = _table(there, "Config")
    words, lived = ending(execution, _table(ended, "State"))
    return Container(
        role=role.value,
        ended=words,
        lived=lived,
        duration_s=execution.get("duration_s"),
        deadline_s=execution.get("deadline_s"),
        facts=tuple(_facts(there, execution, _table(ended, "State"))),
        mounts=tuple(_mounts(there)),
        command=sanitise(" ".join(map(str, _program(config.get("Cmd")))), 500),
        differences=None if not asked or not created else tuple(_differences(asked, created)),
        log=log,
    )


def _facts(created: dict[str, Any], execution: dict[str, Any], state: dict[str, Any]) -> Iterator[Fact]:
    if created:
        yield from _walls(created)
        yield from _limits(created, execution)
    for name, value in (
        ("output", _output(execution)),
        ("log sha256", str(execution.get("log_sha256") or "")),
        ("started", str(state.get("StartedAt") or "")),
        ("ended", str(state.get("FinishedAt") or "")),
        ("container", str(created.get("Id") or "")[:12]),
    ):
        if value:
            yield Fact(name=name, value=sanitise(value, 200))


def _walls(created: dict[str, Any]) -> Iterator[Fact]:
    host, config = _table(created, "HostConfig"), _table(created, "Config")
    networks = sorted(set(_table(_table(created, "NetworkSettings"), "Networks")) | {str(host.get("NetworkMode"))})
    user, options = str(config.get("User") or "root"), [str(option) for option in host.get("SecurityOpt") or []]
    profile = next((o.partition("=")[2] for o in options if o.startswith("seccomp=")), "")
    devices = [str(i) for request in host.get("DeviceRequests") or [] for i in request.get("DeviceIDs") or []]
    for name, value, good in (
        ("network", ", ".join(networks), networks == ["none"]),
        ("user", user, user.partition(":")[0] not in ("", "0", "root")),
        (
            "root file system",
            "read-only" if host.get("ReadonlyRootfs") else "WRITABLE",
            bool(host.get("ReadonlyRootfs")),
        ),
        ("capabilities", _capabilities(host), host.get("CapDrop") == ["ALL"] and not host.get("CapAdd")),
        ("new privileges", "none" if "no-new-privileges" in options else "POSSIBLE", "no-new-privileges" in options),
        ("seccomp", _profile(profile), profile not in ("", "unconfined")),
        ("privileged", "YES" if host.get("Privileged") else "no", not host.get("Privileged")),
        ("devices", ", ".join(devices) or "none", None),
        ("runtime", str(host.get("Runtime") or ""), None),
        ("image", str(created.get("Image") or "?"), None),
    ):
        if value:
            yield Fact(name=name, value=sanitise(value, 200), good=good)


def _limits(created: dict[str, Any], execution: dict[str, Any]) -> Iterator[Fact]:
    host = _table(created, "HostConfig")
    memory, peak, cpu_s = host.get("Memory"), execution.get("peak_memory_bytes"), execution.get("cpu_s")
    swap = host.get("MemorySwap") == memory
    used = "" if peak is None else f", peak {_mib(peak)}"
    limit = "UNLIMITED" if memory in UNBOUNDED else f"{_mib(memory)}{'' if swap else ' and SWAP'}"
    yield Fact(name="memory", value=limit + used, good=memory not in UNBOUNDED and swap)
    cpus = host.get("NanoCpus")
    of = f" of cpuset {host['CpusetCpus']}" if host.get("CpusetCpus") else ""
    spent = "" if cpu_s is None else f", used {cpu_s:.1f} s"
    limit = "UNLIMITED" if cpus in UNBOUNDED else f"{cpus / BILLION:g}"
    yield Fact(name="processors", value=limit + of + spent, good=cpus not in UNBOUNDED)
    pids = host.get("PidsLimit")
    most = execution.get("peak_pids")
    used = "" if most is None else f", peak {most}"
    yield Fact(
        name="processes", value=("UNLIMITED" if pids in UNBOUNDED else str(pids)) + used, good=pids not in UNBOUNDED
    )
    read, written = execution.get("read_bytes"), execution.get("written_bytes")
    if read is not None or written is not None:
        yield Fact(name="disk", value=f"{_mib(read or 0)} read, {_mib(written or 0)} written")
    yield Fact(name="shared memory", value=_mib(host.get("ShmSize") or 0))
    tmpfs = _table(host, "Tmpfs")
    yield from (Fact(name=f"in-memory {path}", value=sanitise(str(tmpfs[path]), 200)) for path in sorted(tmpfs))


def _mounts(created: dict[str, Any]) -> Iterator[str]:
    for mount in created.get("Mounts") or []:
        if isinstance(mount, dict) and mount.get("Type") != "tmpfs":
            source = mount.get("Name") if mount.get("Type") == "volume" else _short(str(mount.get("Source")))
            access = "WRITABLE" if mount.get("RW") else "read-only"
            yield sanitise(f"{mount.get('Destination')} {access} {mount.get('Type')} {source}", 300)


def _differences(asked: dict[str, Any], created: dict[str, Any]) -> list[str]:
    try:
        return [sanitise(line, 500) for line in container_diff(asked, created)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return ["the record of this container is incomplete; see `autoresearch verify`"]


def ending(execution: dict[str, Any], state: dict[str, Any]) -> tuple[str, str]:
    """How a container ended, in words, and whether it went well, was killed or failed."""
    code = execution.get("exit_code", state.get("ExitCode"))
    if execution.get("oom_killed") or state.get("OOMKilled"):
        return "killed for memory", "failed"
    if execution.get("timed_out"):
        return "killed at its deadline", "failed"
    if by := execution.get("killed_by"):
        return sanitise(f"ended by the host: {by}", 200), "killed"
    return ("no end recorded", "failed") if code is None else (f"exit code {code}", "failed" if code else "well")


def _output(execution: dict[str, Any]) -> str:
    if not execution:
        return ""
    out, err, dropped = (execution.get(f"{which}_bytes", 0) for which in ("stdout", "stderr", "dropped"))
    return f"{out} B out, {err} B err" + (f", {dropped} B dropped" if dropped else "")


def _capabilities(host: dict[str, Any]) -> str:
    added, dropped = host.get("CapAdd") or [], host.get("CapDrop") or []
    if dropped == ["ALL"] and not added:
        return "none"
    return f"added {', '.join(map(str, added)) or 'none'}, dropped {', '.join(map(str, dropped)) or 'NONE'}"


def _profile(profile: str) -> str:
    if profile in ("", "unconfined"):
        return profile or "the engine's"
    return f"own profile, sha256 {hashlib.sha256(profile.encode()).hexdigest()[:16]}"


def _program(command: object) -> list[str]:
    """What the guard was told to run."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    return words[words.index(GUARD) + 1 :] if GUARD in words else words


def _short(path: str) -> str:
    parts = path.strip("/").split("/")
    return path if len(parts) <= SHORT_PATH else "…/" + "/".join(parts[-SHORT_PATH:])


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}
