"""What `autoresearch doctor` says of a machine with given facts, and how the facts are read."""

import io
import os
import pwd
import socket as sockets
import struct
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import ConfigError
from orchestrator.host import doctor, host_facts
from orchestrator.host.doctor import (
    DRIVER,
    ENGINE,
    GIB,
    RUNC,
    TOOLKIT,
    Check,
    MinimumVersion,
    Severity,
    find_blocking_checks,
    report,
    run_checks,
    summarise_checks,
)
from orchestrator.host.host_facts import (
    ACL,
    Gpus,
    HostFacts,
    Socket,
    collect,
    find_listening_ports,
    find_open_heads,
    inspect_socket,
    list_people,
    parse_build_date,
    summarise,
)

GOOD = HostFacts(
    socket=Socket(address="unix:///run/user/1000/docker.sock"),
    engine="29.7.1",
    runc="1.4.3",
    runtimes={"runc": (), "runsc": ("--platform=systrap", "--oci-seccomp")},
    security=("name=apparmor", "name=seccomp,profile=builtin", "name=rootless"),
    cgroup="2",
    kernel="6.12.90",
    kernel_built=date(2026, 10, 1),
    gpus=Gpus(devices=("NVIDIA H100 GPU-1",), driver="580.159.03", toolkit="1.19.1"),
    free_bytes={"records": 100 * GIB, "the engine": 100 * GIB},
)


def judged(of: HostFacts) -> dict[str, Severity]:
    """What each check came to."""
    return {check.name: check.judgement for check in run_checks(of)}


def test_a_machine_without_a_fault_is_ok_in_every_line() -> None:
    """No check is weak by habit."""
    found = judged(GOOD)

    assert set(found.values()) == {Severity.OK}
    assert len(found) >= 12


@pytest.mark.parametrize(
    ("text", "least", "fixed"),
    [
        ("29.7.1", ENGINE, True),
        ("29.10.0", ENGINE, True),
        ("30.0.0-rc.1", ENGINE, True),
        ("29.7.0", ENGINE, False),
        ("20.10.24+dfsg1", ENGINE, False),
        ("", ENGINE, None),
        ("dev", ENGINE, None),
        ("1.3.6", RUNC, True),
        ("1.3.5", RUNC, False),
        ("1.4.2", RUNC, False),
        ("1.4.3", RUNC, True),
        ("1.5.0", RUNC, None),  # a branch of which nobody knows the least version
        ("runc version 1.1.5+ds1", RUNC, False),
        ("535.309.01", DRIVER, True),
        ("535.400.00", DRIVER, True),
        ("535.308.99", DRIVER, False),
        ("550.200.01", DRIVER, False),  # between the branches that get fixes
        ("580.159.03", DRIVER, True),
        ("580.82.07", DRIVER, False),
        ("590.48.01", DRIVER, None),
        ("1.19.1", TOOLKIT, True),
        ("1.18.9", TOOLKIT, False),
    ],
)
def test_a_version_is_compared_within_its_branch(text: str, least: MinimumVersion, fixed: bool | None) -> None:
    """By number, not by letter; what nobody can know is neither fixed nor not."""
    assert fixed is doctor.is_patched(text, least)


