"""What Podman is sent and what it says, put into Docker's words: a changed field is seen on this engine too."""

import copy
import io
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from orchestrator.look.containers import describe_containers
from orchestrator.record.experiment_files import ExperimentFolder
from orchestrator.types import Role
from orchestrator.units import MIB
from orchestrator.walls import podman
from orchestrator.walls.create_body import create_body
from orchestrator.walls.engine import Client, Engine
from orchestrator.walls.inspect_diff import container_diff
from orchestrator.walls.spec import ContainerSpec, Mount, Resources

Json = dict[str, Any]
PROFILE = Path("/record/trainer.seccomp.json")
IMAGE = "sha256:" + "a" * 64
CHANGES: list[tuple[str, Any]] = [  # where, in Podman's compatible inspect, and what stands there instead
    ("Path", "sh"),
    ("Args", ["-c", "true"]),
    ("Image", "1" * 64),
    ("AppArmorProfile", "unconfined"),
    ("HostConfig.CgroupParent", "/"),
    ("HostConfig.CpuQuota", 0),
    ("HostConfig.CpuQuota", 10_000_000),
    ("HostConfig.CpuPeriod", 1_000),
    ("ProcessLabel", "system_u:system_r:spc_t:s0"),
    ("Platform", "windows"),
    ("ExecIDs", ["a" * 64]),
    ("NetworkSettings.Ports", {"80/tcp": [{"HostPort": "80"}]}),
    ("NetworkSettings.IPAddress", "10.0.2.100"),
    ("Mounts", [{"Type": "tmpfs", "Source": "", "Destination": "/tmp", "Mode": "exec", "RW": True}]),
    ("Config.User", "0:0"),
    ("Config.Entrypoint", ["sh"]),
    ("Config.Entrypoint", []),
    ("Config.Cmd", ["-c", "true"]),
    ("Config.WorkingDir", "/out"),
    ("Config.Tty", True),
    ("Config.OpenStdin", True),
    ("Config.Volumes", {"/host": {}}),
    ("Config.StopSignal", "15"),
    ("Config.Healthcheck", {"Test": ["CMD", "sh"]}),
    ("Config.Env", ["PATH=/evil"]),
    ("Config.Labels", {}),
    ("HostConfig.NetworkMode", "host"),
    ("HostConfig.NetworkMode", "slirp4netns"),
    ("HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
    ("HostConfig.ExtraHosts", ["host:127.0.0.1"]),
    ("HostConfig.CapAdd", ["SYS_ADMIN"]),
    ("HostConfig.Privileged", True),
    ("HostConfig.SecurityOpt", ["no-new-privileges"]),
    ("HostConfig.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
    ("HostConfig.SecurityOpt", [f"seccomp={PROFILE}"]),
    ("HostConfig.ReadonlyRootfs", False),
    ("HostConfig.Binds", []),
    ("HostConfig.Binds.0", "/etc:/locked:ro,nosuid,nodev,noexec,rprivate,bind"),
    ("HostConfig.Binds.0", "/private/locked:/locked:rw,nosuid,nodev,noexec,rprivate,bind"),
    ("HostConfig.Binds.0", "/private/locked:/locked:ro,nosuid,nodev,noexec,rshared,bind"),
    ("HostConfig.Binds.1", "out:/out:rw,nosuid,nodev,rprivate,rbind"),
    ("Mounts.0.RW", True),
    ("Mounts.0.Source", "/etc"),
    ("Mounts.0.Propagation", "rshared"),
    ("HostConfig.Tmpfs", {}),
    ("HostConfig.Tmpfs./tmp", "rw,noexec,nosuid,nodev,mode=1777,rprivate,tmpcopyup"),
    ("HostConfig.Tmpfs./tmp", "rw,exec,nosuid,nodev,size=1048576,mode=1777,rprivate,tmpcopyup"),
    ("HostConfig.Tmpfs./run", "rw,rprivate,nosuid,nodev,tmpcopyup"),
    ("HostConfig.Tmpfs./more", "rw,size=1,rprivate,tmpcopyup"),
    ("HostConfig.ShmSize", 65536000),
    ("HostConfig.Memory", 0),
    ("HostConfig.MemorySwap", -1),
    ("HostConfig.NanoCpus", 0),
    ("HostConfig.PidsLimit", 0),
    ("HostConfig.OomScoreAdj", 0),
    ("HostConfig.IpcMode", "host"),
    ("HostConfig.PidMode", "host"),
    ("HostConfig.UTSMode", "host"),
    ("HostConfig.UsernsMode", "keep-id"),
    ("HostConfig.Devices", [{"PathOnHost": "/dev/kvm"}]),
    ("HostConfig.DeviceRequests", [{"Count": -1}]),
    ("HostConfig.GroupAdd", ["docker"]),
    ("HostConfig.AutoRemove", True),
    ("HostConfig.Ulimits", [{"Name": "nofile", "Soft": 1, "Hard": 1048576}]),
    ("HostConfig.MaskedPaths", ["/none"]),
]
OWN_CHANGES: list[tuple[str, Any]] = [  # and in its own inspect
    ("BoundingCaps", ["CAP_SYS_ADMIN"]),
    ("EffectiveCaps", ["CAP_NET_RAW"]),
    ("OCIRuntime", "crun"),
    ("HostConfig.CgroupMode", "host"),
    ("HostConfig.Init", True),
    ("HostConfig.Init", None),
    ("HostConfig.LogConfig", {"Type": "k8s-file", "Size": "0B"}),
    ("HostConfig.LogConfig", {"Type": "journald", "Size": "8.389MB"}),
]


@pytest.fixture
def spec(seccomp: str) -> ContainerSpec:
    """A container with everything that is translated."""
    return ContainerSpec(
        role=Role.TRAINER, name="one", image_id=IMAGE, program=("python3", "/mutable/train.py"), hard_limit_s=60,
        mounts=(
            Mount(source="/private/locked", target="/locked"),
            Mount(source="out", target="/out", volume=True, writable=True),
        ),
        resources=Resources(memory=MIB, cpus=1, pids=64, tmp=MIB, cache=MIB, shm=MIB),
        environment={"LANG": "C.UTF-8"}, labels={"autoresearch": "1"}, seccomp=seccomp,
    )  # fmt: skip


@pytest.fixture
def asked(spec: ContainerSpec) -> Json:
    """That container as Docker would be asked for it."""
    config = create_body(spec)
    config["HostConfig"]["Runtime"] = "runc"
    return config


def inspects(asked: Json, profile: Path = PROFILE) -> tuple[Json, Json]:
    """What Podman 4.3 says of the container that was asked for, in both ways, on cgroup v2."""
    body = podman.to_podman_request(asked, profile)
    host = {
        **body["HostConfig"], "Runtime": "oci", "LogConfig": {"Type": "json-file", "Config": None}, "CgroupnsMode": "",
        "CapDrop": ["CHOWN", "NET_RAW"], "IpcMode": "shareable", "PidMode": "private", "UTSMode": "private",
        "MaskedPaths": None, "ReadonlyPaths": None, "Ulimits": [], "CgroupParent": "user.slice",
        "CpuPeriod": 100_000, "CpuQuota": body["HostConfig"]["NanoCpus"] // 10_000,
        "SecurityOpt": ["no-new-privileges", f"seccomp={profile}"],
        "Binds": [f"{bind},{kind}" for bind, kind in zip(body["HostConfig"]["Binds"], ("bind", "rbind"), strict=True)],
        "Tmpfs": {place: f"{what},rprivate,tmpcopyup" for place, what in body["HostConfig"]["Tmpfs"].items()},
    }  # fmt: skip
    config = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkDisabled")}
    config |= {"AttachStdout": False, "AttachStderr": False, "Image": "localhost/image:cpu", "StopSignal": "9"}
    config |= {"Healthcheck": {"Test": ["NONE"], "Interval": 30}, "Env": [*config["Env"], "container=podman"]}
    mounts = [
        {"Type": "bind", "Source": "/private/locked", "Destination": "/locked", "RW": False, "Propagation": "rprivate"},
        {"Type": "volume", "Name": "out", "Source": "/x/_data", "Destination": "/out", "RW": True},
    ]
    said = {
        "Path": asked["Cmd"][0], "Args": asked["Cmd"][1:], "Image": IMAGE.removeprefix("sha256:"), "Mounts": mounts,
        "Config": config, "HostConfig": host, "NetworkSettings": {"Networks": {}}, "Platform": "linux",
    }  # fmt: skip
    log = {"Type": "k8s-file", "Config": None, "Size": "8.389MB"}
    own_host = {"CgroupMode": "private", "LogConfig": log}
    return said, {"BoundingCaps": None, "EffectiveCaps": None, "OCIRuntime": "runc", "HostConfig": own_host}


def inspects_of_5(asked: Json, profile: Path = PROFILE) -> tuple[Json, Json]:
    """What Podman 5.8 says of it, as root: limits in its own words, one of containers.conf, and what it adds."""
    said, own = inspects(asked, profile)
    ulimits = [{**one, "Name": f"RLIMIT_{one['Name'].upper()}"} for one in asked["HostConfig"]["Ulimits"]]
    asked_host = asked["HostConfig"]
    annotations = {"pids-limit": str(asked_host["PidsLimit"]), "seccomp": str(profile)}
    annotations["cpuset"] = str(asked_host.get("CpusetCpus"))
    host = {
        "Ulimits": [*ulimits[::-1], {"Name": "RLIMIT_NPROC", "Hard": 4096, "Soft": 4096}],
        "Annotations": {f"io.podman.annotations.{key}": it for key, it in annotations.items()}
    }  # fmt: skip
    config = {**said["Config"], "StopTimeout": 10}
    return {**said, "Config": config, "HostConfig": {**said["HostConfig"], **host}}, own


def found(asked: Json, said: Json, own: Json, *, limited: bool = True) -> list[str]:
    """What the read-back would refuse it for."""
    return container_diff(asked, podman.normalize_inspect(asked, PROFILE, said, own, limited=limited))


def changed(value: Json, where: str, to: object) -> Json:
    """With one field changed."""
    value = copy.deepcopy(value)
    *way, last = where.split(".")
    inner: Any = value
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    inner[int(last) if isinstance(inner, list) else last] = to
    return value


def test_what_was_asked_for_is_no_difference(asked: Json) -> None:
    """In Podman's words or Docker's, it is the same container."""
    assert [] == found(asked, *inspects(asked))


@pytest.mark.parametrize(("where", "to"), CHANGES, ids=lambda value: str(value)[:60])
def test_a_changed_field_is_caught(asked: Json, where: str, to: object) -> None:
    """Behind our back, in what the compatible inspect says."""
    said, own = inspects(asked)

    assert found(asked, changed(said, where, to), own)


@pytest.mark.parametrize(("where", "to"), OWN_CHANGES, ids=lambda value: str(value)[:60])
def test_a_changed_field_of_its_own_inspect_is_caught(asked: Json, where: str, to: object) -> None:
    """What the compatible one does not tell."""
    said, own = inspects(asked)

    assert found(asked, said, changed(own, where, to))


def test_what_podman_5_adds_is_no_difference(asked: Json) -> None:
    """It repeats what was asked for."""
    assert [] == found(asked, *inspects_of_5(asked))


@pytest.mark.parametrize(
    ("where", "to"),
    [
        *CHANGES,
        ("Config.StopTimeout", 600),
        ("HostConfig.Ulimits.0.Hard", 1),
        ("HostConfig.Ulimits.0.Name", "RLIMIT_CPU"),
        ("HostConfig.Ulimits.8", {"Name": "RLIMIT_NOFILE", "Hard": 1048576, "Soft": 4096}),
        ("HostConfig.Annotations", {"io.podman.annotations.seccomp": "unconfined"}),
        ("HostConfig.Annotations", {"io.podman.annotations.pids-limit": "0"}),
        ("HostConfig.Annotations", {"io.podman.annotations.cpuset": "0-63"}),
        ("HostConfig.Annotations", {"io.podman.annotations.privileged": "TRUE"}),
        ("HostConfig.Annotations", {"run.oci.keep_original_groups": "1"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_changed_field_of_podman_5_is_caught(asked: Json, where: str, to: object) -> None:
    """Also of what only this one says."""
    said, own = inspects_of_5(asked)

    assert found(asked, changed(said, where, to), own)


def test_limits_may_be_missing_only_where_that_was_accepted(asked: Json) -> None:
    """An engine that drops them says 0; another value is another value."""
    said, own = inspects(asked)
    dropped = {**said, "HostConfig": {**said["HostConfig"], **dict.fromkeys(podman.UNLIMITED)}}

    assert [] == found(asked, dropped, own, limited=False)
    assert found(asked, dropped, own, limited=True)
    assert found(asked, changed(said, "HostConfig.Memory", 1 << 40), own, limited=False)


def test_a_volume_keeps_its_size(asked: Json) -> None:
    """In pages: Podman takes `size` for a disk quota, which it has not."""
    assert {"o": "nr_blocks=257,nodev"} == podman.volume({"o": "size=1048577,nodev"}, 1048577)
    assert "nr_inodes" not in str(podman.to_podman_request(asked, PROFILE)["HostConfig"]["Tmpfs"])


class Api:
    """Podman's answers to what creates a container."""

    base_url = "http+docker://localhost"

    def __init__(self, said: Json, own: Json) -> None:
        self.said, self.own = said, own

    def inspect_image(self, _: str) -> Json:
        """An image that sets no variables."""
        return {"Config": {}}

    def create_container_from_config(self, *_: object) -> Json:
        """Its name."""
        return {"Id": "one"}

    def inspect_container(self, _: str) -> Json:
        """As Docker's API has it."""
        return self.said

    def get(self, *_: object, **__: object) -> requests.Response:
        """As its own API has it."""
        response = requests.Response()
        response.status_code, response.raw = HTTPStatus.OK, io.BytesIO(json.dumps(self.own).encode())
        return response


@pytest.mark.parametrize("says", [inspects, inspects_of_5], ids=["4.3", "5.8"])
def test_every_view_finds_the_container_as_asked(
    spec: ContainerSpec, asked: Json, says: Callable[[Json, Path], tuple[Json, Json]], tmp_path: Path
) -> None:
    """The record has it in Docker's words, and beside that in Podman's; no wall is missing."""
    said, own = says(asked, tmp_path / "trainer.seccomp.json")
    facts = {"engine": "podman 5.8.6", "security": "", "cgroup": "2", "default_runtime": "runc"}
    facts["controllers"] = "cpu,cpuset,memory,pids"
    Engine(cast("Client", Api(said, own)), facts).create(spec, tmp_path)
    with ExperimentFolder.open(tmp_path) as folder:
        (container,) = describe_containers(folder, [])

    assert () == container.differences == container.weak_facts
    assert {"compatible": said, "own": own} == json.loads((tmp_path / "trainer.podman.json").read_text())
