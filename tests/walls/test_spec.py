"""A spec that weakens a wall is refused before anything is created, naming the field."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.config import load
from orchestrator.errors import SpecRefused
from orchestrator.scoring.thresholds import UNBOUNDED
from orchestrator.types import Plan, Role
from orchestrator.units import MIB
from orchestrator.walls.create_body import create_body
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import ExperimentSandbox
from orchestrator.walls.seccomp import adapt_for_runtime
from orchestrator.walls.spec import ContainerSpec, Mount, Resources
from orchestrator.walls.spec_policy import validate_spec
from tests.support.boxes import ROOT

PROFILE = '{"defaultAction": "SCMP_ACT_ERRNO"}'


WEAK_PROFILES: tuple[dict[str, Any], ...] = (
    {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]},
    {"architectures": ["SCMP_ARCH_X32"]},
    {"architectures": []},
    {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}]},
    {"listenerPath": "/tmp/socket"},
    {"syscalls": {}},
    {"syscalls": [{"action": "SCMP_ACT_ALLOW"}]},
    {"syscalls": [{"names": ["read"]}]},
    {"syscalls": [{"name": "mount", "action": "SCMP_ACT_ALLOW"}]},
    {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]},
    *(
        {"syscalls": [{"names": [name], "action": action, "args": arguments}]}
        for action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY")
        for name, arguments in (
            ("mount", [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]), ("bpf", []), ("ptrace", []), ("clone3", []),
            ("unshare", []), ("io_uring_setup", []), ("clone", []), ("socket", []), ("socketpair", []),
        )
    ),
)  # fmt: skip


def profile(**more: Any) -> str:
    """A strong one, but for what it says more."""
    return json.dumps({**json.loads(PROFILE), **more})


def spec(**changed: Any) -> ContainerSpec:
    """A good trainer, but for what is changed."""
    fields: dict[str, Any] = {
        "role": Role.TRAINER,
        "name": "a",
        "image_id": "sha256:" + "0" * 64,
        "program": ("python3", "/mutable/train.py"),
        "hard_limit_s": 10.0,
        "mounts": (
            Mount(source="/a/locked", target="/locked"),
            Mount(source="a-out", target="/out", volume=True, writable=True),
        ),
        "resources": Resources(memory=MIB, cpus=1.0, pids=8, tmp=MIB, cache=MIB, shm=MIB),
        "environment": {"HOME": "/tmp"},
        "labels": {"autoresearch": "1"},
        "seccomp": PROFILE,
    }
    return ContainerSpec(**{**fields, **changed})


@pytest.mark.parametrize(
    "user", ["", "0", "0:0", "root", "root:root", "65532:0", "0:65532", "65532", "-1:5", "a:b", "1:2:3", " 1:1"]
)
def test_root_and_what_may_be_root_is_refused(user: str) -> None:
    """A numeric uid and gid, neither of them 0: names are looked up in the image, and an empty user is its default."""
    with pytest.raises(SpecRefused, match="user"):
        validate_spec(spec(user=user))


@pytest.mark.parametrize("field", ["memory", "cpus", "pids", "tmp", "cache", "shm", "files", "file_size"])
@pytest.mark.parametrize("value", [0, -1, 1e-10, True, float("nan"), float("inf"), None])
def test_a_limit_that_limits_nothing_is_refused(field: str, value: Any) -> None:
    """Engines take 0, -1 or nothing as unlimited."""
    limits = replace(spec().resources, **{field: value})
    with pytest.raises(SpecRefused, match=f"resources.{field}"):
        validate_spec(spec(resources=limits))


@pytest.mark.parametrize("field", ["memory", "pids", "tmp", "cache", "shm", "files", "file_size"])
def test_what_is_counted_is_a_whole_number(field: str) -> None:
    """The engine would cut off the rest, and half a process is no limit."""
    with pytest.raises(SpecRefused, match=f"resources.{field}"):
        validate_spec(spec(resources=replace(spec().resources, **{field: 0.5})))


@pytest.mark.parametrize(
    "mount",
    [
        Mount(source="/a", target="/locked", writable=True),
        Mount(source="/a", target="/mutable", writable=True),
        Mount(source="/a", target="/", writable=True),
        Mount(source="v", target="/answer", volume=True, writable=True),
        Mount(source="/a", target="/out", writable=True),
        Mount(source="a", target="/data"),
        Mount(source="", target="/data"),
        Mount(source="/a", target="data"),
        Mount(source="/a", target="/data/../etc"),
        Mount(source="/a/../etc", target="/data"),
        Mount(source="/a", target="/"),
        Mount(source="/a", target="/proc/self"),
        Mount(source="/a", target="/sys"),
        Mount(source="/a", target="/dev/nvidia0"),
        Mount(source="/a", target="/etc"),
        Mount(source="/a", target="/tmp"),
        Mount(source="/var/run/docker.sock", target="/data"),
        Mount(source="/", target="/data"),
        Mount(source="/etc", target="/data"),
        Mount(source="/etc/shadow", target="/data"),
        Mount(source="/proc", target="/data"),
        Mount(source="/proc/1/root", target="/data"),
        Mount(source="/sys/fs/cgroup", target="/data"),
        Mount(source="/dev/sda", target="/data"),
        Mount(source="/run/containerd", target="/data"),
        Mount(source="/root", target="/data"),
        Mount(source="/home", target="/data"),
        Mount(source="/var/lib/docker", target="/data"),
        *(
            Mount(source=source, target="/locked")
            for source in (
                "//etc",
                "/./etc",
                "//",
                "/lib",
                "/lib/x86_64-linux-gnu",
                "/usr/bin",
                "/bin",
                "/sbin",
                "/root/.ssh",
                "/home/x",
                "/home/x/.docker/run",
                "/home/x/.aws/credentials",
                "/a/.ssh/id",
                "/var/log",
                "/dev/null",
            )
        ),
    ],
    ids=lambda mount: f"{mount.source}->{mount.target}{' rw' if mount.writable else ''}",
)
def test_a_mount_outside_the_declared_ones_is_refused(mount: Mount) -> None:
    """Writable only where the role may write, and only to a size-capped volume; nothing of the host's own."""
    with pytest.raises(SpecRefused, match="mounts"):
        validate_spec(spec(mounts=(mount,)))