@pytest.mark.parametrize(
    ("name", "judgement", "changes"),
    [
        ("engine", Severity.WEAK, {"engine": "20.10.24+dfsg1"}),
        ("engine", Severity.WEAK, {"engine": ""}),
        ("engine", Severity.WEAK, {"podman": True, "engine": "5.4.0"}),
        ("engine", Severity.UNSAFE, {"engine_error": "no container engine answers"}),
        ("runc", Severity.WEAK, {"runc": "1.1.5+ds1"}),
        ("runc", Severity.WEAK, {"runc": ""}),
        ("seccomp", Severity.UNSAFE, {"security": ("name=apparmor", "name=rootless")}),
        ("lsm", Severity.WEAK, {"security": ("name=seccomp,profile=default", "name=rootless")}),
        ("user-namespaces", Severity.WEAK, {"security": ("name=seccomp,profile=default", "name=apparmor")}),
        ("limits", Severity.WEAK, {"cgroup": "1"}),
        ("limits", Severity.WEAK, {"cgroup": ""}),
        ("limits", Severity.WEAK, {"limits_missing": ("swap",)}),
        ("limits", Severity.UNSAFE, {"cgroup": "1", "limits_missing": ("memory", "swap", "processes")}),
        ("kernel", Severity.WEAK, {"kernel_built": None}),
        ("kernel", Severity.WEAK, {"kernel_built": date(2026, 4, 1)}),
        ("engine-socket", Severity.UNSAFE, {"socket": Socket(address="unix:///x", everyone=True)}),
        ("engine-socket", Severity.WEAK, {"socket": Socket(address="unix:///x", others=("alice",), group="docker")}),
        ("engine-socket", Severity.WEAK, {"socket": Socket(address="ssh://x", unseen="it is no local socket")}),
        ("engine-port", Severity.UNSAFE, {"ports": (2375,)}),
        ("engine-port", Severity.WEAK, {"ports": (2376,)}),
        ("engine-port", Severity.WEAK, {"ports": None}),
        ("processes", Severity.WEAK, {"hidden": True}),
        ("runtime-runsc", Severity.WEAK, {"runtimes": {"runsc": ("--ignore-cgroups", "--oci-seccomp")}}),
        ("runtime-runsc", Severity.WEAK, {"runtimes": {"runsc": ("--ignore-cgroups=true", "--oci-seccomp=true")}}),
        ("runtime-runsc", Severity.WEAK, {"runtimes": {"runsc": ()}}),
        ("runtime-runsc", Severity.WEAK, {"runtimes": {"runsc": None}}),
        ("disk", Severity.WEAK, {"free_bytes": {"records": 100 * GIB, "the engine": GIB}}),
        ("disk", Severity.WEAK, {"free_bytes": {"records": 100 * GIB, "the engine": None}}),
        ("disk", Severity.WEAK, {"free_bytes": {}}),
        ("gpu", Severity.WEAK, {"gpus": Gpus(error="NVML: no driver")}),
        ("gpu", Severity.WEAK, {"gpus": replace(GOOD.gpus, mps="root's nvidia-cuda-mps-control (pid 7)")}),
        ("gpu", Severity.WEAK, {"gpus": replace(GOOD.gpus, troubles=("GPU-1: it is 90 % busy",))}),
        ("nvidia-driver", Severity.UNSAFE, {"gpus": replace(GOOD.gpus, driver="580.82.07")}),
        ("nvidia-driver", Severity.WEAK, {"gpus": replace(GOOD.gpus, driver="535.309.01")}),
        ("nvidia-driver", Severity.WEAK, {"gpus": replace(GOOD.gpus, driver="")}),
        ("nvidia-toolkit", Severity.UNSAFE, {"gpus": replace(GOOD.gpus, toolkit="1.17.8")}),
        ("nvidia-toolkit", Severity.WEAK, {"gpus": replace(GOOD.gpus, toolkit="")}),
        ("nvidia-toolkit", Severity.WEAK, {"no_nvidia": True}),
    ],
)
def test_one_fault_is_one_line_that_is_not_ok_and_names_a_mend(
    name: str, judgement: Severity, changes: dict[str, object]
) -> None:
    """Each fault alone, on a machine that has no other."""
    found = {check.name: check for check in run_checks(replace(GOOD, **changes))}  # type: ignore[arg-type]

    assert judgement is found[name].judgement
    assert found[name].detail
    assert found[name].fix
    assert all(check.judgement is Severity.OK for check in found.values() if check.name != name)


def test_what_is_weak_names_what_still_stands() -> None:
    """An old engine is no reason to pretend, and none to leave a reader without the rest of the picture."""
    old = {check.name: check.detail for check in run_checks(replace(GOOD, engine="20.10.24", runc="1.1.5"))}

    assert "known vulnerabilities" in old["engine"]
    assert "seccomp" in old["engine"]
    assert "capabilities" in old["runc"]


def test_only_what_is_unsafe_stops_a_run_until_it_is_accepted_by_name() -> None:
    """Weak lines do not; accepting one name accepts no other."""
    checks = run_checks(replace(GOOD, engine="1.0.0", ports=(2375,), gpus=replace(GOOD.gpus, driver="470.1.1")))

    assert ["engine-port", "nvidia-driver"] == [check.name for check in find_blocking_checks(checks, ())]
    assert ["engine-port"] == [check.name for check in find_blocking_checks(checks, ["nvidia-driver"])]
    assert [] == find_blocking_checks(checks, ["nvidia-driver", "engine-port"])


def test_accepting_what_is_no_check_is_refused() -> None:
    """A slip of the pen must not look like an acceptance."""
    with pytest.raises(ConfigError, match=r"--accept-risk driver: .*nvidia-driver"):
        find_blocking_checks(run_checks(GOOD), ["driver"])


def test_the_report_is_one_line_per_check_and_one_for_its_mend() -> None:
    """However long a line is, and whatever brackets it holds; the last one says what follows."""
    out = io.StringIO()
    check = Check(name="kernel", judgement=Severity.WEAK, detail="[bold]" + "x" * 300, fix="reboot")
    report([check, check], Console(file=out, width=80))

    lines = out.getvalue().splitlines()

    assert 5 == len(lines)
    assert lines[0].startswith("weak   kernel")
    assert "[bold]" in lines[0]
    assert "       → reboot" == lines[1]
    assert lines[4].startswith("0 ok, 2 weak, 0 unsafe: a loop runs")


