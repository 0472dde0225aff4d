"""Where the user's container engine is, as the docker command finds it. The standard library only; nothing is started.

DOCKER_HOST comes first, then DOCKER_CONTEXT, then the current context of docker's configuration file; where none of
them is set, the usual sockets: the system's, then those of engines without root. sandbox/cli.sh has the same order.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import EngineUnavailable

SYSTEM = Path("/var/run/docker.sock")
CONNECT_S = 10.0
CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """The address of an engine, and which setting names it."""

    url: str
    setting: str = ""  # "" for the usual sockets
    undo: str = ""  # what makes the setting go away
    certificates: Path | None = None  # folder of ca.pem, cert.pem and key.pem
    verifies: bool = True

    def describe(self) -> str:
        """Return the setting and the address, as messages begin."""
        return self.url if not self.setting else f"{self.setting}: {self.url}"

    def unavailable(self, reason: str) -> EngineUnavailable:
        """Return the error for an engine that cannot be used there, with what to type."""
        if self.setting:
            return EngineUnavailable(f"{self.describe()}: {reason}; start that engine, or {self.undo}")
        return EngineUnavailable(
            f"no container engine answers at {self.url} ({reason}); start one with `autoresearch start-engine`, or set"
            " DOCKER_HOST"
        )


def find_address(environment: Mapping[str, str] = os.environ) -> EngineAddress:
    """Return where the user's engine is. Raises EngineUnavailable for a setting that leads nowhere."""
    if host := environment.get("DOCKER_HOST"):
        folder = Path(environment.get("DOCKER_CERT_PATH") or _config_folder(environment))
        with_tls = environment.get("DOCKER_TLS_VERIFY") or environment.get("DOCKER_TLS")
        return _checked(
            EngineAddress(
                url=host,
                setting="DOCKER_HOST",
                undo="unset DOCKER_HOST",
                certificates=folder if with_tls else None,
                verifies=bool(environment.get("DOCKER_TLS_VERIFY")),
            )
        )
    if name := environment.get("DOCKER_CONTEXT"):
        return _from_context(name, "DOCKER_CONTEXT", "unset DOCKER_CONTEXT", environment)
    config = _config_folder(environment) / "config.json"
    if name := _current_context(config):
        return _from_context(name, f"docker context of {config}", "`docker context use default`", environment)
    return _usual(environment)


def connect_plainly(address: EngineAddress) -> None:
    """Require something to listen at an address. Raises EngineUnavailable with the system's own words."""
    parts = urlsplit(address.url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as plain:
                plain.settimeout(CONNECT_S)
                plain.connect(_path_of(address.url))
        else:
            socket.create_connection((parts.hostname or "", parts.port or 2375), timeout=CONNECT_S).close()
    except PermissionError as error:
        raise EngineUnavailable(
            f"this user may not use the container engine's socket ({address.describe()}: {error.strerror}): join the"
            " group docker, which is root on this machine, or use rootless Podman, docs/hardening.md"
        ) from error
    except (OSError, ValueError) as error:
        raise address.unavailable(getattr(error, "strerror", None) or str(error)) from error


def _checked(address: EngineAddress) -> EngineAddress:
    """Return an address that can be used from here. Raises EngineUnavailable for another."""
    try:
        scheme = urlsplit(address.url).scheme
    except ValueError:
        scheme = ""
    if scheme == "ssh":
        raise EngineUnavailable(
            f"{address.describe()}: containers on another machine cannot see the files of this one; run the loop on"
            f" that machine, or {address.undo}"
        )
    if scheme not in ("unix", "tcp", "http", "https") or (scheme == "unix" and not _path_of(address.url)):
        raise EngineUnavailable(
            f"{address.describe()}: no address of an engine that can be used here; unix:///run/docker.sock is one; fix"
            f" it, or {address.undo}"
        )
    return address


def _path_of(url: str) -> str:
    return url.removeprefix("unix:").removeprefix("//")


def _config_folder(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("DOCKER_CONFIG") or Path(environment.get("HOME") or Path.home()) / ".docker")


def _current_context(config: Path) -> str:
    """Return the current context, "" if it is the default one; the docker command ignores a broken file too."""
    try:
        name = json.loads(config.read_bytes()).get("currentContext")
    except (OSError, ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) and name != "default" else ""


def _from_context(name: str, setting: str, undo: str, environment: Mapping[str, str]) -> EngineAddress:
    """Return the address that a context of docker names."""
    if name == "default":
        return _usual(environment)
    key = hashlib.sha256(name.encode()).hexdigest()
    contexts = _config_folder(environment) / "contexts"
    file = contexts / "meta" / key / "meta.json"
    try:
        endpoint = json.loads(file.read_bytes())["Endpoints"]["docker"]
        url, skips = str(endpoint["Host"]), bool(endpoint.get("SkipTLSVerify"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineUnavailable(
            f"{setting} = {name!r}: {file} names no engine; `docker context ls` lists contexts, or {undo}"
        ) from error
    folder = contexts / "tls" / key / "docker"
    return _checked(
        EngineAddress(
            url=url,
            setting=f"{setting} = {name!r}",
            undo=undo,
            certificates=folder if folder.is_dir() else None,
            verifies=not skips,
        )
    )


def _usual(environment: Mapping[str, str]) -> EngineAddress:
    """Return the first of the usual sockets on which something listens, else the system's."""
    for path in usual_sockets(environment):
        found = EngineAddress(url=f"unix://{path}")
        try:
            connect_plainly(found)
        except EngineUnavailable:
            continue
        return found
    return EngineAddress(url=f"unix://{SYSTEM}")


def usual_sockets(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield where engines listen that nobody has configured."""
    yield SYSTEM
    own = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    yield own / "docker.sock"
    yield own / "podman" / "podman.sock"
    yield Path("/run/podman/podman.sock")
