"""Compare a container or volume as the engine reports it with the request, field by field. Pure."""

import re
from collections.abc import Mapping
from typing import Any

ENGINE_OWN = {"ConsoleSize", "ContainerIDFile", "IOMaximumBandwidth", "IOMaximumIOps"}  # of other systems, or output
SETS = {"ExposedPorts", "Volumes"}  # of which the keys say it, whatever the values
IMAGE_OWN = {"Env", "Labels", "OnBuild", "Shell", "ArgsEscaped"}  # the image adds to these; the first two are looked at
PODMAN_OWN = {"container", "HOSTNAME", "TERM"}  # variables
OF_NETWORK = {"Networks", "SandboxID", "SandboxKey"}  # the first is looked at, the others are names
APPARMOR = r"(docker-default|containers-default-[0-9.]+)?"  # Docker names its own after the start only
SELINUX = {"ProcessLabel": r"[^:]+:[^:]+:container_t:.+", "MountLabel": r"[^:]+:[^:]+:container_file_t:.+"}


def container_diff(asked: dict[str, Any], inspected: dict[str, Any], facts: Mapping[str, str] = {}) -> list[str]:
    """List every field in which the created container differs from the request: `Field: asked X, is Y`.

    `facts` describe the engine: SELinux and the cgroup version; without them, both are accepted as requested.
    """
    config, host = inspected.get("Config") or {}, inspected.get("HostConfig") or {}
    argv = [inspected.get("Path"), *(inspected.get("Args") or [])]
    found = _compare("argv", asked["Cmd"], argv)
    plain = {key: value for key, value in asked.items() if key != "HostConfig"}
    found += _compare_all("Config", plain, config, IMAGE_OWN)
    found += _environment(asked["Env"], config.get("Env") or [])
    labels = config.get("Labels") or {}  # the image brings labels of its own
    for key, value in asked["Labels"].items():
        found += _compare(f"Config.Labels.{key}", value, labels.get(key))
    found += _compare_all("HostConfig", asked["HostConfig"], host, ENGINE_OWN)
    if str(inspected.get("Image")).removeprefix("sha256:") != asked["Image"].removeprefix("sha256:"):
        found.append(f"Image: asked {asked['Image']!r}, is {inspected.get('Image')!r}")
    found += (
        _required_fields(host, facts)
        + _confinement(inspected, facts)
        + _network(inspected.get("NetworkSettings") or {})
    )
    found += _compare("Platform", "linux", inspected.get("Platform")) + _compare(
        "ExecIDs", [], inspected.get("ExecIDs")
    )
    return found + _mounts(asked["HostConfig"], inspected)


def _required_fields(host: dict[str, Any], facts: Mapping[str, str]) -> list[str]:
    """Compare fields whose absence means the engine's own default; swappiness exists on cgroup v1 only."""
    wanted: dict[str, object] = {"Init": False} | ({"MemorySwappiness": 0} if facts.get("cgroup") == "1" else {})
    return [
        f"HostConfig.{key}: asked {value!r}, is {host.get(key)!r}"
        for key, value in wanted.items()
        if host.get(key) is None
    ]


def _confinement(inspected: dict[str, Any], facts: Mapping[str, str]) -> list[str]:
    """Compare the confinement by the kernel's security modules with the engine's own default."""
    patterns = {"AppArmorProfile": APPARMOR, **{key: f"({label})?" for key, label in SELINUX.items()}}
    if "security" in facts:
        patterns |= SELINUX if "name=selinux" in facts["security"] else dict.fromkeys(SELINUX, "")
    return [
        f"{key}: asked the engine's own, is {inspected.get(key)!r}"
        for key, pattern in patterns.items()
        if not re.fullmatch(pattern, str(inspected.get(key) or ""))
    ]


def _network(settings: dict[str, Any]) -> list[str]:
    """Check for networks, addresses and open ports: none are allowed."""
    found = _compare("NetworkSettings.Networks", [], sorted(set(settings.get("Networks") or {}) - {"none"}))
    for key in sorted(settings.keys() - OF_NETWORK):
        found += _compare(f"NetworkSettings.{key}", None, settings[key])
    return found


def volume_diff(options: dict[str, str], labels: dict[str, str], inspected: dict[str, Any]) -> list[str]:
    """List the differences of a volume. Podman repeats parts of `o` as options of their own, in capitals."""
    there = {key: value for key, value in (inspected.get("Options") or {}).items() if key not in ("UID", "GID")}
    found = _compare("Driver", "local", inspected.get("Driver"))
    return found + _compare("Options", options, there) + _compare("Labels", labels, inspected.get("Labels"))


def _compare_all(prefix: str, wanted: dict[str, Any], is_now: dict[str, Any], but: set[str]) -> list[str]:
    """Compare all fields; those that were not asked for must be empty."""
    found = []
    for key in sorted((wanted.keys() | is_now.keys()) - but):
        if key in SETS:
            found += _compare(f"{prefix}.{key}", sorted(wanted.get(key) or ()), sorted(is_now.get(key) or ()))
        else:
            found += _compare(f"{prefix}.{key}", wanted.get(key), is_now.get(key))
    return found


def _compare(name: str, wanted: object, is_now: object) -> list[str]:
    wanted, is_now = _normal(wanted), _normal(is_now)
    return [] if wanted == is_now else [f"{name}: asked {wanted!r}, is {is_now!r}"]


def _normal(value: object) -> object:
    """Normalize a value: engines use a missing field, null, 0, empty and false for the same thing."""
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items() if _normal(item) is not None} or None
    if isinstance(value, list):
        return [_normal(item) for item in value] or None
    return value or None


def _environment(asked: list[str], is_now: list[str]) -> list[str]:
    """Compare variables: Podman adds a few known ones; ours may not change, and no others or duplicates may appear."""
    ours = dict(item.split("=", 1) for item in asked)
    pairs = [(item if "=" in item else f"{item}=").split("=", 1) for item in is_now]
    there, names = dict(pairs), [name for name, _ in pairs]
    found = [
        f"Config.Env.{key}: asked {value!r}, is {there.get(key)!r}"
        for key, value in ours.items()
        if there.get(key) != value
    ]
    twice = sorted(key for key in there if names.count(key) > 1)  # libc takes the first
    found += [f"Config.Env.{key}: is there twice" for key in twice]
    strange = sorted(there.keys() - ours.keys() - PODMAN_OWN)
    return found + [f"Config.Env.{key}: was not asked for" for key in strange]


def _mounts(host: dict[str, Any], inspected: dict[str, Any]) -> list[str]:
    """Compare what is mounted from where, in both directions."""
    wanted = sorted(
        (mount["Target"], mount["Type"], mount["Source"], not mount["ReadOnly"], mount["Type"] == "bind" and "rprivate")
        for mount in host["Mounts"]
    )
    is_now = sorted(
        (
            str(mount.get("Destination")),
            str(mount.get("Type")),
            str(mount.get("Name") if mount.get("Type") == "volume" else mount.get("Source")),
            bool(mount.get("RW")),
            mount.get("Type") == "bind" and str(mount.get("Propagation")),
        )
        for mount in inspected.get("Mounts") or []
    )
    return [] if wanted == is_now else [f"Mounts: asked {wanted!r}, is {is_now!r}"]