def test_the_verdict_is_no_better_than_the_checks() -> None:
    """Fit and safe only if all are ok; what is unsafe is named as it can be accepted."""
    weak, unsafe = replace(GOOD, cgroup="1"), replace(GOOD, ports=(2375,))

    assert summarise_checks(run_checks(GOOD)).endswith(" ok, 0 weak, 0 unsafe: fit and safe")
    assert ", 1 weak, 0 unsafe: a loop runs" in summarise_checks(run_checks(weak))
    assert "autoresearch loop --accept-risk engine-port" in summarise_checks(run_checks(unsafe))
    assert summarise_checks(run_checks(replace(GOOD, engine_error="no"))).endswith("nothing runs without an engine")


def test_a_missing_driver_is_said_once() -> None:
    """With the one fix that it comes with."""
    error = "NVML: Library Not Found: no NVIDIA driver is installed here; install it, or use --profile cpu"
    (found,) = (check for check in run_checks(replace(GOOD, gpus=Gpus(error=error))) if check.name == "gpu")

    assert "NVML: Library Not Found: no NVIDIA driver is installed here" == found.detail
    assert "install it, or use --profile cpu" == found.fix


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Linux version 6.1.0-40-amd64 (x@y) (gcc 12) #1 SMP Debian 6.1.153-1 (2026-09-20)\n", date(2026, 9, 20)),
        ("Linux version 6.8.0 (x@y) (gcc) #45-Ubuntu SMP Fri Aug 30 12:02:04 UTC 2024\n", date(2024, 8, 30)),
        ("Linux version 6.18.44 (x@y) (gcc) #1 SMP PREEMPT_DYNAMIC @0\n", None),
        ("Linux version 6.8.0 (x@y) #1 SMP Fri Xyz 30 12:02:04 UTC 2024\n", None),
        ("", None),
    ],
)
def test_the_day_a_kernel_was_built(text: str, day: date | None) -> None:
    """As Debian and as everyone else writes it."""
    assert day == parse_build_date(text)


@pytest.mark.parametrize(("mode", "everyone"), [(0o666, True), (0o660, False), (0o600, False)])
def test_a_socket_that_everyone_can_write_to_is_seen(tmp_path: Path, mode: int, everyone: bool) -> None:
    """Its own mode decides where the folders let people through."""
    path = bound(tmp_path / "engine.sock", mode)
    for folder in path.parents[: len(path.parents) - 2]:
        folder.chmod(0o755)

    assert everyone is inspect_socket(f"unix://{path}").everyone


def test_a_socket_in_a_folder_of_ones_own_is_nobody_elses(tmp_path: Path) -> None:
    """A careless mode on the socket itself does no harm there."""
    path = bound(tmp_path / "engine.sock", 0o666)
    tmp_path.chmod(0o700)
    found = inspect_socket(f"unix://{path}")

    assert (False, (), "") == (found.everyone, found.others, found.unseen)


@pytest.mark.parametrize(
    ("address", "everyone"), [("tcp://127.0.0.1:2375", True), ("ssh://host", False), ("unix:///none", False)]
)
def test_a_way_that_cannot_be_looked_at_is_not_called_safe(address: str, everyone: bool) -> None:
    """A TCP port without encryption is open to every user of the machine."""
    found = inspect_socket(address)

    assert everyone is found.everyone
    assert found.unseen


def test_what_an_engine_does_not_say_is_unknown() -> None:
    """An answer without a single field raises nothing, and no check on it is ok."""
    silent = replace(summarise({}, engine_error="", root=Path("/")), socket=GOOD.socket)
    found = judged(silent)

    assert Severity.OK not in {
        found[name] for name in ("engine", "runc", "seccomp", "lsm", "user-namespaces", "limits", "disk")
    }


def test_whom_an_access_control_list_lets_in_is_seen(tmp_path: Path) -> None:
    """The mode's own bits say nobody."""
    path = bound(tmp_path / "engine.sock", 0o600)
    me, daemon = os.getuid(), pwd.getpwnam("daemon").pw_uid
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 6, daemon), (4, 0, nobody), (16, 6, nobody), (32, 0, nobody)]  # u::rw u:daemon:rw
    os.setxattr(path, ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries))

    assert "daemon" in inspect_socket(f"unix://{path}").others
    assert me != daemon


