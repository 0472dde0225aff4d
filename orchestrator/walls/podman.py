"""Podman's Docker-compatible API: what it is sent in other words, and what it says in Docker's words. Pure.

Seen with Podman 4.3, rootless: a seccomp profile is taken by path; masked paths by a security option; a tmpfs takes no
`nr_inodes`, and a volume no `size` (but `nr_blocks`, the same limit in pages); a read-only root file system comes with
writable tmpfs of any size on /run and /var/tmp; limits of the `ulimit` kind are ignored (the guard inside sets them
too). Podman's own inspect tells what the compatible one does not: capabilities, runtime, log, namespaces.

Seen with Podman 5.8, as root: limits of the `ulimit` kind are set, and said in its own words; the compatible inspect
repeats a few parts of the request as annotations, and says how long a stop waits where nothing was asked.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.walls.create_body import SHM

PAGE = 4096
MASK = "mask="
EMPTY = f"ro,noexec,nosuid,nodev,size={PAGE},mode=0555"  # in place of what Podman would mount there
OWN_TMPFS = ("/run", "/var/tmp")  # noqa: S108
UNLIMITED = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit", "CpusetCpus")  # what a rootless engine drops on cgroup v1
QUOTA = ("CpuPeriod", "CpuQuota")  # microseconds
DELEGATED = "user.slice"  # below its user's own, where systemd keeps the cgroups: the default, in its words
STOP_S = 10  # a stop waits so long where nothing was asked
RLIMIT = "RLIMIT_"
ANNOTATION = "io.podman.annotations."
ADDED = {"rprivate", "tmpcopyup"}  # to the options of every tmpfs
SAME = {
    "Config": {"StopSignal": {"9": "SIGKILL"}},
    "HostConfig": {"IpcMode": {"shareable": "private"}, "PidMode": {"private": ""}, "UTSMode": {"private": ""}},
}  # its words for Docker's; "shareable": with containers of the same user, if one asks for it


def to_podman_request(asked: Mapping[str, Any], profile: Path) -> dict[str, Any]:
    """Build the body of the create call; `profile` holds the text of the seccomp profile."""
    body = copy.deepcopy(dict(asked))
    body["Entrypoint"], body["Cmd"] = _split(asked["Cmd"])
    host = body["HostConfig"]
    by_path = [f"seccomp={profile}" if o.startswith("seccomp={") else o for o in host["SecurityOpt"]]
    host["SecurityOpt"] = [*by_path, *([f"{MASK}{':'.join(host['MaskedPaths'])}"] if host["MaskedPaths"] else [])]
    host["Tmpfs"] = _tmpfs(host["Tmpfs"]) | (dict.fromkeys(OWN_TMPFS, EMPTY) if host["ReadonlyRootfs"] else {})
    host["Binds"] = [_bind(mount) for mount in host["Mounts"]]
    host["Mounts"] = []
    size = {key: value for key, value in host["LogConfig"]["Config"].items() if key == "max-size"}
    host["LogConfig"] = {"Type": "k8s-file", "Config": size}
    return body


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split into entry point and command: an empty entry point would be the image's."""
    return argv[:1], argv[1:]


def volume(options: Mapping[str, str], size: int) -> dict[str, str]:
    """Return the options of a volume: its size in pages, which Podman passes on to the kernel as they are."""
    return {**options, "o": options["o"].replace(f"size={size}", f"nr_blocks={-(-size // PAGE)}")}


