"""The container engine; the docker SDK is imported here only.

A container is created from a spec, read back and compared, attached, started, watched to its deadline, and removed.
Nothing is ever executed in, copied from or archived out of one. Every call is bounded.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import docker
import requests
import structlog
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from orchestrator import counters, owner
from orchestrator.errors import EngineUnavailable, ImageMissing, RecordFailed, SandboxError, SpecRefused
from orchestrator.logs import BoundedLog
from orchestrator.readback import differences
from orchestrator.spec import LABEL, UID, ContainerSpec, as_config
from orchestrator.types import ExecutionResult

CALL_TIMEOUT_S = 30.0
LONG_CALL_TIMEOUT_S = 120.0
WATCH_S = 0.1
LOOK_S = 2.0  # how often a silent container is looked at
LEAST_API = (1, 41)

log = structlog.get_logger()


class Engine:
    """A connection to Docker Engine, or to Podman's Docker-compatible API."""

    def __init__(self, api: docker.APIClient, facts: dict[str, str]) -> None:
        """Use `connect`."""
        self._api = api
        self._facts = facts

    @classmethod
    def connect(cls, host: str | None = None) -> Self:
        """Connect to `host`, DOCKER_HOST, or the usual socket. Raises EngineUnavailable with what to type."""
        with _translated("connect"):
            api = docker.APIClient(
                base_url=host or os.environ.get("DOCKER_HOST"), version="auto", timeout=CALL_TIMEOUT_S
            )
            version, info = api.version(), api.info()
        least = tuple(int(part) for part in api.api_version.split("."))
        if least < LEAST_API:
            message = f"the engine speaks API {api.api_version}; at least 1.41 is needed: update it"
            raise EngineUnavailable(message)
        name = "podman" if "podman" in json.dumps(version.get("Components", "")).lower() else "docker"
        facts = {
            "engine": f"{name} {version.get('Version', '?')}",
            "api": api.api_version,
            "kernel": str(info.get("KernelVersion", "")),
            "default_runtime": str(info.get("DefaultRuntime", "")),
            "cgroup": str(info.get("CgroupVersion", "")),
            "security": ",".join(sorted(info.get("SecurityOptions") or [])),
        }
        return cls(api, facts)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def facts(self) -> dict[str, str]:
        """Which engine this is."""
        return dict(self._facts)

    def info(self) -> dict[str, Any]:
        """What the engine says of itself."""
        with _translated("info"):
            return {**self._api.info(), "Version": self._api.version()}

    def check_runtime(self, runtime: str) -> None:
        """Refuse a runtime that the engine does not know."""
        known = set(self.info().get("Runtimes") or {})
        if runtime and runtime not in known:
            message = f"RUNTIME={runtime!r}: the engine does not know it, it knows {sorted(known)}; register it in daemon.json"
            raise SpecRefused(message)

    def image_id(self, reference: str) -> str:
        """The local id of an image. Raises ImageMissing, or SpecRefused for an image that declares volumes."""
        try:
            with _translated("inspect image"):
                image = self._api.inspect_image(reference)
        except SandboxError as error:
            if isinstance(error.__cause__, (ImageNotFound, NotFound)):
                message = f"image {reference} is not there; `make image` builds it"
                raise ImageMissing(message) from error
            raise
        if (image.get("Config") or {}).get("Volumes"):
            message = f"image {reference} declares volumes, which stay writable; build it without VOLUME"
            raise SpecRefused(message)
        found = str(image["Id"])
        return found if found.startswith("sha256:") else f"sha256:{found}"

    def volume(self, name: str, size: int, labels: dict[str, str]) -> None:
        """Make a tmpfs volume of `size` bytes, owned by the sandbox user; it lives while a container holds it."""
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={size},nr_inodes=65536,uid={UID},gid={UID},mode=0755,nosuid,nodev,noexec"}
        with _translated(f"make volume {name}"):
            self._api.create_volume(name, driver="local", driver_opts=options, labels=labels)

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone is fine."""
        try:
            with _translated(f"remove volume {name}"):
                self._api.remove_volume(name, force=True)
        except SandboxError as error:
            if not isinstance(error.__cause__, NotFound):
                raise

    def start(
        self, spec: ContainerSpec, *, deadline_s: float, folder: Path, on_line: Callable[[str], None] | None = None
    ) -> "Running":
        """Create, read back, compare, attach and start; killed `deadline_s` after the start. Raises SandboxError."""
        config = as_config(spec)
        _write(folder / f"{spec.role}.spec.json", config)
        with _translated(f"create {spec.name}", timeout=LONG_CALL_TIMEOUT_S):
            created = self._api.create_container_from_config(config, spec.name)
        container_id = str(created["Id"])
        try:
            inspected = self.inspect(container_id)
            _write(folder / f"{spec.role}.created.json", inspected)
            if wrong := differences(config, inspected):
                message = f"the engine made {spec.name} otherwise than asked: {'; '.join(wrong)}"
                raise SpecRefused(message)
            return Running(self, spec, container_id, deadline_s=deadline_s, folder=folder, on_line=on_line)
        except BaseException:
            self.remove(container_id)
            raise

    def inspect(self, container_id: str) -> dict[str, Any]:
        """The engine's view of a container."""
        with _translated(f"inspect {container_id[:12]}"):
            found: dict[str, Any] = self._api.inspect_container(container_id)
        return found

    def attach_and_start(self, container_id: str) -> Iterator[tuple[bytes | None, bytes | None]]:
        """The stream of (stdout, stderr) chunks of a container that is started after it is attached."""
        with _translated(f"start {container_id[:12]}"):
            stream: Iterator[tuple[bytes | None, bytes | None]] = self._api.attach(
                container_id, stdout=True, stderr=True, stream=True, demux=True
            )
            self._api.start(container_id)
        return stream

    def kill(self, container_id: str) -> None:
        """SIGKILL by id; one that has ended is fine."""
        try:
            with _translated(f"kill {container_id[:12]}"):
                self._api.kill(container_id, "SIGKILL")
        except SandboxError as error:
            cause = error.__cause__
            if not (isinstance(cause, APIError) and cause.status_code in (404, 409, 500)):  # gone or not running
                raise

    def remove(self, container_id: str) -> None:
        """Kill and remove; one that is gone is fine."""
        try:
            with _translated(f"remove {container_id[:12]}"):
                self._api.remove_container(container_id, force=True, v=True)
        except SandboxError as error:
            cause = error.__cause__
            if not (isinstance(cause, APIError) and cause.status_code in (404, 409)):  # gone, or going
                raise

    def reap(self) -> list[str]:
        """Remove our containers whose owner is dead or whose deadline has passed, and volumes nobody owns; their names."""
        with _translated("list containers"):
            containers = self._api.containers(all=True, filters={"label": LABEL})
            volumes = (self._api.volumes(filters={"label": LABEL}) or {}).get("Volumes") or []
        reaped = []
        for container in containers:
            if owner.is_gone(container["Labels"]):
                self.remove(container["Id"])
                reaped.append(str(container["Names"][0]).lstrip("/"))
        for volume in volumes:
            if owner.is_gone(volume.get("Labels") or {}):
                self.remove_volume(volume["Name"])
        if reaped:
            log.info("containers.reaped", names=reaped)
        return reaped


