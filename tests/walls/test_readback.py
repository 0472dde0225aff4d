"""What the engine made is compared with what was asked; a real container's inspect, changed one field at a time."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecRefused
from orchestrator.units import MIB
from orchestrator.walls.container import start
from orchestrator.walls.engine import Engine
from orchestrator.walls.inspect_diff import container_diff
from orchestrator.walls.spec import LABEL, Mount
from tests.support.boxes import Boxes

pytestmark = pytest.mark.engine
Json = dict[str, Any]

CHANGES: list[tuple[str, Any]] = [  # where, in the engine's inspect, and what stands there instead
    ("Path", "sh"),
    ("Args", ["-c", "true"]),
    ("Image", "sha256:" + "1" * 64),
    ("AppArmorProfile", "unconfined"),
    ("AppArmorProfile", "docker-default-of-mine"),
    ("AppArmorProfile", "containers-default-0.5 (complain)"),
    ("ProcessLabel", "system_u:system_r:spc_t:s0"),
    ("ProcessLabel", "system_u:system_r:container_t:s0:c1,c2"),  # where the engine has no SELinux
    ("MountLabel", "system_u:object_r:etc_t:s0"),
    ("Platform", "windows"),
    ("Platform", ""),
    ("ExecIDs", ["a" * 64]),
    ("NetworkSettings.Networks", {"bridge": {}}),
    ("NetworkSettings.Ports", {"80/tcp": [{"HostPort": "80"}]}),
    ("NetworkSettings.IPAddress", "172.17.0.2"),
    ("NetworkSettings.GlobalIPv6Address", "2001:db8::2"),
    ("NetworkSettings.SecondaryIPAddresses", [{"Addr": "172.17.0.3"}]),
    ("NetworkSettings.Gateway", "172.17.0.1"),
    ("NetworkSettings.MacAddress", "02:42:ac:11:00:02"),
    ("Config.Image", "other:latest"),
    ("Config.User", "0:0"),
    ("Config.Cmd", ["sh"]),
    ("Config.Entrypoint", ["sh"]),
    ("Config.WorkingDir", "/out"),
    ("Config.Hostname", "host"),
    ("Config.Domainname", "example"),
    ("Config.Tty", True),
    ("Config.OpenStdin", True),
    ("Config.StdinOnce", True),
    ("Config.AttachStdin", True),
    ("Config.AttachStdout", False),
    ("Config.NetworkDisabled", False),
    ("Config.ExposedPorts", {"80/tcp": {}}),
    ("Config.Volumes", {"/host": {}}),
    ("Config.StopSignal", "SIGTERM"),
    ("Config.Healthcheck", {"Test": ["CMD", "sh"]}),
    ("Config.MacAddress", "02:00:00:00:00:01"),
    ("Config.Env", ["PATH=/evil"]),
    ("Config.Env+", "LD_PRELOAD=/tmp/evil.so"),
    ("Config.Env+", "HTTPS_PROXY=http://127.0.0.1"),
    ("Config.Env+", "PYTHONPATH=/tmp"),
    ("Config.Env+", "PATH=/tmp"),
    ("Config.Env+", "PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"),
    ("Config.Env+", "NVIDIA_VISIBLE_DEVICES=all"),
    ("Config.Env~NVIDIA_DRIVER_CAPABILITIES", "all"),
    ("Config.Labels", {}),
    ("Config.Labels.autoresearch.owner", "someone else"),
    ("HostConfig.NetworkMode", "bridge"),
    ("HostConfig.NetworkMode", "host"),
    ("HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
    ("HostConfig.PublishAllPorts", True),
    ("HostConfig.Links", ["/other:other"]),
    ("HostConfig.Dns", ["192.0.2.1"]),
    ("HostConfig.DnsOptions", ["ndots:1"]),
    ("HostConfig.DnsSearch", ["example"]),
    ("HostConfig.ExtraHosts", ["host:127.0.0.1"]),
    ("HostConfig.CapAdd", ["SYS_ADMIN"]),
    ("HostConfig.CapDrop", []),
    ("HostConfig.CapDrop", ["NET_RAW"]),
    ("HostConfig.Privileged", True),
    ("HostConfig.SecurityOpt", ["no-new-privileges"]),
    ("HostConfig.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
    ("HostConfig.SecurityOpt+", "apparmor=unconfined"),
    ("HostConfig.SecurityOpt+", "label=disable"),
    ("HostConfig.ReadonlyRootfs", False),
    ("HostConfig.ReadonlyPaths", []),
    ("HostConfig.MaskedPaths", []),
    ("HostConfig.Binds", ["/etc:/host"]),
    ("HostConfig.VolumesFrom", ["other"]),
    ("HostConfig.Mounts", []),
    ("HostConfig.Mounts.0.ReadOnly", False),
    ("HostConfig.Mounts.0.Source", "/etc"),
    ("HostConfig.Mounts.0.BindOptions", {"Propagation": "rshared"}),
    ("Mounts.0.RW", True),
    ("Mounts.0.Source", "/etc"),
    ("Mounts.0.Destination", "/elsewhere"),
    ("Mounts.0.Propagation", "rshared"),
    ("Mounts+", {"Type": "bind", "Source": "/etc", "Destination": "/host", "RW": True, "Propagation": "rprivate"}),
    ("Mounts+", {"Type": "bind", "Source": "/etc", "Destination": "/tmp", "RW": True, "Propagation": "rprivate"}),
    ("HostConfig.Tmpfs./dev/shm", "rw,exec"),
    ("Mounts+", {"Type": "tmpfs", "Source": "", "Destination": "/tmp", "Mode": "exec", "RW": True}),
    ("HostConfig.Tmpfs", {}),
    ("HostConfig.Tmpfs", {"/tmp": "rw,exec", "/cache": "rw,exec"}),
    ("HostConfig.ShmSize", 64 * MIB),
    ("HostConfig.Memory", 0),
    ("HostConfig.MemorySwap", -1),
    ("HostConfig.MemorySwappiness", 60),
    ("HostConfig.MemorySwappiness", None),
    ("HostConfig.MemoryReservation", 1),
    ("HostConfig.KernelMemory", 1),
    ("HostConfig.OomKillDisable", True),
    ("HostConfig.OomScoreAdj", -1000),
    ("HostConfig.NanoCpus", 0),
    ("HostConfig.CpusetCpus", "0"),
    ("HostConfig.CpusetMems", "0"),
    ("HostConfig.CpuRealtimePeriod", 1000),
    ("HostConfig.CpuRealtimeRuntime", 1000),
    ("HostConfig.CpuShares", 9999),
    ("HostConfig.CpuQuota", 200000),
    ("HostConfig.PidsLimit", None),
    ("HostConfig.PidsLimit", -1),
    ("HostConfig.BlkioWeight", 1000),
    ("HostConfig.BlkioDeviceWriteBps", [{"Path": "/dev/sda", "Rate": 1}]),
    ("HostConfig.Ulimits", []),
    ("HostConfig.Ulimits.0.Hard", -1),
    ("HostConfig.IpcMode", "host"),
    ("HostConfig.PidMode", "host"),
    ("HostConfig.UTSMode", "host"),
    ("HostConfig.UsernsMode", "host"),
    ("HostConfig.CgroupnsMode", "host"),
    ("HostConfig.Cgroup", "container:other"),
    ("HostConfig.CgroupParent", "/"),
    ("HostConfig.Devices", [{"PathOnHost": "/dev/mem", "PathInContainer": "/dev/mem", "CgroupPermissions": "rwm"}]),
    ("HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
    ("HostConfig.DeviceRequests", [{"Count": -1, "Capabilities": [["gpu"]]}]),
    ("HostConfig.GroupAdd", ["docker"]),
    ("HostConfig.Sysctls", {"kernel.shm_rmid_forced": "0"}),
    ("HostConfig.StorageOpt", {"size": "1T"}),
    ("HostConfig.Runtime", "other"),
    ("HostConfig.Isolation", "process"),
    ("HostConfig.Init", True),
    ("HostConfig.Init", None),
    ("HostConfig.AutoRemove", True),
    ("HostConfig.RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}),
    ("HostConfig.VolumeDriver", "evil"),
    ("HostConfig.LogConfig", {"Type": "json-file", "Config": {}}),
    ("HostConfig.LogConfig.Config.max-size", "-1"),
    ("HostConfig.Annotations", {"run.oci.handler": "krun"}),
    ("HostConfig.SomethingNew", True),
]


@pytest.fixture(scope="module")
def made(engine: Engine, image_id: str, seccomp: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, Json]:
    """What was asked and what the engine says it made, of a real container."""
    folder = tmp_path_factory.mktemp("readback")
    boxes = Boxes(engine=engine, image_id=image_id, seccomp=seccomp, folder=folder)
    volume = Mount(source=f"{folder.name}-out", target="/out", volume=True, writable=True)
    engine.volume(volume.source, MIB, {"autoresearch": "1"})
    boxes.run("", mounts=(volume,))
    engine.remove_volume(volume.source)
    asked, inspected = (json.loads((folder / f"trainer.{which}.json").read_text()) for which in ("spec", "created"))
    inspected["Mounts"].sort(key=lambda mount: mount["Type"])  # a bind first
    return asked, inspected


def test_what_was_asked_for_is_what_was_made(made: tuple[Json, Json]) -> None:
    """No false alarm."""
    assert [] == container_diff(*made)
    assert [] == container_diff(*made, {"security": "name=seccomp", "cgroup": "1"})


@pytest.mark.parametrize(("where", "value"), CHANGES, ids=[f"{where}={str(value)[:40]}" for where, value in CHANGES])
def test_one_changed_field_is_caught(made: tuple[Json, Json], where: str, value: Any) -> None:
    """Whatever an engine, a plugin or a proxy in front of it changes."""
    asked, inspected = made

    found = container_diff(asked, changed(inspected, where, value), {"security": "name=seccomp", "cgroup": "1"})

    assert found


def test_selinux_confines_where_the_engine_has_it(made: tuple[Json, Json]) -> None:
    """By its label for containers; none, or another, is a difference. Elsewhere none is."""
    asked, inspected = made
    facts = {"security": "name=seccomp,name=selinux", "cgroup": "2"}
    user, its = "system_u", "s0:c1,c2"
    good = inspected | {
        "ProcessLabel": f"{user}:system_r:container_t:{its}", "MountLabel": f"{user}:object_r:container_file_t:{its}",
        "AppArmorProfile": "docker-default",
    }  # fmt: skip

    assert [] == container_diff(asked, good, facts) == container_diff(asked, good)
    for key in ("ProcessLabel", "MountLabel"):
        for label in ("", f"{user}:system_r:spc_t:s0"):
            assert [f"{key}: asked the engine's own, is {label!r}"] == container_diff(
                asked, {**good, key: label}, facts
            )


def test_swappiness_is_no_matter_of_cgroup_v2(made: tuple[Json, Json]) -> None:
    """Docker then says nothing of it."""
    asked, inspected = made
    without = changed(inspected, "HostConfig.MemorySwappiness", None)

    assert [] == container_diff(asked, without, {"cgroup": "2"})
    assert ["HostConfig.MemorySwappiness: asked 0, is None"] == container_diff(asked, without, {"cgroup": "1"})


def test_what_the_engine_cannot_say_is_a_difference(made: tuple[Json, Json]) -> None:
    """Each field that was asked for and is missing from the inspect, unless missing means what was asked."""
    asked, inspected = made
    silent = {key for key, value in asked["HostConfig"].items() if value}

    for key in silent:
        without = copy.deepcopy(inspected)
        del without["HostConfig"][key]
        assert any(f"HostConfig.{key}:" in line for line in container_diff(asked, without)), key
    assert len(silent) >= 18


def test_a_difference_refuses_the_start(engine: Engine, image_id: str, seccomp: str, tmp_path: Path) -> None:
    """Nothing is started and nothing is left: an engine that answers otherwise than asked."""
    lying = LyingEngine(engine)
    boxes = Boxes(engine=lying, image_id=image_id, seccomp=seccomp, folder=tmp_path)
    spec = boxes.spec("print('ran')")

    with pytest.raises(SpecRefused, match=r"HostConfig.Privileged: asked None, is True"):
        start(lying, spec, deadline_s=5, folder=tmp_path)
    assert not (tmp_path / "trainer.log").exists()
    assert spec.name not in str(engine._api.containers(all=True))


def options(size: int = MIB, **changed: str) -> dict[str, str]:
    """Of a volume as the engine is asked for it."""
    o = f"size={size},nr_inodes=65536,uid=65532,gid=65532,mode=0755,nosuid,nodev,noexec"
    return {"type": "tmpfs", "device": "tmpfs", "o": o, **changed}


@pytest.mark.parametrize(
    ("there", "labels", "says"),
    [
        (options(type="none", device="/etc", o="bind"), {LABEL: "1"}, "Options"),
        (options(4 * MIB), {LABEL: "1"}, "Options"),
        (options(), {}, "Labels"),
        (options(), {LABEL: "1", f"{LABEL}.uid": "1"}, "Labels"),
    ],
    ids=["a folder of the host", "larger", "nobody's", "another's"],
)
def test_a_volume_that_was_there_before_is_refused(
    engine: Engine, unique: str, there: dict[str, str], labels: dict[str, str], says: str
) -> None:
    """Its maker may be another user, and it a folder of theirs: the engine itself gives it out without a word."""
    engine._api.create_volume(unique, driver="local", driver_opts=there, labels=labels)
    try:
        with pytest.raises(SpecRefused, match=rf"the volume {unique} already existed.*{says}: asked"):
            engine.volume(unique, MIB, {LABEL: "1"})
    finally:
        engine.remove_volume(unique)


class LyingEngine(Engine):
    """An engine that makes every container privileged, or says so."""

    def __init__(self, engine: Engine) -> None:
        """Share the connection of a real one."""
        super().__init__(engine._api, engine.describe())

    def inspect(self, container_id: str) -> Json:
        """The truth but for one field."""
        return changed(super().inspect(container_id), "HostConfig.Privileged", value=True)


def changed(inspected: Json, where: str, value: Any) -> Json:
    """A copy with one field changed; `+` appends to a list, and a last part may itself hold dots."""
    result = copy.deepcopy(inspected)
    if "~" in where:  # a variable by its name
        name = where.partition("~")[2]
        env = result["Config"]["Env"]
        result["Config"]["Env"] = [f"{name}={value}" if item.startswith(f"{name}=") else item for item in env]
        return result
    place: Any = result
    first, *rest = where.removesuffix("+").split(".")
    if where.startswith("Config.Labels."):
        first, rest = "Config", ["Labels", where.removeprefix("Config.Labels.")]
    *path, last = [first, *rest]
    for part in path:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if where.endswith("+"):
        place[last] = [*place[last], value]
    else:
        place[last] = value
    return result
