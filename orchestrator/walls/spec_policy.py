"""What makes a container spec weak; each rule names the field, the value and what it must be.

Pure, but that paths are looked at as the engine would: through their links.
"""

import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.errors import SpecRefused
from orchestrator.types import PARTS, Role, is_shareable
from orchestrator.walls.seccomp import profile_error
from orchestrator.walls.spec import ContainerSpec, Mount

ENVIRONMENT = frozenset((
    "AUTORESEARCH_PROFILE", "AUTORESEARCH_TIME_BUDGET", "AUTORESEARCH_SEED", "HOME", "USER", "TMPDIR", "PYTHONPATH",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED",
    "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "PATH", "LANG",
))  # fmt: skip
LINKED = tuple(f"/linked-{number}" for number in range(16))  # where links of the user's own text lead
READABLE = {  # the only places where something may be mounted, tmpfs apart
    Role.TRAINER: {"/locked", "/mutable/train.py", "/data/train", "/warm"},
    Role.PREDICTOR_A: {"/locked", "/mutable/train.py", "/out", "/ask"},
    Role.PREDICTOR_B: {"/locked", "/mutable/train.py", "/out", "/ask"},
    Role.SCORER: {"/locked", "/data/val", "/control", "/answer-a", "/answer-b", "/mutable", "/kept"},
    Role.ANSWERER: {"/locked", "/mutable", "/ask"},
    Role.REFERENCE: {"/locked", "/mutable", "/ask"},
    Role.BRIEF: {"/locked", "/kept"},
    Role.PREPARE: {"/locked", "/corpus", "/source", *LINKED},
    Role.EXPORTER: {"/locked", "/out"},
}
SHARING = (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER)  # may read the task's shared data besides
WRITABLE = {  # and the only ones that may be written to
    Role.TRAINER: {"/out"},
    Role.PREDICTOR_A: {"/answer"},
    Role.PREDICTOR_B: {"/answer"},
    Role.SCORER: {"/ask-a", "/ask-b"},
    Role.ANSWERER: {"/answer"},
    Role.REFERENCE: {"/answer"},
    Role.BRIEF: set(),
    Role.PREPARE: {"/staging"},  # runs our code only, before any experiment; the one writable place that lasts
    Role.EXPORTER: set(),
}
OF_THE_HOST = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys",
               "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/sbin",
               "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/log", "/var/run",
               "/var/spool")  # fmt: skip
TOO_MUCH = {"/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/usr/local", "/var", "/var/lib"}  # noqa: S108
SECRETS = {".aws", ".azure", ".docker", ".gnupg", ".kube", ".netrc", ".password-store", ".ssh"}  # wherever they are
SEARCHED = {"PATH": ("/bin", "/opt", "/usr"), "PYTHONPATH": ("/locked",)}  # what is run is found here: nothing writable
COUNTS = ("memory", "pids", "tmp", "cache", "shm", "files", "file_size")
LEAST_CPUS = 0.01  # less, and the engine takes it for no limit, or not at all
YOURSELF = "0:0"  # where the engine is rootless
LONGEST_S = 7 * 86400.0


def validate_spec(spec: ContainerSpec) -> None:
    """Raise SpecRefused, naming the field, for a spec that weakens a wall."""
    if not re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", spec.user) and (spec.role, spec.user) != (Role.PREPARE, YOURSELF):
        _refuse("user", spec.user, "a numeric uid:gid, neither of them root")
    if spec.userns and (spec.role, spec.userns) != (Role.PREPARE, "host"):
        _refuse("userns", spec.userns, "the engine's own")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", spec.image_id):
        _refuse("image_id", spec.image_id, "the id of a local image, sha256:...")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", spec.name):
        _refuse("name", spec.name, "up to 128 letters, digits, dots, dashes")
    _refuse_limits(spec)
    if not spec.program:
        _refuse("program", spec.program, "an explicit argv")
    if unknown := set(spec.environment) - ENVIRONMENT:
        _refuse("environment", sorted(unknown), "variables of the allowlist only")
    _refuse_searched(spec)
    if "autoresearch" not in spec.labels:
        _refuse("labels", sorted(spec.labels), "marked as ours, or no reaper finds it")
    if spec.gpu_uuid is not None and not re.fullmatch(r"(GPU|MIG)-[0-9A-Za-z/-]+", spec.gpu_uuid):
        _refuse("gpu_uuid", spec.gpu_uuid, "one UUID, neither an index nor all")
    if wanted := profile_error(spec.seccomp, spec.runtime):
        shown = spec.seccomp if len(spec.seccomp) <= 80 else f"{spec.seccomp[:80]}..."  # noqa: PLR2004
        _refuse("seccomp", shown, wanted)
    _refuse_mounts(spec)


