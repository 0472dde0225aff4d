"""What a host must have in common with the head to run its experiments, the cluster's token, and Ray's variables.

A Ray cluster is one trust domain: whoever has the token can run code as the user of every host in it. Ray listens on
all interfaces of a host; the token is what keeps others out.
"""

import hashlib
import importlib.util
import json
import os
import platform
import secrets
import socket
import stat
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator import __version__
from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.shipped import SECCOMP
from orchestrator.walls import locked_files, staging
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import get_image_name

SLOT = "exp_slot"  # Ray's custom resource, one per slot
NAMESPACE, KEY = "autoresearch", "head"  # of the head's facts in the cluster's store
TOKEN_FILE = Path("~/.config/autoresearch-sandbox/ray-token")
MAX_CLOCK_SKEW_S = 30.0
FRESH_S = 30.0  # the head writes its facts every few seconds
CONNECT_S = 5.0
OTHERS = stat.S_IRWXG | stat.S_IRWXO
LEAST_TOKEN = 32  # characters
# what a process of the cluster gets of our environment; the API key is not among it
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "VIRTUAL_ENV",
             "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG",
             "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
             "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # fmt: skip
SHARED = ("task", "profile", "noise", "contention", "recording", "profile_name", "corpus", "runtime", "scoring")
WHAT = {
    "ray": "Ray", "python": "Python", "code": "autoresearch-sandbox with code", "locked": "locked/ with hash",
    "data": "data with hash", "image": "an image with content",
}  # fmt: skip
MENDS = {
    "ray": "install the head's version",
    "python": "use the head's version",
    "code": "install the head's version",
    "locked": "copy the task directory from the head",
    "data": "copy {data} from the head",
    "image": "on the head `docker save {image} | gzip > image.tgz`, here `docker load -i image.tgz`",
}
NO_RAY = "Ray is not installed here: pip install 'autoresearch-sandbox[ray]'"


class HeadFacts(BaseModel):
    """What the head tells every host that wants to join."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    code: str  # SHA-256 of the product's modules and of the seccomp profile
    release: str
    locked: str
    data: str
    image_id: str  # as the head's engine names it
    image: str  # SHA-256 of the image's layers, the same in every store
    ray: str
    python: str
    settings: dict[str, Any]
    clock: float = 0.0  # seconds since the epoch when this was written

    @property
    def digest(self) -> str:
        """Return a name for all of it but the run and the clock."""
        plain = self.model_dump(mode="json", exclude={"run", "clock"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def resource(self) -> str:
        """Return Ray's custom resource of the slots that have all of it in common with the head."""
        return f"{SLOT}_{self.digest}"


def hardware_resource(hardware: str) -> str:
    """Return Ray's custom resource of the slots of one hardware class."""
    return f"{SLOT}_on_{hashlib.sha256(hardware.encode()).hexdigest()[:12]}"


def collect_versions() -> dict[str, str]:
    """Return which code this is."""
    return {
        "code": hash_code(), "release": __version__, "ray": version("ray"), "python": platform.python_version(),
    }  # fmt: skip


def collect_locked(config: Config) -> dict[str, str]:
    """Return the hash of the task's locked files."""
    return {"locked": staging.digest(locked_files.hashes(config.root, config.task.stages))}


def collect_inputs(config: Config, engine: Engine) -> dict[str, str]:
    """Return the hashes of data and image. Raises ImageMissing or SandboxError."""
    return {
        "data": staging.digest(staging.manifests(config.data_path)),
        "image": engine.image_content(get_image_name(config)),
    }


def collect_facts(config: Config, engine: Engine) -> HeadFacts:
    """Return the head's facts. Raises ImageMissing or SandboxError."""
    image_id = engine.image_id(get_image_name(config))
    values = collect_versions() | collect_locked(config) | collect_inputs(config, engine)
    return HeadFacts.model_validate(
        {"run": config.tag, "image_id": image_id, "settings": shared_settings(config), **values}
    )