@pytest.mark.parametrize("where", ["/etc", "/", "/usr/bin", "/proc/self"])
def test_a_link_is_looked_through(tmp_path: Path, where: str) -> None:
    """To the host's files, itself or above; the engine would follow it."""
    (tmp_path / "link").symlink_to(where)
    for source in (tmp_path / "link", tmp_path / "link" / "lib"):
        if source.name == "link" or where == "/":
            with pytest.raises(SpecRefused, match=r"mounts = .*link"):
                validate_spec(spec(mounts=(Mount(source=str(source), target="/locked"),)))


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    """There is nothing to look at."""
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(SpecRefused, match="mounts"):
        validate_spec(spec(mounts=(Mount(source=str(tmp_path / "link"), target="/locked"),)))


def test_what_was_looked_at_is_what_is_mounted(tmp_path: Path) -> None:
    """A folder of the experiment's on another disk may be reached by a link."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    linked = spec(mounts=(Mount(source=f"/{tmp_path}/link", target="/locked"),))
    validate_spec(linked)
    config = create_body(linked)

    assert str(tmp_path / "data") == config["HostConfig"]["Mounts"][0]["Source"]


def test_a_socket_is_no_folder(tmp_path: Path) -> None:
    """Whatever it is called."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "plain"))
        with pytest.raises(SpecRefused, match="mounts"):
            validate_spec(spec(mounts=(Mount(source=str(tmp_path / "plain"), target="/locked"),)))


