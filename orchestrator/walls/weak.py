"""What makes a container spec weak; each rule names the field, the value and what it must be. Pure."""

import json
import math
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SpecRefused
from orchestrator.types import Role

if TYPE_CHECKING:
    from orchestrator.walls.spec import ContainerSpec, Mount

ENVIRONMENT = frozenset((
    "AUTORESEARCH_PROFILE", "AUTORESEARCH_TIME_BUDGET", "AUTORESEARCH_SEED", "HOME", "USER", "TMPDIR", "PYTHONPATH",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED",
    "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "PATH", "LANG",
))  # fmt: skip
READABLE = {  # the only places where something may be mounted, tmpfs apart
    Role.TRAINER: {"/locked", "/mutable/train.py", "/data/tokenizer", "/data/train", "/warm"},
    Role.PREDICTOR_A: {"/locked", "/mutable/train.py", "/data/tokenizer", "/out", "/ask"},
    Role.PREDICTOR_B: {"/locked", "/mutable/train.py", "/data/tokenizer", "/out", "/ask"},
    Role.SCORER: {"/locked", "/data/tokenizer", "/data/val", "/control", "/answer-a", "/answer-b"},
    Role.PREPARE: {"/locked", "/corpus"},
    Role.COURIER: {"/locked", "/out"},
}
WRITABLE = {  # and the only ones that may be written to
    Role.TRAINER: {"/out"},
    Role.PREDICTOR_A: {"/answer"},
    Role.PREDICTOR_B: {"/answer"},
    Role.SCORER: {"/ask-a", "/ask-b"},
    Role.PREPARE: {"/staging"},  # runs our code only, before any experiment; the one writable place that lasts
    Role.COURIER: set(),
}
OF_THE_HOST = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/lib/containerd", "/var/lib/containers",
               "/var/lib/docker", "/var/run")  # fmt: skip
TOO_MUCH = {"/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/var", "/var/lib"}  # noqa: S108
REFUSING = {"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"}
LIMITS = ("memory", "cpus", "pids", "tmp", "cache", "shm", "files", "file_size")
LONGEST_S = 7 * 86400.0


def refuse_weak(spec: "ContainerSpec") -> None:
    """Raise SpecRefused, naming the field, for a spec that weakens a wall."""
    if not re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", spec.user):
        _refuse("user", spec.user, "a numeric uid:gid, neither of them root")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", spec.image_id):
        _refuse("image_id", spec.image_id, "the id of a local image, sha256:...")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", spec.name):
        _refuse("name", spec.name, "up to 128 letters, digits, dots, dashes")
    _refuse_limits(spec)
    if not spec.program:
        _refuse("program", spec.program, "an explicit argv")
    if unknown := set(spec.environment) - ENVIRONMENT:
        _refuse("environment", sorted(unknown), "variables of the allowlist only")
    if "autoresearch" not in spec.labels:
        _refuse("labels", sorted(spec.labels), "marked as ours, or no reaper finds it")
    if spec.gpu_uuid is not None and not re.fullmatch(r"(GPU|MIG)-[0-9A-Za-z/-]+", spec.gpu_uuid):
        _refuse("gpu_uuid", spec.gpu_uuid, "one UUID, neither an index nor all")
    _refuse_profile(spec.seccomp)
    _refuse_mounts(spec)


def _refuse_limits(spec: "ContainerSpec") -> None:
    for name in LIMITS:
        if not _is_limit(getattr(spec.resources, name)):
            _refuse(f"resources.{name}", getattr(spec.resources, name), "a limit above 0")
    if not _is_limit(spec.log_bytes):
        _refuse("log_bytes", spec.log_bytes, "a limit above 0")
    if not (_is_limit(spec.hard_limit_s) and spec.hard_limit_s <= LONGEST_S):
        _refuse("hard_limit_s", spec.hard_limit_s, "a deadline above 0 and within a week")


def _is_limit(value: Any) -> bool:  # noqa: ANN401  # whatever a caller put there
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _refuse_profile(text: str) -> None:
    """A profile that the engine would take as a path, as `unconfined`, or that allows what it does not name."""
    try:
        profile = json.loads(text)
    except ValueError:
        profile = None
    shown = text if len(text) <= 80 else f"{text[:80]}..."  # noqa: PLR2004
    if not isinstance(profile, dict):
        _refuse("seccomp", shown, "the text of a profile, in JSON")
    elif profile.get("defaultAction") not in REFUSING:
        _refuse("seccomp", shown, "a profile whose defaultAction refuses")


def _refuse_mounts(spec: "ContainerSpec") -> None:
    for mount in spec.mounts:
        _refuse_mount(spec.role, mount)
    targets = [mount.target for mount in spec.mounts]
    if twice := {target for target in targets if targets.count(target) > 1}:
        _refuse("mounts", sorted(twice), "one mount for each place")


def _refuse_mount(role: Role, mount: "Mount") -> None:
    allowed = WRITABLE[role] if mount.writable else READABLE[role]
    if mount.target not in allowed:
        how = "written to" if mount.writable else "mounted"
        _refuse("mounts", mount.target, f"one of {sorted(allowed)}: nothing else is {how} in a {role}")
    if mount.volume:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", mount.source):
            _refuse("mounts", mount.source, "the name of a volume")
        return
    if mount.writable and role is not Role.PREPARE:
        _refuse("mounts", mount.source, "a size-capped volume, if it can be written to")
    source = PurePosixPath(mount.source)
    if not source.is_absolute() or ".." in source.parts:
        _refuse("mounts", mount.source, "an absolute host path")
    of_host = any(source.is_relative_to(place) for place in OF_THE_HOST)
    if of_host or str(source) in TOO_MUCH or source.suffix == ".sock":
        _refuse("mounts", mount.source, "a path of the experiment, not of the host")


def _refuse(name: str, value: object, wanted: str) -> None:
    message = f"container spec: {name} = {value!r} weakens a wall; it must be {wanted}"
    raise SpecRefused(message)
