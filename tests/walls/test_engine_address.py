"""The engine is the user's own: found as the docker command finds it, named where it cannot be used, never replaced."""

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import EngineUnavailable
from orchestrator.host.doctor import Severity, run_checks
from orchestrator.host.host_facts import collect
from orchestrator.shipped import SANDBOX
from orchestrator.walls import engine_address
from orchestrator.walls.engine import Engine
from orchestrator.walls.engine_address import EngineAddress, connect_plainly, find_address
from tests.walls.test_hung_engine import Hung, Server

ANSWERING = """#!/bin/sh
[ -e "$FAKE/answers" ] && echo 29.7.1 && exit
echo "Error response from daemon: $FAKE is too old" >&2
exit 1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and nothing of the real environment that names an engine."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_TLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(engine_address, "SYSTEM", tmp_path / "docker.sock")
    return tmp_path


@pytest.fixture
def listening(home: Path) -> Iterator[str]:
    """The address of something that describes itself as an engine."""
    path = home / "own.sock"
    with Server(str(path), Hung) as server:
        server.hung, server.over, server.trickles = threading.Event(), threading.Event(), False  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{path}"
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()


def context(home: Path, name: str, host: str, *, current: bool = True) -> Path:
    """Write what `docker context create` and `docker context use` write; the file that names the host."""
    folder = home / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    meta = folder / "meta.json"
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}))
    if current:
        (home / ".docker" / "config.json").write_text(json.dumps({"auths": {}, "currentContext": name}))
    return meta


def bound(path: Path) -> Iterator[str]:
    """A socket on which something listens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        yield f"unix://{path}"


def test_the_order_is_that_of_docker(home: Path) -> None:
    """DOCKER_HOST, DOCKER_CONTEXT, the current context, the usual socket; the context `default` is the last of them."""
    context(home, "current", "unix:///current.sock")
    context(home, "named", "tcp://10.0.0.1:2376", current=False)
    here = {"HOME": str(home)}
    asked = [{"DOCKER_HOST": "unix:///h.sock", "DOCKER_CONTEXT": "named"}, {"DOCKER_CONTEXT": "named"}, {},
             {"DOCKER_CONTEXT": "default"}, {"DOCKER_CONFIG": str(home / "none")}]  # fmt: skip
    usual = f"unix://{home}/docker.sock"

    assert ["unix:///h.sock", "tcp://10.0.0.1:2376", "unix:///current.sock", usual, usual] == [
        find_address(here | one).url for one in asked
    ]


@pytest.mark.parametrize("name", ["run/docker.sock", "run/podman/podman.sock"])
def test_an_engine_without_root_is_found_where_it_listens(home: Path, name: str) -> None:
    """Only if something answers there: a socket that was left behind is none."""
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home / "docker.sock"))

    for address in bound(home / name):
        assert address == find_address({"XDG_RUNTIME_DIR": str(home / "run")}).url


def test_a_context_is_followed(home: Path, listening: str) -> None:
    """As by `docker context use`, where no other engine is."""
    context(home, "desktop", listening)
    engine = Engine.connect()

    assert "docker 20.10" == engine.describe()["engine"]
    engine.close()