def test_two_mounts_on_one_place_are_refused() -> None:
    """The second would hide the first."""
    twice = (Mount(source="/a", target="/locked"), Mount(source="/b", target="/locked"))
    with pytest.raises(SpecRefused, match="mounts"):
        validate_spec(spec(mounts=twice))


def test_validation_data_is_for_the_scorer_alone() -> None:
    """A trainer or predictor that asks for it is refused."""
    with pytest.raises(SpecRefused, match="mounts"):
        validate_spec(spec(mounts=(Mount(source="/a/val", target="/data/val"),)))


@pytest.mark.parametrize("role", list(Role))
def test_what_a_task_shares_is_for_four_roles_to_read(role: Role) -> None:
    """The folders that it names and no other; nobody may write to one, and whatever else runs has none."""
    given = Mount(source="/a/words", target="/data/words")
    asked = spec(role=role, mounts=(given,), shared_data=("words",))
    if role in (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER):
        validate_spec(asked)
    else:
        with pytest.raises(SpecRefused, match="mounts = '/data/words'"):
            validate_spec(asked)
    for target in ("/data/other", "/data", "/data/words/more", "/words"):
        with pytest.raises(SpecRefused, match=f"mounts = '{target}'"):
            validate_spec(replace(asked, mounts=(replace(given, target=target),)))
    with pytest.raises(SpecRefused, match="mounts = '/data/words'"):
        validate_spec(replace(asked, mounts=(replace(given, writable=True),)))
    with pytest.raises(SpecRefused, match="mounts = '/data/words'"):
        validate_spec(replace(asked, shared_data=()))


@pytest.mark.parametrize("name", ["val", "holdout", "train", "", ".", "..", "a/b", "../locked", "-a", "a\n", "a" * 41])
def test_what_is_for_some_containers_only_cannot_be_shared(name: str) -> None:
    """Nor what is no plain name of a folder."""
    with pytest.raises(SpecRefused, match="shared_data"):
        validate_spec(spec(mounts=(Mount(source="/a/val", target=f"/data/{name}"),), shared_data=(name,)))


