"""What the engine says it made, compared field by field with what was asked. Pure."""

from typing import Any

CONFIG = (
    "Image", "Cmd", "Entrypoint", "User", "WorkingDir", "Hostname", "Domainname", "Tty", "OpenStdin", "StdinOnce",
    "ExposedPorts", "Volumes", "StopSignal", "Healthcheck", "NetworkDisabled",
)  # fmt: skip
ENGINE_OWN = {"ConsoleSize", "ContainerIDFile", "Annotations", "IOMaximumBandwidth", "IOMaximumIOps"}


def differences(asked: dict[str, Any], inspected: dict[str, Any]) -> list[str]:
    """Every field in which the created container is not what was asked for: `Field: asked X, is Y`."""
    found = []
    config, host = inspected.get("Config", {}), inspected.get("HostConfig", {})
    for key in CONFIG:
        found += _compare(key, asked.get(key), config.get(key))
    found += _environment(asked["Env"], config.get("Env") or [])
    labels = config.get("Labels") or {}  # the image brings labels of its own
    for key, value in asked["Labels"].items():
        found += _compare(f"Labels.{key}", value, labels.get(key))
    for key in sorted((asked["HostConfig"].keys() | host.keys()) - ENGINE_OWN):
        wanted, is_now = asked["HostConfig"].get(key), host.get(key)
        if key == "Runtime" and not wanted:
            continue  # the engine's default, which is recorded
        found += _compare(f"HostConfig.{key}", wanted, is_now)
    if inspected.get("Image") not in (asked["Image"], asked["Image"].removeprefix("sha256:")):
        found.append(f"Image: asked {asked['Image']!r}, is {inspected.get('Image')!r}")
    return found + _mounts(asked, inspected)


def _compare(name: str, wanted: object, is_now: object) -> list[str]:
    wanted, is_now = _normal(wanted), _normal(is_now)
    return [] if wanted == is_now else [f"{name}: asked {wanted!r}, is {is_now!r}"]


def _normal(value: object) -> object:
    """Engines say nothing, null, 0, empty and false for the same thing."""
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items() if _normal(item) is not None} or None
    if isinstance(value, list):
        return [_normal(item) for item in value] or None
    return value or None


def _environment(asked: list[str], is_now: list[str]) -> list[str]:
    """The image may add variables of its own; none of ours may be changed and no other may look like ours."""
    ours = dict(item.split("=", 1) for item in asked)
    there = dict(item.split("=", 1) for item in is_now)
    found = [f"Env.{key}: asked {value!r}, is {there.get(key)!r}" for key, value in ours.items() if there.get(key) != value]
    secret = [key for key in there.keys() - ours.keys() if key.upper().endswith(("_PROXY", "_KEY", "_TOKEN"))]
    return found + [f"Env.{key}: was not asked for" for key in secret]


def _mounts(asked: dict[str, Any], inspected: dict[str, Any]) -> list[str]:
    wanted = {mount["Target"]: not mount["ReadOnly"] for mount in asked["HostConfig"]["Mounts"]}
    is_now = {mount["Destination"]: bool(mount["RW"]) for mount in inspected.get("Mounts") or []}
    for target in asked["HostConfig"]["Tmpfs"]:
        is_now.pop(target, None)
    return _compare("Mounts", wanted, is_now)
