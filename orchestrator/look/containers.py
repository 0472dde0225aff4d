"""Describe the containers of an experiment: the request, what the engine created, and how each ended."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.record.experiment_files import ByteLimit, Excerpt, ExperimentFolder
from orchestrator.text import sanitise
from orchestrator.types import ExecutionResult, Role
from orchestrator.units import MIB
from orchestrator.walls.inspect_diff import container_diff

ORDER = (
    Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.ANSWERER, Role.REFERENCE, Role.SCORER, Role.EXPORTER
)  # fmt: skip
FILE_NAMES = {Role.EXPORTER: (Role.EXPORTER.value, "courier")}  # the second one in old records
FIRST_TRIAL, UNKNOWN_TRIAL = "first trial", "trial not on record"
BILLION = 1_000_000_000
SHORT_PATH = 3  # last parts of a host path that are shown: the page may travel
UNBOUNDED = (None, 0, -1)
GUARD = "--"
NO_LOG = ByteLimit(head=0, tail=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line about a container."""

    name: str
    value: str
    good: bool | None = None  # whether a wall is intact; None where it is not a wall
    used: str = ""  # how much of a limit the container used


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container."""

    trial: str
    role: str
    ended: str
    outcome: str  # well, killed, failed
    execution: ExecutionResult | None
    facts: tuple[Fact, ...] = ()  # none if the engine's description is not on record
    mounts: tuple[str, ...] = ()
    command: str = ""
    differences: tuple[str, ...] | None = None  # between request and container; None if either cannot be read
    log: Excerpt = field(default_factory=Excerpt)

    @property
    def weak_facts(self) -> tuple[Fact, ...]:
        """Return the walls that are missing."""
        return tuple(fact for fact in self.facts if fact.good is False)


def describe_containers(
    folder: ExperimentFolder | None, executions: Sequence[ExecutionResult], limits: dict[str, ByteLimit] | None = None
) -> list[Container]:
    """Return every container of an experiment, by trial, in the order of the choreography.

    `limits` says how much of its log is returned, by role or as "other"; without them no log is read. Executions that
    left no files come last. Raises OSError.
    """
    by_id = {execution.container_id: execution for execution in executions}
    containers: list[Container] = []
    if folder is not None:
        containers += _of_trial(folder, FIRST_TRIAL, by_id, limits or {})
        for name in folder.trials():
            with folder.subfolder(name) as trial:
                containers += _of_trial(trial, sanitise(name, 40), by_id, limits or {})
    described = [container.execution for container in containers]
    return containers + [_without_files(execution) for execution in executions if execution not in described]


def _of_trial(
    folder: ExperimentFolder, trial: str, executions: dict[str, ExecutionResult], limits: dict[str, ByteLimit]
) -> Iterator[Container]:
    for role in ORDER:
        limit = limits.get(role, limits.get("other", NO_LOG))
        for name in FILE_NAMES.get(role, (role.value,)):
            asked, created = folder.data(f"{name}.spec.json"), folder.data(f"{name}.created.json")
            log = folder.text(f"{name}.log", limit)
            if asked is not None or created is not None or log != Excerpt():
                ended = folder.data(f"{name}.ended.json") or {}
                yield _describe(trial, role, asked, created or {}, _table(ended, "State"), executions, log)


def _describe(  # noqa: PLR0913, PLR0917  # what a container left
    trial: str, role: Role, asked: dict[str, Any] | None, created: dict[str, Any], state: dict[str, Any],
    executions: dict[str, ExecutionResult], log: Excerpt,
) -> Container:  # fmt: skip
    execution = executions.get(str(created.get("Id")))
    ended, outcome = describe_end(execution, state)
    return Container(
        trial=trial,
        role=role.value,
        ended=ended,
        outcome=outcome,
        execution=execution,
        facts=_facts_or_problem(created, execution, state) if created else (),
        mounts=tuple(_mounts(created)),
        command=sanitise(" ".join(_program(_table(created, "Config").get("Cmd"))), 500),
        differences=tuple(_differences(asked, created)) if asked and created else None,
        log=log,
    )


def _without_files(execution: ExecutionResult) -> Container:
    ended, outcome = describe_end(execution, {})
    return Container(trial=UNKNOWN_TRIAL, role=execution.role.value, ended=ended, outcome=outcome, execution=execution)


def describe_end(execution: ExecutionResult | None, state: dict[str, Any]) -> tuple[str, str]:
    """Return how a container ended, in words, and whether it ended well, was killed or failed."""
    code = execution.exit_code if execution else state.get("ExitCode")
    if (execution and execution.oom_killed) or state.get("OOMKilled"):
        return "killed for memory", "failed"
    if execution and execution.timed_out:
        return "killed at its deadline", "failed"
    if execution and execution.killed_by:
        return sanitise(f"ended by the host: {execution.killed_by}", 200), "killed"
    return ("no end recorded", "failed") if code is None else (f"exit code {code}", "failed" if code else "well")


def _facts_or_problem(
    created: dict[str, Any], execution: ExecutionResult | None, state: dict[str, Any]
) -> tuple[Fact, ...]:
    try:
        return tuple(_facts(created, execution, state))
    except (TypeError, ValueError, AttributeError):
        return (Fact(name="description", value="damaged; see `autoresearch verify`", good=False),)


def _facts(created: dict[str, Any], execution: ExecutionResult | None, state: dict[str, Any]) -> Iterator[Fact]:
    yield from _walls(created)
    yield from _limits(created, execution)
    for name, value in (
        ("output", _output(execution) if execution else ""),
        ("log sha256", execution.log_sha256 if execution else ""),
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
        ("image", str(created.get("Image") or "?").removeprefix("sha256:")[:12], None),
        ("user", user, user.partition(":")[0] not in ("", "0", "root")),
        ("network", ", ".join(networks), networks == ["none"]),
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
    ):
        if value:
            yield Fact(name=name, value=sanitise(value, 200), good=good)


def _limits(created: dict[str, Any], execution: ExecutionResult | None) -> Iterator[Fact]:
    host = _table(created, "HostConfig")
    memory, cpus, pids = host.get("Memory"), host.get("NanoCpus"), host.get("PidsLimit")
    swap = host.get("MemorySwap") == memory
    yield Fact(
        name="memory",
        value="UNLIMITED" if memory in UNBOUNDED else f"{_mib(memory)}{'' if swap else ' and SWAP'}",
        good=memory not in UNBOUNDED and swap,
        used=f"peak {_mib(execution.peak_memory_bytes)}" if execution and execution.peak_memory_bytes else "",
    )
    of = f" of cpuset {host['CpusetCpus']}" if host.get("CpusetCpus") else ""
    yield Fact(
        name="processors",
        value=sanitise(("UNLIMITED" if cpus in UNBOUNDED else f"{cpus / BILLION:g}") + of, 200),
        good=cpus not in UNBOUNDED,
        used=f"used {execution.cpu_s:.1f} s" if execution and execution.cpu_s is not None else "",
    )
    yield Fact(
        name="processes",
        value="UNLIMITED" if pids in UNBOUNDED else sanitise(str(pids), 40),
        good=pids not in UNBOUNDED,
        used=f"peak {execution.peak_pids}" if execution and execution.peak_pids is not None else "",
    )
    if execution and (execution.read_bytes is not None or execution.written_bytes is not None):
        yield Fact(
            name="disk",
            value=f"{_mib(execution.read_bytes or 0)} read, {_mib(execution.written_bytes or 0)} written",
        )
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


def _output(execution: ExecutionResult) -> str:
    dropped = f", {execution.dropped_bytes} B dropped" if execution.dropped_bytes else ""
    return f"{execution.stdout_bytes} B out, {execution.stderr_bytes} B err{dropped}"


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
    """Return the command line that the guard runs."""
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
