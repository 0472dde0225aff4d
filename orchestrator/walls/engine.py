"""The container engine; the docker SDK is imported here only.

A container is created from a spec, read back and compared, attached, started, watched to its deadline, and removed.
Nothing is ever executed in, copied from or archived out of one. Every call is bounded.
"""

import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from orchestrator.errors import EngineUnavailable, ImageMissing, SandboxError, SpecRefused
from orchestrator.files import write_json
from orchestrator.logger import log
from orchestrator.walls import container_labels, engine_address, podman
from orchestrator.walls.create_body import create_body
from orchestrator.walls.engine_address import CERTIFICATES, EngineAddress, find_address
from orchestrator.walls.inspect_diff import container_diff, volume_diff
from orchestrator.walls.spec import LABEL, UID, ContainerSpec
from orchestrator.walls.spec_policy import YOURSELF, validate_spec

CALL_TIMEOUT_S = 30.0
LONG_CALL_TIMEOUT_S = 120.0
LEAST_API = (1, 41)
CONTENT = ("Env", "Entrypoint", "Cmd", "User", "WorkingDir")  # of an image's configuration: what containers inherit
LIMITS = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "CpuCfsQuota": "processors",
    "PidsLimit": "processes",
}  # by their names in its info
CONTROLLERS = {"MemoryLimit": "memory", "CpuCfsQuota": "cpu", "PidsLimit": "pids"}  # of the kernel, behind them

NO_GPUS = ("could not select device driver", "failed to discover GPU vendor")  # engines up to 28, and from 29 on