@pytest.mark.parametrize(
    ("line", "said"),
    [("files sss", ["sss"]), ("files [NOTFOUND=return] ldap winbind", ["ldap", "winbind"]), ("files systemd", [])],
)
def test_a_directory_service_may_know_people(tmp_path: Path, line: str, said: list[str]) -> None:
    """It need not list them: the machine counts as shared."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nsswitch.conf").write_text(f"group: files\npasswd:  {line}\n")
    found = [name for name in list_people(tmp_path) if name.startswith("users from")]

    assert [f"users from {name}" for name in said] == found


@pytest.mark.parametrize("place", ["home/alice", "run/user/1234", "proc/42"])
def test_whoever_has_something_here_is_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A home, a session or a process, although no list names them; a container's user, without a name, is none."""
    (tmp_path / place).mkdir(parents=True)
    named = {os.getuid(): pwd.struct_passwd(("alice", "x", os.getuid(), 1, "", "/home/alice", "/bin/sh"))}
    monkeypatch.setattr(host_facts, "FIRST_PERSON_UID", 0)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    monkeypatch.setattr(pwd, "getpwall", list)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: named[uid])

    assert ("alice",) == list_people(tmp_path)
    named.clear()
    assert () == list_people(tmp_path)


@pytest.mark.parametrize(
    ("tcp", "tcp6", "ports"),
    [
        ("0100007F:0947 00000000:0000 0A", "", (2375,)),
        ("", "00000000000000000000000000000000:0948 00000000000000000000000000000000:0000 0A", (2376,)),
        ("0100007F:0947 0100007F:C350 01", "", ()),
    ],
)
def test_a_port_of_an_engine_is_seen(tmp_path: Path, tcp: str, tcp6: str, ports: tuple[int, ...]) -> None:
    """With encryption or without, in either family; a connection to one elsewhere is none."""
    assert find_listening_ports(tmp_path) is None
    (tmp_path / "net").mkdir()
    for name, line in (("tcp", tcp), ("tcp6", tcp6)):
        (tmp_path / "net" / name).write_text(
            f"  sl  local_address rem_address   st\n   0: {line}\n" if line else "sl\n"
        )

    assert ports == find_listening_ports(tmp_path)


def test_a_runtimes_arguments_are_known_or_not() -> None:
    """From what the engine says of it."""
    info = {"Runtimes": {"runsc": {"path": "/x", "runtimeArgs": ["--a"]}, "new": {"runtimeType": "y"}, "no": None}}

    assert {"runsc": ("--a",), "new": None, "no": None} == summarise(info, engine_error="", root=Path("/")).runtimes


@pytest.mark.engine
def test_the_real_machine_is_looked_at_in_full(tmp_path: Path) -> None:
    """The engine of this machine names itself, its runc and its limits."""
    found = collect(tmp_path)

    assert "" == found.engine_error
    assert doctor.parse_version(found.engine)
    assert found.podman or doctor.parse_version(found.runc)
    assert found.cgroup in {"1", "2"}
    assert found.kernel == os.uname().release
    assert (found.free_bytes["records"] or 0) > 0


def test_an_engine_that_does_not_answer_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No traceback, no check that nothing was asked for, and what to do."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    found = {check.name: check for check in run_checks(collect(tmp_path))}

    assert Severity.UNSAFE is found["engine"].judgement
    assert "start that engine, or unset DOCKER_HOST" == found["engine"].fix
    assert "seccomp" not in found


def bound(path: Path, mode: int) -> Path:
    """A socket that nobody listens on."""
    with sockets.socket(sockets.AF_UNIX) as made:
        made.bind(str(path))
    path.chmod(mode)
    return path


def test_a_cluster_that_strangers_can_join_is_unsafe() -> None:
    """By a token that others can read, or a head that asks for none."""
    token = Path("/home/me/.config/autoresearch-sandbox/ray-token")

    shared = replace(GOOD, cluster_token=token, token_is_shared=True)
    assert "cluster" not in judged(GOOD)
    assert Severity.OK is judged(replace(GOOD, cluster_token=token))["cluster"]
    assert Severity.UNSAFE is judged(shared)["cluster"]
    assert Severity.UNSAFE is judged(replace(GOOD, open_heads=(7,)))["cluster"]


def test_a_head_without_a_token_is_found(tmp_path: Path) -> None:
    """By its name and its environment."""
    for pid, name, environment in (
        (1, "gcs_server", b"PATH=/bin\0RAY_AUTH_MODE=token\0"),
        (2, "gcs_server", b"PATH=/bin\0"),
        (3, "bash", b"PATH=/bin\0"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(f"{name}\n")
        (tmp_path / str(pid) / "environ").write_bytes(environment)

    assert (2,) == find_open_heads(tmp_path)
