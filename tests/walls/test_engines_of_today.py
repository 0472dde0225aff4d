"""Engines that the tests cannot install: Docker 29 and Podman 5 on cgroup v2, by what they answer."""

import copy
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from attacks.walls.base import Finding, Verdict
from attacks.walls.tiers import explained, tier_of
from orchestrator.errors import EngineUnavailable
from orchestrator.host.doctor import Severity, run_checks
from orchestrator.host.host_facts import HostFacts, summarise
from orchestrator.walls.create_body import create_body
from orchestrator.walls.engine import Engine
from orchestrator.walls.inspect_diff import container_diff
from tests.test_doctor import GOOD
from tests.walls.test_hung_engine import Hung, Server
from tests.walls.test_spec import spec

DIGEST = "sha256:" + "d" * 64  # of a manifest: the image store of containerd has no other id
DOCKER_29: dict[str, dict[str, Any]] = {
    "/version": {
        "Platform": {"Name": "Docker Engine - Community"}, "Version": "29.7.1", "ApiVersion": "1.54",
        "MinAPIVersion": "1.44", "Os": "linux", "Arch": "amd64",
        "Components": [
            {"Name": "Engine", "Version": "29.7.1", "Details": {"ApiVersion": "1.54", "MinAPIVersion": "1.44"}},
            {"Name": "containerd", "Version": "v2.2.1"}, {"Name": "runc", "Version": "1.3.6"},
            {"Name": "docker-init", "Version": "0.19.0"},
        ],
    },
    "/info": {
        "Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "CgroupDriver": "systemd", "CgroupVersion": "2", "DefaultRuntime": "runc", "NCPU": 16, "MemTotal": 1 << 36,
        "MemoryLimit": True, "SwapLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "FirewallBackend": {},
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
        "Runtimes": {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}}, "KernelVersion": "6.14.0",
        "DockerRootDir": "/var/lib/docker", "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
    },
    "/images/autoresearch-sandbox:cpu/json": {
        "Id": DIGEST, "RepoDigests": [f"autoresearch-sandbox@{DIGEST}"], "Config": {"User": "65532:65532"},
        "Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": DIGEST},
    },
}  # fmt: skip
PODMAN_5: dict[str, dict[str, Any]] = {
    "/version": {
        "Platform": {"Name": "linux/amd64/debian-13"}, "Version": "5.4.2", "ApiVersion": "1.41",
        "MinAPIVersion": "1.24", "Components": [
            {"Name": "Podman Engine", "Version": "5.4.2", "Details": {"APIVersion": "5.4.2", "MinAPIVersion": "4.0.0"}},
            {"Name": "Conmon", "Version": "conmon version 2.1.12"},
            {"Name": "OCI Runtime (crun)", "Version": "crun version 1.28\ncommit: 54f16ff\n+SYSTEMD +SECCOMP"},
        ],
    },
    "/v4.0.0/libpod/info": {
        "host": {"cgroupControllers": ["cpu", "memory", "pids"], "cgroupVersion": "v2",
                 "security": {"rootless": True, "seccompEnabled": True}},
    },
    "/info": {
        "CgroupVersion": "2", "DefaultRuntime": "crun", "NCPU": 16, "MemTotal": 1 << 36,
        "Runtimes": {"crun": {"path": "/usr/bin/crun"}, "runsc": {"path": "/usr/bin/runsc-of-nobody"}},
        "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"], "KernelVersion": "6.12.0",
        "MemoryLimit": False, "SwapLimit": False, "CpuCfsQuota": False, "PidsLimit": False,
    },
}  # fmt: skip