def normalize_inspect(
    asked: Mapping[str, Any], profile: Path, said: Mapping[str, Any], own: Mapping[str, Any], *, limited: bool
) -> dict[str, Any]:
    """Translate Podman's view of a container into Docker's; `said` is the compatible inspect, `own` is Podman's.

    What means the same is put into Docker's words; everything else stays as it is, so that the read-back sees it. Where
    the engine cannot limit (`limited` is false: a person has accepted that), limits count as asked if they are absent.
    """
    found, body = copy.deepcopy(dict(said)), to_podman_request(asked, profile)
    config, host, own_host = found["Config"], found["HostConfig"], own["HostConfig"]
    for part, words in SAME.items():
        for key, same in words.items():
            found[part][key] = same.get(found[part].get(key), found[part].get(key))
    for key in ("AttachStdout", "AttachStderr"):  # of the client, not of the container
        config[key] = asked[key]
    if (config.get("Entrypoint"), config.get("Cmd")) == _split(asked["Cmd"]):
        config["Entrypoint"], config["Cmd"] = [], asked["Cmd"]
    config["Image"] = asked["Image"]  # a name here; the id is compared by itself
    if asked.get("StopTimeout") is None and config.get("StopTimeout") == STOP_S:
        config["StopTimeout"] = None
    host["Annotations"] = _annotations(host, profile)
    config["NetworkDisabled"] = host.get("NetworkMode") == "none"
    config["Healthcheck"] = {"Test": (config.get("Healthcheck") or {}).get("Test")}
    if not own.get("BoundingCaps") and not own.get("EffectiveCaps"):
        host["CapDrop"] = asked["HostConfig"]["CapDrop"]
    host["Runtime"] = own.get("OCIRuntime")
    host["Init"] = own_host.get("Init", False)  # which is said only where there is one
    told = [option for option in body["HostConfig"]["SecurityOpt"] if not option.startswith(MASK)]
    host["CgroupnsMode"] = own_host.get("CgroupMode") if limited else asked["HostConfig"]["CgroupnsMode"]
    limits = _limits(host.get("Ulimits"))  # also those that only `default_ulimits` of containers.conf names
    as_sent = {
        "Tmpfs": _options(host.get("Tmpfs") or {}) == _options(body["HostConfig"]["Tmpfs"]),
        "Mounts": _binds(host.get("Binds") or []) == _binds(body["HostConfig"]["Binds"]),
        "LogConfig": _log(own_host.get("LogConfig") or {}, body["HostConfig"]["LogConfig"]),
        "SecurityOpt": sorted(host.get("SecurityOpt") or []) == sorted(told),
        "Ulimits": not limits or _limits(asked["HostConfig"]["Ulimits"]).items() <= limits.items(),
        "MaskedPaths": host.get("MaskedPaths") is None,  # not told, nor is the option: see probes
        "ReadonlyPaths": host.get("ReadonlyPaths") is None,  # not told; Podman's own are what we ask for, see probes
        **({} if limited else {key: not host.get(key) for key in UNLIMITED}),
    }
    if _nano_cpus(host) == asked["HostConfig"]["NanoCpus"]:  # the same, told twice
        host.update(dict.fromkeys(QUOTA, 0))
    if host.get("CgroupParent") == DELEGATED:
        host["CgroupParent"] = ""
    host.update({key: asked["HostConfig"][key] for key, same in as_sent.items() if same})
    if as_sent["Mounts"]:
        host["Binds"] = []
    return found


def _annotations(host: Mapping[str, Any], profile: Path) -> dict[str, str]:
    """Return the annotations that do not repeat what was asked for."""
    said = {"pids-limit": host.get("PidsLimit"), "cpuset": host.get("CpusetCpus"), "seccomp": profile}
    repeated = {f"{ANNOTATION}{name}": str(value) for name, value in said.items()}
    return {key: text for key, text in (host.get("Annotations") or {}).items() if repeated.get(key) != text}


def _limits(ulimits: list[dict[str, Any]] | None) -> dict[str, tuple[int, int]]:
    """Return soft and hard limit by lower-case name; the last one of a name is the one in force."""
    return {
        one["Name"].removeprefix(RLIMIT).lower(): (one.get("Soft") or 0, one.get("Hard") or 0) for one in ulimits or []
    }


def _nano_cpus(host: Mapping[str, Any]) -> int:
    period, quota = (host.get(key) or 0 for key in QUOTA)
    return quota * 10**9 // period if period else 0


def _tmpfs(wanted: Mapping[str, str]) -> dict[str, str]:
    return {
        place: ",".join(option for option in options.split(",") if not option.startswith("nr_inodes="))
        for place, options in wanted.items()
        if place != SHM  # of the size that is asked for, but Podman makes it itself
    }


def _bind(mount: Mapping[str, Any]) -> str:
    """Format a mount in the old form, which alone takes options for volumes too."""
    options = ["ro" if mount["ReadOnly"] else "rw", "nosuid", "nodev", "noexec", "rprivate"]
    return f"{mount['Source']}:{mount['Target']}:{','.join(options)}"


def _binds(binds: list[str]) -> list[tuple[str, str, frozenset[str]]]:
    """Make binds comparable: order does not matter, nor whether mounts below come along, as there are none."""
    parts = [bind.rsplit(":", 2) for bind in binds]
    return sorted(
        (source, target, frozenset(options.split(",")) - {"bind", "rbind"}) for source, target, options in parts
    )


def _options(tmpfs: Mapping[str, str]) -> dict[str, set[str]]:
    return {place: set(options.split(",")) - ADDED for place, options in tmpfs.items()}


def _log(own: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return whether the log has the kind and size asked for; Podman rounds sizes to four digits, as 8.389MB."""
    told = str(own.get("Size") or "")
    return own.get("Type") == asked["Type"] and told == _human(int(asked["Config"]["max-size"]))


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"