class Client(docker.APIClient):  # type: ignore[misc]  # the SDK has no types
    """Ends every call as a whole in time: the time-out of requests is between two bytes, and bytes may trickle."""

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:  # noqa: ANN401
        """Send it from a thread that is left alone if it takes too long."""
        is_long = str(request.path_url).partition("?")[0].endswith("/containers/create")
        bound_s = LONG_CALL_TIMEOUT_S if is_long else CALL_TIMEOUT_S
        done: queue.SimpleQueue[requests.Response | BaseException] = queue.SimpleQueue()

        def go() -> None:
            try:
                done.put(super(Client, self).send(request, **{**how, "timeout": bound_s}))
            except BaseException as error:  # noqa: BLE001  # raised below, where someone waits for it
                done.put(error)

        threading.Thread(target=go, daemon=True, name="engine call").start()
        try:
            answer = done.get(timeout=bound_s)
        except queue.Empty as error:
            raise requests.ReadTimeout from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Engine:
    """A connection to Docker Engine."""

    def __init__(self, api: Client, facts: dict[str, str]) -> None:
        """Use `connect`."""
        self._api = api
        self._facts = facts

    @classmethod
    def connect(cls, host: str | None = None) -> Self:
        """Connect to `host`, or to the user's own engine. Raises EngineUnavailable with what to type."""
        address = EngineAddress(url=host) if host else find_address()
        engine_address.connect_plainly(address)
        with _translated("connect", address=address):
            tls = _tls(address)
            api = Client(base_url=address.url, version="auto", timeout=CALL_TIMEOUT_S, tls=tls)
            version, info = api.version(), api.info()
        least = tuple(int(part) for part in api.api_version.split("."))
        if least < LEAST_API:
            raise EngineUnavailable(
                f"{address.describe()}: the engine speaks API {api.api_version}; at least 1.41 is needed: update it"
            )
        name = "podman" if "podman" in json.dumps(version.get("Components", "")).lower() else "docker"
        engine = cls(api, {"engine": f"{name} {version.get('Version', '?')}"})
        own = engine.query_libpod("info")["host"] if name == "podman" else {}
        rootless = own.get("security", {}).get("rootless", False)
        security = [*(info.get("SecurityOptions") or []), *(["name=rootless"] if rootless else [])]
        engine._facts |= {
            "api": api.api_version,
            "kernel": str(info.get("KernelVersion", "")),
            "default_runtime": str(info.get("DefaultRuntime", "")),
            "cgroup": str(info.get("CgroupVersion", "")),
            "controllers": ",".join(sorted(own["cgroupControllers"] or () if own else _controllers(info))),
            "security": ",".join(sorted(set(security))),
        }
        if name == "docker" and not info.get("SwapLimit", True):
            engine._facts["swap"] = "unlimited"
        return engine

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def describe(self) -> dict[str, str]:
        """Return the engine's name, version, security options, controllers and default runtime."""
        return dict(self._facts)

    @property
    def is_podman(self) -> bool:
        """True if it is Podman behind Docker's API."""
        return self._facts["engine"].startswith("podman")

    @property
    def limits(self) -> bool:
        """True if it can limit memory, CPUs and processes; rootless, that requires delegated cgroup v2."""
        return not self.unsupported_limits

    @property
    def unsupported_limits(self) -> tuple[str, ...]:
        """The limits that it cannot enforce: rootless, all under cgroup v1, and under v2 those not delegated."""
        none = "rootless" in self._facts["security"] and self._facts["cgroup"] == "1"
        controllers = set() if none else set(self._facts["controllers"].split(","))
        return tuple(LIMITS[key] for key, controller in CONTROLLERS.items() if controller not in controllers)

    @property
    def limits_swap(self) -> bool:
        """True if it can limit swap; Docker drops the limit on cgroup v1 with a kernel that does not account for it."""
        return self._facts.get("swap") != "unlimited"

    @property
    def uses_userns_remap(self) -> bool:
        """True if users of a container are mapped to other users of the host (`userns-remap`)."""
        return "name=userns" in self._facts["security"]

    def host_user_mapping(self) -> tuple[str, str]:
        """Return user and user namespace of a container that writes your files: only our own code, never a patch.

        A rootless engine maps you to root inside, who has only your rights; with `userns-remap` no inside user is you.
        """
        if "rootless" in self._facts["security"]:
            return YOURSELF, ""
        return f"{os.getuid() or UID}:{os.getgid() or UID}", "host" if self.uses_userns_remap else ""

    def query_libpod(self, what: str) -> dict[str, Any]:
        """Query Podman's own API. Raises SandboxError."""
        with _translated(what):
            answer = self._api.get(f"{self._api.base_url}/v4.0.0/libpod/{what}", timeout=CALL_TIMEOUT_S)
            answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def info(self) -> dict[str, Any]:
        """Return the engine's description of itself."""
        with _translated("info"):
            info = {**self._api.info(), "Version": self._api.version()}
        security = self._facts["security"].split(",")
        limits = {key: LIMITS[key] not in self.unsupported_limits for key in CONTROLLERS}  # Podman reports them wrong
        limits["SwapLimit"] = limits["MemoryLimit"] and bool(info.get("SwapLimit", True) or self.is_podman)
        return info | {"SecurityOptions": security} | limits

    def memory_bytes(self) -> int:
        """Return the memory of the engine's machine; 0 if unknown."""
        return int(self.info().get("MemTotal") or 0)

    def processors(self) -> int:
        """Return the number of processors of the engine's machine; 0 if unknown."""
        return int(self.info().get("NCPU") or 0)

    def check_runtime(self, runtime: str) -> None:
        """Refuse a runtime that the engine does not know."""
        known = set(self.info().get("Runtimes") or {})
        if runtime and runtime not in known:
            raise SpecRefused(
                f"--runtime {runtime}: unknown runtime; available: {', '.join(sorted(known))}. Register it in"
                f" {'containers.conf' if self.is_podman else 'daemon.json'}"
            )

    def image_id(self, reference: str) -> str:
        """Return the local id of an image. Raises ImageMissing, or SpecRefused for an image that declares volumes."""
        found = str(self._image(reference)["Id"])
        return found if found.startswith("sha256:") else f"sha256:{found}"

    def image_sha256(self, reference: str) -> str:
        """Return a digest of what an image contains: equal wherever it was loaded. Raises as `image_id`."""
        image = self._image(reference)
        layers, config = (image.get("RootFS") or {}).get("Layers") or [], image.get("Config") or {}
        content = {"layers": layers, **{name: config.get(name) for name in CONTENT}}
        return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}" if layers else ""

    def _image(self, reference: str) -> dict[str, Any]:
        try:
            with _translated("inspect image"):
                image: dict[str, Any] = self._api.inspect_image(reference)
        except SandboxError as error:
            if isinstance(error.__cause__, (ImageNotFound, NotFound)):
                raise ImageMissing(f"image {reference} not found; build it with `autoresearch build-image`") from error
            raise
        if (image.get("Config") or {}).get("Volumes"):
            raise SpecRefused(f"image {reference} declares volumes, which stay writable; build it without VOLUME")
        return image

    def image_content(self, reference: str) -> str:
        """Return the SHA-256 of an image's layers, equal wherever it is loaded: stores name one image differently.

        Raises ImageMissing or SandboxError.
        """
        self.image_id(reference)
        with _translated("inspect image"):
            image = self._api.inspect_image(reference)
        layers = (image.get("RootFS") or {}).get("Layers") or []
        return hashlib.sha256("\n".join(layers).encode()).hexdigest()

    def volume(self, name: str, size: int, labels: dict[str, str]) -> None:
        """Make a tmpfs volume of `size` bytes, owned by the sandbox user; it lives while a container holds it.

        Raises SpecRefused if one of that name existed: the engine would return it as if it had been created.
        """
        mode = "0777" if self.uses_userns_remap else "0755"  # with it no inside user owns the volume
        options = {
            "type": "tmpfs",
            "device": "tmpfs",
            "o": f"size={size},nr_inodes=65536,uid={UID},gid={UID},mode={mode},nosuid,nodev,noexec",
        }
        if self.is_podman:
            options = podman.volume(options, size)
        with _translated(f"make volume {name}"):
            self._api.create_volume(name, driver="local", driver_opts=options, labels=labels)
            made = self._api.inspect_volume(name)
        if wrong := volume_diff(options, labels, made):
            raise SpecRefused(f"the volume {name} already existed, or does not match the request: {'; '.join(wrong)}")

    def remove_volume(self, name: str) -> None:
        """Remove a volume; a missing one is not an error."""
        try:
            with _translated(f"remove volume {name}"):
                self._api.remove_volume(name, force=True)
        except SandboxError as error:
            if not isinstance(error.__cause__, NotFound):
                raise

    def create(self, spec: ContainerSpec, folder: Path) -> str:
        """Check a spec, create its container, compare that with the request, and return its id. Raises SandboxError.

        The request and the created container are written to `folder` as JSON, both in Docker's words.
        """
        body = self._body(spec)
        write_json(folder / f"{spec.role}.spec.json", body)
        container_id = self._create(spec, body, folder)
        try:
            self._read_back(container_id, spec, body, folder)
        except BaseException:
            self.remove(container_id)
            raise
        return container_id

    def _body(self, spec: ContainerSpec) -> dict[str, Any]:
        validate_spec(spec)
        config = create_body(spec, self._variables(spec.image_id))
        if spec.user == YOURSELF and "rootless" not in self._facts["security"]:
            raise SpecRefused(f"container spec: user = {YOURSELF} is root on an engine that is not rootless")
        config["HostConfig"]["Runtime"] = spec.runtime or self._facts["default_runtime"]
        if not self.limits_swap:  # a person has accepted that
            config["HostConfig"]["MemorySwap"] = -1
        return config

    def _variables(self, image_id: str) -> list[str]:
        """List the variables that an image sets, by name."""
        with _translated("inspect image"):
            config = self._api.inspect_image(image_id).get("Config") or {}
        return [item.partition("=")[0] for item in config.get("Env") or []]

    def _create(self, spec: ContainerSpec, config: dict[str, Any], folder: Path) -> str:
        if self.is_podman:
            write_json(profile := _profile(spec, folder), json.loads(spec.seccomp))
            config = podman.to_podman_request(config, profile)
        with _translated(f"create {spec.name}", timeout=LONG_CALL_TIMEOUT_S):
            return str(self._api.create_container_from_config(config, spec.name)["Id"])

    def _read_back(self, container_id: str, spec: ContainerSpec, config: dict[str, Any], folder: Path) -> None:
        inspected = self.inspect(container_id)
        if self.is_podman:
            own = self.query_libpod(f"containers/{container_id}/json")
            write_json(folder / f"{spec.role}.podman.json", {"compatible": inspected, "own": own})
            inspected = podman.normalize_inspect(config, _profile(spec, folder), inspected, own, limited=self.limits)
        write_json(folder / f"{spec.role}.created.json", inspected)
        if wrong := container_diff(config, inspected, self._facts):
            raise SpecRefused(f"the container {spec.name} does not match the request: {'; '.join(wrong)}")

    def inspect(self, container_id: str) -> dict[str, Any]:
        """Return the engine's view of a container."""
        with _translated(f"inspect {container_id[:12]}"):
            found: dict[str, Any] = self._api.inspect_container(container_id)
        return found

    def attach_and_start(self, container_id: str) -> Iterator[tuple[str, bytes]]:
        """Attach to a container, start it and return its output: pieces of `out` and `err`."""
        with _translated(f"start {container_id[:12]}"):
            stream = self._api.attach(container_id, stdout=True, stderr=True, stream=True, demux=True)
            try:
                self._api.start(container_id)
            except BaseException:
                _close(stream)
                raise
        return _pieces(stream)

    def kill(self, container_id: str) -> None:
        """Send SIGKILL by id; a container that has ended is fine."""
        try:
            with _translated(f"kill {container_id[:12]}"):
                self._api.kill(container_id, "SIGKILL")
        except SandboxError as error:
            cause = error.__cause__
            if not (isinstance(cause, APIError) and cause.status_code in (404, 409)):  # gone or not running
                raise

    def remove(self, container_id: str) -> None:
        """Kill and remove a container; a missing one is not an error."""
        try:
            with _translated(f"remove {container_id[:12]}"):
                self._api.remove_container(container_id, force=True, v=True)
        except SandboxError as error:
            cause = error.__cause__
            if not (isinstance(cause, APIError) and cause.status_code in (404, 409)):  # gone, or going
                raise

    def reap(self, is_left: Callable[[Mapping[str, str]], bool] = container_labels.is_orphaned) -> list[str]:
        """Remove our containers and volumes whose labels say that nobody needs them; return the containers' names.

        By default those whose owner is dead or whose deadline has passed.
        """
        with _translated("list containers"):
            containers = self._api.containers(all=True, filters={"label": LABEL})
            volumes = (self._api.volumes(filters={"label": LABEL}) or {}).get("Volumes") or []
        gone = {str(c["Names"][0]).lstrip("/"): c["Id"] for c in containers if is_left(c["Labels"])}
        reaped = [name for name, container_id in gone.items() if _removed(name, partial(self.remove, container_id))]
        for volume in volumes:
            if is_left(volume.get("Labels") or {}):
                _removed(volume["Name"], partial(self.remove_volume, volume["Name"]))
        if reaped:
            log.info("containers.reaped", names=reaped)
        return reaped