class Answering(Hung):
    """Says what its server was given."""

    def do_GET(self) -> None:  # noqa: N802  # its name
        """Answer by the end of the path; an engine of today knows no API older than it says."""
        server: Any = self.server
        said = next((said for path, said in server.answers.items() if self.path.endswith(path)), None)
        body = json.dumps(said if said is not None else {"message": f"no such path {self.path}"}).encode()
        self.send_response(200 if said is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Return what connects to an engine with these answers."""
    with Server(str(tmp_path / "engine.sock"), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def connect(answers: dict[str, Any]) -> Engine:
            server.answers = answers  # type: ignore[attr-defined]
            return Engine.connect(f"unix://{tmp_path}/engine.sock")

        yield connect
        server.shutdown()


def doctor(info: dict[str, Any]) -> HostFacts:
    """What of a good machine depends on its engine."""
    found = summarise(info, engine_error="", root=Path("/"))
    names = ("podman", "engine", "runc", "crun", "image_store", "security", "cgroup", "limits_missing", "runtimes")
    return replace(GOOD, **{name: getattr(found, name) for name in names})


def test_docker_29_is_talked_to_in_its_own_api(serve: Any) -> None:
    """It limits all that is asked; an image's id is the digest of its manifest."""
    engine = serve(DOCKER_29)
    found = {check.name: check for check in run_checks(doctor(engine.info()))}

    assert ("docker 29.7.1", "1.54", "2") == tuple(engine.describe()[key] for key in ("engine", "api", "cgroup"))
    assert engine.limits and engine.limits_swap and not engine.is_podman
    assert DIGEST == engine.image_id("autoresearch-sandbox:cpu")
    assert (Severity.OK, "docker 29.7.1, containerd image store") == (found["engine"].judgement, found["engine"].detail)
    assert {Severity.OK} == {found[name].judgement for name in ("runc", "seccomp", "lsm", "limits")}
    engine.close()


def test_podman_5_is_talked_to(serve: Any) -> None:
    """Without root on cgroup v2, with crun: what it says of limits is wrong, its own API knows."""
    engine = serve(PODMAN_5)
    found = {check.name: check for check in run_checks(doctor(engine.info()))}

    assert engine.is_podman and engine.limits and engine.limits_swap
    assert "podman 5.4.2" == engine.describe()["engine"]
    assert found["runc"].detail.startswith("crun 1.28: known vulnerabilities of crun are not tracked")
    assert not any(name.startswith("runtime-") for name in found)  # runsc is listed, and not installed
    assert (Severity.OK, Severity.OK) == (found["limits"].judgement, found["user-namespaces"].judgement)
    engine.close()


def test_the_mend_is_podmans_where_podman_runs_as_root(serve: Any) -> None:
    """It reads no daemon.json."""
    answers = copy.deepcopy(PODMAN_5)
    answers["/info"]["SecurityOptions"] = ["name=seccomp,profile=default"]
    answers["/v4.0.0/libpod/info"]["host"]["security"]["rootless"] = False
    engine = serve(answers)
    found = {check.name: check for check in run_checks(doctor(engine.info()))}

    assert "run Podman as a user without root, docs/hardening.md" == found["user-namespaces"].fix
    engine.close()


def test_the_probes_know_podman_with_root_and_without(serve: Any) -> None:
    """What it never bounds is no hole in either; what no user without root may do is still counted with root."""
    answers = copy.deepcopy(PODMAN_5)
    files = Finding(group="g", probe="make more files than may be in /tmp", verdict=Verdict.ALLOWED, why="did")
    clock = replace(files, probe="settimeofday", verdict=Verdict.VOID)
    for rootless, judged in ((True, Verdict.DIFFERS), (False, Verdict.VOID)):
        answers["/info"]["SecurityOptions"] = ["name=rootless"] if rootless else []
        answers["/v4.0.0/libpod/info"]["host"]["security"]["rootless"] = rootless
        engine = serve(answers)

        assert Verdict.DIFFERS == explained(files, tier_of(engine, "")).verdict
        assert judged == explained(clock, tier_of(engine, "")).verdict
        engine.close()


@pytest.mark.parametrize(("cgroup", "judged"), [("1", Verdict.DIFFERS), ("2", Verdict.ALLOWED)])
def test_the_probes_know_what_crun_leaves_on_cgroup_v1(serve: Any, cgroup: str, judged: Verdict) -> None:
    """Its own tmpfs above the hierarchies, seen with crun 1.28: 1 MiB, nosuid, nodev, noexec."""
    answers = copy.deepcopy(PODMAN_5)
    answers["/info"]["CgroupVersion"] = cgroup
    engine = serve(answers)
    mount = Finding(group="g", probe="find a writable mount that was not declared", verdict=Verdict.ALLOWED, why="did")

    assert judged == explained(mount, tier_of(engine, "")).verdict
    engine.close()


def test_what_is_not_delegated_is_named(serve: Any) -> None:
    """As where a user's session has no processors to limit."""
    answers = copy.deepcopy(PODMAN_5)
    answers["/v4.0.0/libpod/info"]["host"]["cgroupControllers"] = ["memory", "pids"]
    engine = serve(answers)

    assert ("processors",) == engine.unsupported_limits
    engine.close()


def test_an_engine_that_is_too_old_is_named(serve: Any) -> None:
    """With the version that it speaks."""
    old = {**DOCKER_29, "/version": {**DOCKER_29["/version"], "ApiVersion": "1.40", "MinAPIVersion": "1.12"}}
    with pytest.raises(EngineUnavailable, match=r"the engine speaks API 1\.40; at least 1\.41 is needed: update it"):
        serve(old)


def test_what_docker_29_leaves_out_of_its_inspect_is_no_difference() -> None:
    """Fields that its API no longer has are not asked about; what is there is still compared."""
    wanted = create_body(spec(), ())
    host = {key: value for key, value in wanted["HostConfig"].items() if key not in ("KernelMemory", "Isolation")}
    inspected = {
        "Path": wanted["Cmd"][0], "Args": wanted["Cmd"][1:], "Image": wanted["Image"], "Platform": "linux",
        "Config": {key: value for key, value in wanted.items() if key not in ("HostConfig", "StdinOnce", "Volumes")},
        "HostConfig": host | {"Annotations": None, "MemorySwappiness": None},
        "NetworkSettings": {"SandboxID": "", "SandboxKey": "", "Ports": {}, "Networks": {"none": {}}},
        "ImageManifestDescriptor": {"digest": DIGEST}, "Storage": {"RootFS": {"Snapshot": {"Name": "overlayfs"}}},
        "Mounts": [
            {"Type": "bind", "Source": mount["Source"], "Destination": mount["Target"], "RW": not mount["ReadOnly"],
             "Propagation": "rprivate"} if mount["Type"] == "bind" else
            {"Type": "volume", "Name": mount["Source"], "Destination": mount["Target"], "RW": not mount["ReadOnly"]}
            for mount in host["Mounts"]
        ],
    }  # fmt: skip
    weaker = copy.deepcopy(inspected)
    weaker["HostConfig"]["ReadonlyRootfs"] = False
    facts = {"cgroup": "2", "security": "name=cgroupns,name=seccomp,profile=builtin"}

    assert [] == container_diff(wanted, inspected, facts)
    assert ["HostConfig.ReadonlyRootfs: asked True, is None"] == container_diff(wanted, weaker, facts)


def test_an_image_is_known_by_its_content_wherever_it_was_loaded() -> None:
    """Its id is another one in the containerd image store; other layers, or another environment, are another image."""
    image: dict[str, Any] = {
        "Id": DIGEST,
        "RootFS": {"Layers": ["sha256:1", "sha256:2"]},
        "Config": {"Env": ["PATH=/bin"]},
    }
    images = {
        "here": image,
        "loaded": image | {"Id": f"sha256:{'b' * 64}", "Created": "later"},
        "rebuilt": image | {"RootFS": {"Layers": ["sha256:1", "sha256:3"]}},
        "other": image | {"Config": {"Env": ["PATH=/opt"]}},
        "podman": {"Id": "a" * 64, "RootFS": {}, "Config": {}},
    }
    engine = Engine(cast("Any", SimpleNamespace(inspect_image=images.__getitem__)), {})
    content = {name: engine.image_sha256(name) for name in images}

    assert content["here"] == content["loaded"]
    assert 3 == len({content[name] for name in ("here", "rebuilt", "other")})
    assert "" == content["podman"]
    assert engine.image_id("here") != engine.image_id("loaded")