def test_certificates_come_with_the_address(home: Path) -> None:
    """Of a context from its folder, of DOCKER_HOST from DOCKER_CERT_PATH."""
    meta = context(home, "far", "tcp://10.0.0.1:2376")
    tls = home / ".docker" / "contexts" / "tls" / meta.parent.name / "docker"
    tls.mkdir(parents=True)
    host = {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c"}

    assert tls == find_address({"HOME": str(home)}).certificates
    assert Path("/c") == find_address(host).certificates
    assert find_address(host).verifies
    assert find_address({"DOCKER_HOST": "tcp://h:2375"}).certificates is None


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (
            "unix://{home}/none.sock",
            "DOCKER_HOST: unix://{home}/none.sock: No such file or directory; start that engine",
        ),
        ("unix://{home}/left.sock", "DOCKER_HOST: unix://{home}/left.sock: Connection refused; start that engine"),
        ("tcp://127.0.0.1:9", "DOCKER_HOST: tcp://127.0.0.1:9: Connection refused; start that engine, or unset"),
        ("tcp://127.0.0.1:port", "DOCKER_HOST: tcp://127.0.0.1:port: Port could not be cast"),
        ("tcp://", "DOCKER_HOST: tcp://: "),
        ("ssh://me@far", "DOCKER_HOST: ssh://me@far: containers on another machine cannot see the files of this one;"),
        ("npipe:////./pipe/docker", "DOCKER_HOST: npipe:////./pipe/docker: no address of an engine that can be used"),
        ("/run/docker.sock", "DOCKER_HOST: /run/docker.sock: no address of an engine that can be used here; unix://"),
        ("unix://", "DOCKER_HOST: unix://: no address of an engine"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, host: str, said: str
) -> None:
    """With its setting, the system's words and what to do; doctor says the same, and starts no other."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home / "left.sock"))
    monkeypatch.setenv("DOCKER_HOST", host.format(home=home))
    with pytest.raises(EngineUnavailable) as found:
        Engine.connect()
    check = run_checks(collect(home))[0]

    assert str(found.value).startswith(said.format(home=home))
    assert str(found.value).endswith("unset DOCKER_HOST")
    assert "\n" not in str(found.value)
    assert (Severity.UNSAFE, "engine") == (check.judgement, check.name)
    assert str(found.value) == f"{check.detail}; {check.fix}"


@pytest.mark.parametrize("meta", ["", "{}", '{"Endpoints": {"docker": null}}', "[1]"])
def test_a_context_that_is_gone_or_broken_is_named(home: Path, meta: str) -> None:
    """With its file, and how to be rid of it."""
    file = context(home, "gone", "")
    file.write_text(meta)
    with pytest.raises(EngineUnavailable) as found:
        find_address({"HOME": str(home)})
    with pytest.raises(
        EngineUnavailable, match=r"^DOCKER_CONTEXT = 'other': .* names no engine; .*unset DOCKER_CONTEXT$"
    ):
        find_address({"HOME": str(home), "DOCKER_CONTEXT": "other"})

    config = home / ".docker" / "config.json"
    assert str(found.value).startswith(f"docker context of {config} = 'gone': {file} names no engine")
    assert str(found.value).endswith("or `docker context use default`")


def test_a_dead_context_is_named(home: Path) -> None:
    """The engine that it names does not run."""
    context(home, "desktop", f"unix://{home}/desktop.sock")
    with pytest.raises(EngineUnavailable, match=r"config.json = 'desktop': unix://.*desktop.sock: No such file"):
        Engine.connect()


def test_the_address_of_a_socket_that_one_may_not_use_is_named() -> None:
    """Where nothing is configured, too."""
    with pytest.raises(EngineUnavailable, match=r"^no container engine answers at unix:///nowhere .*start-engine"):
        connect_plainly(EngineAddress(url="unix:///nowhere"))


@pytest.mark.parametrize("case", ["answers", "DOCKER_HOST", "DOCKER_CONTEXT", "context", "runs"])
def test_an_engine_is_never_started_over_another(home: Path, case: str) -> None:
    """Neither where the user names one nor where one runs: the client's own words are shown, and that is all."""
    (home / "docker").write_text(ANSWERING)
    for name in ("apt-get", "dockerd", "systemctl", "setsid"):
        (home / name).write_text(f"#!/bin/sh\ntouch {home}/started\nexit 3\n")
    for name in ("docker", "apt-get", "dockerd", "systemctl", "setsid"):
        (home / name).chmod(0o755)
    (home / "sleep").symlink_to("/bin/true")
    environment = {"PATH": f"{home}:{os.environ['PATH']}", "HOME": str(home), "FAKE": str(home)}
    if case == "answers":
        (home / "answers").touch()
    elif case == "context":
        context(home, "desktop", "unix:///desktop.sock")
    elif case != "runs":
        environment[case] = "unix:///gone.sock"
    daemon = ["/bin/bash", "-c", "exec -a dockerd cat"]  # a process of its name
    (home / "bin").mkdir()
    (home / "bin" / "dockerd").symlink_to("/bin/cat")
    with subprocess.Popen([str(home / "bin" / "dockerd")] if case == "runs" else daemon, stdin=subprocess.PIPE) as one:
        done = subprocess.run(
            [str(SANDBOX / "engine.sh")], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        one.communicate()

    assert not (home / "started").exists()
    assert (0 if case == "answers" else 1) == done.returncode
    if case != "answers":
        assert f"Error response from daemon: {home} is too old" in done.stderr
        assert 1 == done.stderr.count("\n")
        named = {"context": "the docker context 'desktop' does not answer", "runs": "an engine runs on this machine"}
        assert done.stderr.startswith(f"engine: {named.get(case, f'{case}=unix:///gone.sock does not answer')}")


@pytest.mark.parametrize("way", ["DOCKER_HOST", "context"])
def test_an_engine_on_another_machine_is_said_at_once(home: Path, way: str) -> None:
    """Whether it answers or not: it cannot see this machine's files."""
    (home / "docker").write_text('#!/bin/sh\n[ "$1" != context ] || echo ssh://me@far\n')
    (home / "docker").chmod(0o755)
    environment = {"PATH": f"{home}:{os.environ['PATH']}", "HOME": str(home)}
    if way == "context":
        context(home, "far", "ssh://me@far")
    else:
        environment[way] = "ssh://me@far"
    done = subprocess.run(
        [str(SANDBOX / "engine.sh")], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    named = {"context": "the docker context 'far'", "DOCKER_HOST": "DOCKER_HOST=ssh://me@far"}[way]
    assert 1 == done.returncode
    assert done.stderr.startswith(f"engine: {named}: containers on another machine cannot see the files of this one; ")


def test_a_podman_whose_api_nothing_serves_is_named(home: Path) -> None:
    """Its command works, but containers are made through the API."""
    tools = home / "bin"
    tools.mkdir()
    for name in ("dirname", "id", "sed", "env", "bash", "python3", "timeout", "tr"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    (tools / "podman").write_text("#!/bin/sh\necho 5.4.2\n")
    (tools / "podman").chmod(0o755)
    environment = {"PATH": str(tools), "HOME": str(home)}
    text = (SANDBOX / "cli.sh").read_text().replace("/var/run/docker.sock", f"{home}/docker.sock")
    (home / "cli.sh").write_text(text.replace("/run/podman/podman.sock", f"{home}/podman.sock"))
    (home / "engine.sh").write_text((SANDBOX / "engine.sh").read_text())
    run = ["bash", str(home / "engine.sh")]
    none = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    for _ in bound(home / "podman.sock"):
        there = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)

    assert (1, 0) == (none.returncode, there.returncode), there.stderr
    assert "engine: podman is here, but nothing listens for its API: systemctl" in none.stderr