class Running:
    """One container from its start to its removal; a context manager."""

    def __init__(
        self,
        engine: Engine,
        spec: ContainerSpec,
        container_id: str,
        *,
        deadline_s: float,
        folder: Path,
        on_line: Callable[[str], None] | None,
    ) -> None:
        """Use `Engine.start`."""
        self.spec, self.id, self._engine, self._folder = spec, container_id, engine, folder
        self._deadline_s = deadline_s
        self._killed_by: str | None = None
        self._ended: dict[str, Any] | None = None
        self._fault: SandboxError | None = None
        self._usage = counters.Usage()
        self._finished, self._silent = threading.Event(), threading.Event()
        try:
            self._log = BoundedLog(folder / f"{spec.role}.log", on_line)
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            stream = engine.attach_and_start(container_id)
        except BaseException:
            self._log.close()
            raise
        self._started = time.monotonic()
        self._duration = 0.0
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True, name=f"log {spec.role}")
        self._watcher = threading.Thread(target=self._watch, daemon=True, name=f"watch {spec.role}")
        self._reader.start()
        self._watcher.start()

    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return not self._finished.is_set()

    def kill(self, reason: str) -> None:
        """End it now; `reason` goes into the record."""
        if self.alive():
            self._killed_by = self._killed_by or reason
            self._engine.kill(self.id)

    def wait(self, timeout_s: float | None = None) -> ExecutionResult:
        """Block until it is gone; its record is written. Raises SandboxError if the engine failed."""
        bound = self._deadline_s + 2 * CALL_TIMEOUT_S if timeout_s is None else timeout_s
        if not self._finished.wait(max(0.0, self._started + bound - time.monotonic())):
            message = f"{self.spec.name} did not end although it was killed: the engine hangs"
            raise EngineUnavailable(message)
        self._reader.join(CALL_TIMEOUT_S)
        if self._fault is not None:
            raise self._fault
        return self._result()

    def close(self) -> None:
        """Kill and remove it."""
        try:
            self._killed_by = self._killed_by or (None if self._finished.is_set() else "closed")
            self._engine.remove(self.id)
        finally:
            self._finished.set()
            self._reader.join(CALL_TIMEOUT_S)
            self._watcher.join(CALL_TIMEOUT_S)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _result(self) -> ExecutionResult:
        state = (self._ended or {}).get("State", {})
        killed = self._killed_by is not None
        return ExecutionResult(
            role=self.spec.role,
            container_id=self.id,
            exit_code=None if killed else state.get("ExitCode"),
            oom_killed=bool(state.get("OOMKilled")),
            timed_out=self._killed_by == "deadline",
            killed_by=self._killed_by,
            duration_s=self._duration,
            deadline_s=self._deadline_s,
            log_tail=self._log.tail,
            stdout_bytes=self._log.counts["out"],
            stderr_bytes=self._log.counts["err"],
            dropped_bytes=self._log.dropped,
            log_sha256=self._log.sha256,
            peak_memory_bytes=self._usage.peak_memory_bytes,
            cpu_s=self._usage.cpu_s,
        )

    def _read(self, stream: Iterator[tuple[bytes | None, bytes | None]]) -> None:
        """Drain the output; the end of it says nothing of the program's end."""
        try:
            for out, err in stream:
                for name, data in (("out", out), ("err", err)):
                    if data:
                        self._log.feed(name, data)
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            log.warning("log.broken", role=self.spec.role, error=str(error))
        finally:
            self._log.close()
            self._silent.set()

    def _watch(self) -> None:
        """Kill at the deadline, by the host's monotonic clock; see the end."""
        looked = time.monotonic()
        pid = 0
        try:
            while not self._finished.is_set():
                now = time.monotonic()
                if now - self._started >= self._deadline_s and self._killed_by is None:
                    self.kill("deadline")
                if self._silent.is_set() or self._killed_by or not pid or now - looked >= LOOK_S:
                    looked = now
                    inspected = self._engine.inspect(self.id)
                    pid = inspected["State"].get("Pid") or 0
                    if not inspected["State"].get("Running"):
                        self._ended = inspected
                        break
                self._usage = counters.read(pid, self.id, self._usage)
                self._silent.wait(WATCH_S) if not self._silent.is_set() else time.sleep(WATCH_S)
            if self._ended is not None:
                _write(self._folder / f"{self.spec.role}.ended.json", self._ended)
        except SandboxError as error:
            if not self._finished.is_set():
                self._fault = error
        finally:
            self._duration = time.monotonic() - self._started
            self._finished.set()


@contextmanager
def _translated(what: str, timeout: float = CALL_TIMEOUT_S) -> Iterator[None]:
    """The SDK's exceptions as ours."""
    try:
        yield
    except APIError as error:
        message = f"the container engine refused to {what}: {error.explanation or error}"
        if "could not select device driver" in message:
            message += "; install the NVIDIA Container Toolkit and restart the engine, or use PROFILE=cpu"
        raise SandboxError(message) from error
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        message = f"the container engine does not answer ({what}, {timeout:g} s): is it running? `make engine` starts it"
        raise EngineUnavailable(message) from error
    except DockerException as error:
        message = f"no container engine answers ({what}: {error}); `make engine` starts one, DOCKER_HOST names another"
        raise EngineUnavailable(message) from error


def _write(path: Path, value: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        path.chmod(0o600)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RecordFailed:
    return RecordFailed(f"{path}: cannot be written: {error.strerror}; free some space or use --runs DIR")