@pytest.mark.parametrize("names", [(), ("tokenizer",), ("words", "tables")])
def test_an_experiment_mounts_what_its_task_shares(tmp_path: Path, names: tuple[str, ...]) -> None:
    """From private copies, at /data/NAME, in each container that may read it, and in no other."""
    config = load(ROOT, {"tag": "t", "runs": tmp_path, "task.shared_data": names})
    place = ExecutionContext(
        engine=cast("Engine", None), config=config, image_id=f"sha256:{'a' * 64}", seccomp=PROFILE,
        thresholds=UNBOUNDED,
    )  # fmt: skip
    plan, private = Plan(train_seed=1, audit_seed=bytes(32)), tmp_path / "private"
    sandbox = ExperimentSandbox(
        place=place, plan=plan, experiment_id=1, attempt=1, folder=tmp_path, private=private, name="a", hashes={}
    )
    shared = {f"/data/{name}": f"shared/{name}" for name in names}
    own = {Role.TRAINER: {"/data/train"}, Role.SCORER: {"/data/val"}}
    for role in (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER, Role.EXPORTER):
        asked = sandbox.spec(role, None)
        validate_spec(asked)
        found = {mount.target: mount.source for mount in asked.mounts if mount.target.startswith("/data")}
        expected = {} if role is Role.EXPORTER else {at: str(private / role / path) for at, path in shared.items()}

        assert expected == {at: path for at, path in found.items() if at not in own.get(role, ())}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"image_id": "autoresearch-sandbox:cpu"}, "image_id"),
        ({"image_id": ""}, "image_id"),
        ({"image_id": "sha256:"}, "image_id"),
        ({"program": ()}, "program"),
        ({"hard_limit_s": 0.0}, "hard_limit_s"),
        ({"hard_limit_s": float("inf")}, "hard_limit_s"),
        ({"hard_limit_s": float("nan")}, "hard_limit_s"),
        ({"environment": {"ANTHROPIC_API_KEY": "x"}}, "environment"),
        ({"environment": {"LD_PRELOAD": "x"}}, "environment"),
        ({"environment": {"http_proxy": "x"}}, "environment"),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}}, "environment"),
        ({"environment": {"PATH": "/tmp"}}, "environment"),
        ({"environment": {"PATH": "/usr/bin:/cache/bin"}}, "environment"),
        ({"environment": {"PATH": "/usr/bin:"}}, "environment"),
        ({"environment": {"PATH": "/usr/../tmp"}}, "environment"),
        ({"environment": {"PATH": ""}}, "environment"),
        ({"environment": {"PYTHONPATH": "/locked:/out"}}, "environment"),
        ({"log_bytes": 0.5}, "log_bytes"),
        ({"seccomp": ""}, "seccomp"),
        ({"seccomp": "[" * 100000}, "seccomp"),
        *(({"seccomp": profile(**more)}, "seccomp") for more in WEAK_PROFILES),
        ({"seccomp": "unconfined"}, "seccomp"),
        ({"seccomp": "/a/seccomp.json"}, "seccomp"),
        ({"seccomp": "{"}, "seccomp"),
        ({"seccomp": "[]"}, "seccomp"),
        ({"seccomp": "{}"}, "seccomp"),
        ({"seccomp": '{"defaultAction": "SCMP_ACT_ALLOW"}'}, "seccomp"),
        ({"seccomp": '{"defaultAction": "SCMP_ACT_LOG"}'}, "seccomp"),
        ({"gpu_uuid": "0"}, "gpu_uuid"),
        ({"gpu_uuid": "all"}, "gpu_uuid"),
        ({"gpu_uuid": ""}, "gpu_uuid"),
        ({"gpu_uuid": "GPU-1,GPU-2"}, "gpu_uuid"),
        ({"labels": {}}, "labels"),
        ({"log_bytes": 0}, "log_bytes"),
        ({"name": "--privileged"}, "name"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_weak_field_is_refused_by_name(changed: dict[str, Any], field: str) -> None:
    """The message says which field, which value, and what it must be."""
    with pytest.raises(SpecRefused, match=rf"container spec: {field} = .* it must be "):
        validate_spec(spec(**changed))


def test_a_good_spec_is_the_same_plain_data_each_time() -> None:
    """No clock, no I/O, no defaults of the engine's: JSON in, JSON out."""
    validate_spec(spec())
    config = create_body(spec())
    host = config["HostConfig"]

    assert create_body(spec()) == config
    assert "none" == host["NetworkMode"]
    assert ["ALL"] == host["CapDrop"]
    assert host["ReadonlyRootfs"] and not host["Privileged"] and not host["AutoRemove"]
    assert host["Memory"] == host["MemorySwap"] == MIB
    assert ["no-new-privileges", f"seccomp={PROFILE}"] == host["SecurityOpt"]
    assert all("PROXY" not in item.upper() for item in config["Env"])


def test_gvisor_gets_the_profile_in_words_it_knows() -> None:
    """Only the call that must look absent differs, and only there."""
    text = (ROOT / "sandbox" / "seccomp.json").read_text(encoding="utf-8")
    ours, theirs = json.loads(text), json.loads(adapt_for_runtime(text, "runsc"))
    changed = [a["names"] for a, b in zip(ours["syscalls"], theirs["syscalls"], strict=True) if a != b]

    assert text == adapt_for_runtime(text, "") == adapt_for_runtime(text, "runc")
    assert [["clone3"]] == changed
    assert {**ours, "syscalls": 0} == {**theirs, "syscalls": 0}


def test_the_engine_is_asked_nothing_about_a_weak_spec(tmp_path: Path) -> None:
    """It is refused before the first call, so nothing is created and nothing is written."""
    engine = Engine(None, {})  # type: ignore[arg-type]  # any call would fail

    with pytest.raises(SpecRefused, match="user = '0:0' weakens a wall"):
        engine.create(spec(user="0:0"), tmp_path)
    assert [] == list(tmp_path.iterdir())