def _controllers(info: Mapping[str, Any]) -> list[str]:
    return [controller for key, controller in CONTROLLERS.items() if info.get(key)]


def _profile(spec: ContainerSpec, folder: Path) -> Path:
    """Return where Podman reads the seccomp profile of a role."""
    return folder.absolute() / f"{spec.role}.seccomp.json"


def _removed(name: str, remove: Callable[[], None]) -> bool:
    """Remove, and return whether it worked: a failure must not keep the rest, and is tried again next time."""
    try:
        remove()
    except SandboxError as error:
        log.warning("container.unreaped", name=name, error=str(error))
        return False
    return True


def _tls(address: EngineAddress) -> docker.tls.TLSConfig | bool:
    """Return the certificates of an address. Raises DockerException if they cannot be read."""
    if address.certificates is None:
        return False
    ca, cert, key = (address.certificates / name for name in CERTIFICATES)
    pair = (str(cert), str(key)) if cert.exists() else None
    return docker.tls.TLSConfig(client_cert=pair, ca_cert=str(ca) if ca.exists() else None, verify=address.verifies)


@contextmanager
def _translated(what: str, timeout: float = CALL_TIMEOUT_S, address: EngineAddress | None = None) -> Iterator[None]:
    """Translate the SDK's exceptions into ours; of a connection that is made, with its address."""
    try:
        yield
    except APIError as error:
        message = f"the container engine refused to {what}: {error.explanation or error}"
        if any(said in message for said in NO_GPUS):
            message += "; install the NVIDIA Container Toolkit and restart the engine, or use --profile cpu"
        raise SandboxError(message) from error
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        if address is not None and address.setting:
            raise address.unavailable(f"does not answer as an engine ({type(error).__name__})") from error
        raise EngineUnavailable(
            f"the container engine does not answer ({what}, {timeout:g} s): is it running? Start it with"
            " `autoresearch start-engine`"
        ) from error
    except DockerException as error:
        if address is not None and address.setting:
            raise address.unavailable(str(error)) from error
        said = f"{what}: {error}"
        message = (
            f"no container engine answers ({said}); start one with `autoresearch start-engine`, or set DOCKER_HOST"
        )
        if "Permission denied" in str(error):
            message = (
                f"this user may not use the container engine's socket ({said}): join the group docker, which is"
                " root on this machine, or use rootless Podman, docs/hardening.md"
            )
        raise EngineUnavailable(message) from error


def _pieces(stream: Iterator[tuple[bytes | None, bytes | None]]) -> Iterator[tuple[str, bytes]]:
    """Yield the SDK's chunks with the name of their stream; the connection is closed at the end."""
    try:
        with _translated("read the output"):
            for out, err in stream:
                if out:
                    yield "out", out
                if err:
                    yield "err", err
    finally:
        _close(stream)


def _close(stream: Iterator[tuple[bytes | None, bytes | None]]) -> None:
    """Close an attached stream's connection, which the SDK leaves to the garbage collector."""
    response = getattr(stream, "_response", None)
    if response is not None:
        with suppress(OSError):
            response.raw.close()
        response.close()