def _refuse_limits(spec: ContainerSpec) -> None:
    for name in COUNTS:
        if not _is_count(getattr(spec.resources, name)):
            _refuse(f"resources.{name}", getattr(spec.resources, name), "a limit above 0, a whole number")
    if not (_is_limit(spec.resources.cpus) and spec.resources.cpus >= LEAST_CPUS):
        _refuse("resources.cpus", spec.resources.cpus, f"a limit of {LEAST_CPUS} or more")
    if not _is_count(spec.log_bytes):
        _refuse("log_bytes", spec.log_bytes, "a limit above 0, a whole number")
    if not (_is_limit(spec.hard_limit_s) and spec.hard_limit_s <= LONGEST_S):
        _refuse("hard_limit_s", spec.hard_limit_s, "a deadline above 0 and within a week")


def _is_limit(value: Any) -> bool:  # noqa: ANN401  # whatever a caller put there
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_count(value: Any) -> bool:  # noqa: ANN401
    return _is_limit(value) and isinstance(value, int)


def _refuse_searched(spec: ContainerSpec) -> None:
    """Refuse search paths for programs and modules outside read-only folders."""
    for name, places in SEARCHED.items():
        for path in spec.environment[name].split(":") if name in spec.environment else ():
            if ".." in path or not any(PurePosixPath(path).is_relative_to(place) for place in places):
                _refuse("environment", f"{name}={spec.environment[name]}", f"of folders below {', '.join(places)}")


def _refuse_mounts(spec: ContainerSpec) -> None:
    if wrong := [name for name in spec.shared_data if not is_shareable(name)]:
        _refuse("shared_data", wrong, f"names of folders, none of them {', '.join(PARTS)}")
    shared = {f"/data/{name}" for name in spec.shared_data} if spec.role in SHARING else set()
    for mount in spec.mounts:
        _refuse_mount(spec.role, mount, WRITABLE[spec.role] if mount.writable else READABLE[spec.role] | shared)
    targets = [mount.target for mount in spec.mounts]
    if twice := {target for target in targets if targets.count(target) > 1}:
        _refuse("mounts", sorted(twice), "one mount for each place")


def _refuse_mount(role: Role, mount: Mount, allowed: set[str]) -> None:
    if mount.target not in allowed:
        how = "written to" if mount.writable else "mounted"
        _refuse("mounts", mount.target, f"one of {sorted(allowed)}: nothing else is {how} in a {role}")
    if mount.volume:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", mount.source):
            _refuse("mounts", mount.source, "the name of a volume")
        return
    if mount.writable and role is not Role.PREPARE:
        _refuse("mounts", mount.source, "a size-capped volume, if it can be written to")
    if not mount.source.startswith("/") or ".." in PurePosixPath(mount.source).parts:
        _refuse("mounts", mount.source, "an absolute host path")
    try:
        of_host = _is_of_host(_plain(mount.source)) or _is_of_host(Path(mount.source).resolve())
    except (OSError, RuntimeError):  # nobody may look there but the engine, or links in a circle
        of_host = True
    if of_host:
        _refuse("mounts", mount.source, "a path of the experiment, not of the host")


def _plain(source: str) -> Path:
    """Normalize a path, including a second slash at its beginning."""
    return Path("/" + os.path.normpath(source).lstrip("/"))


def _is_of_host(path: Path) -> bool:
    """Return whether a path is the system's, a whole home, a secret, or neither folder nor file."""
    in_system = any(path.is_relative_to(place) for place in OF_THE_HOST)
    home = path.parent == Path("/home")
    special = path.suffix == ".sock" or (path.exists() and not (path.is_dir() or path.is_file()))
    return in_system or str(path) in TOO_MUCH or home or bool(SECRETS & set(path.parts)) or special


def _refuse(name: str, value: object, wanted: str) -> None:
    raise SpecRefused(f"container spec: {name} = {value!r} weakens a wall; it must be {wanted}")