def shared_settings(config: Config) -> dict[str, Any]:
    """Return the settings that hold on every host; devices, accepted risks, keys and commands are each host's own."""
    plain = config.model_dump(mode="json", include=set(SHARED))
    plain["recording"]["anchor"] = None
    return plain


def hash_code() -> str:
    """Return the SHA-256 of the product's modules and of the seccomp profile."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in [*sorted(root.rglob("*.py")), SECCOMP]:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def find_difference(head: HeadFacts, here: Mapping[str, str]) -> str:
    """Return the first reason why a host with these facts may not join, with the mend; "" if there is none."""
    name = next((name for name in MENDS if name in here and here[name] != getattr(head, name)), "")
    if not name:
        return ""
    profile, corpus = head.settings.get("profile_name", "cpu"), head.settings.get("corpus", "python")
    mend = MENDS[name].format(data=f"data/{profile}-{corpus}", image=f"autoresearch-sandbox:{profile}")
    return f"this host has {WHAT[name]} {here[name][:12]}, the head {getattr(head, name)[:12]}: {mend}"


def find_clock_skew(head: HeadFacts, now: float) -> str:
    """Return what is wrong with this host's clock, "" if nothing; `now` is in seconds since the epoch."""
    skew = now - head.clock
    if abs(skew) <= MAX_CLOCK_SKEW_S:
        return ""
    way = "ahead of" if skew > 0 else "behind"
    return f"this host's clock is {abs(skew):.0f} s {way} the head's: set it (timedatectl set-ntp true)"


def parse_facts(text: str) -> HeadFacts:
    """Return the head's facts. Raises ConfigError."""
    try:
        return HeadFacts.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(
            f"the head is another version of autoresearch-sandbox than {__version__} here: install the head's"
        ) from error


def stamp(facts: HeadFacts) -> str:
    """Return the facts as the head writes them now."""
    return facts.model_copy(update={"clock": time.time()}).model_dump_json()


def require_ray() -> None:
    """Raise ConfigError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(NO_RAY)


def require_cluster(address: str, token_file: Path | None) -> Path:
    """Return the token's file for a head at an address, made where there is none. Raises ConfigError."""
    require_ray()
    split_address(address)
    return require_token(token_file, create=True)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"--address {address!r}: must be HOST:PORT, as 10.0.0.1:6379")
    if host in ("0.0.0.0", "::", "[::]"):  # noqa: S104  # refused, not bound
        raise ConfigError(f"--address {address}: name the one address of the head that the other hosts reach")
    return host, int(port)


def is_answering(address: str, timeout_s: float = CONNECT_S) -> bool:
    """Return whether something listens at an address."""
    try:
        with socket.create_connection(split_address(address), timeout=timeout_s):
            return True
    except OSError:
        return False


def is_own_address(address: str) -> bool:
    """Return whether an address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((split_address(address)[0], 0))
    except OSError:
        return False
    return True


def require_token(path: Path | None, *, create: bool) -> Path:
    """Return the file of the cluster's token, for its owner alone; the head makes it. Raises ConfigError."""
    file = (path or TOKEN_FILE).expanduser().absolute()
    try:
        if create and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as made:
                made.write(secrets.token_hex(32))
        with file.open("rb") as opened:
            status, text = os.fstat(opened.fileno()), opened.read(4096).strip()
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: no such file; copy the head's to it, or name it with --token-file") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; fix it, or name another --token-file") from error
    if status.st_mode & OTHERS or status.st_uid != os.getuid():
        raise ConfigError(f"{file}: others can read the cluster's token; chown it to you and chmod 600 {file}")
    if len(text) < LEAST_TOKEN:
        raise ConfigError(f"{file}: holds no token of at least {LEAST_TOKEN} characters; copy the head's file")
    return file


def cluster_environment(token: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of every process of the cluster; no key, no proxy, nothing else of ours."""
    return {name: environment[name] for name in PASSED_ON if name in environment} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # a host that lost its head gives up, and joins again
        "RAY_health_check_initial_delay_ms": "3000",
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "5",
        "PYTHONWARNINGS": "ignore",
    }
