"""A real head refuses a host that differs from it, and another run: one line with the mend, and nothing half done."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.execution import join
from orchestrator.execution.join import HeadFacts
from orchestrator.execution.remote import RayCluster
from tests.support.network import network
from tests.support.ray_cluster import PORT, end, variables

ROOT = Path(__file__).parents[2]
CASES = {  # what the head has, and what the host says
    "ray": ({"ray": "2.40.0"}, "this host has Ray 2.", "install the head's version"),
    "code": ({"code": "c" * 64}, "this host has autoresearch-sandbox with code", "install the head's version"),
    "locked": ({"locked": "l" * 64}, "this host has locked/ with hash", "copy the task directory from the head"),
    "clock": ({"clock": 300.0}, "s behind the head's", "timedatectl"),
}


@contextmanager
def head(folder: Path) -> Iterator[tuple[list[str], str, Path, Path]]:
    """A head in a network of its own: what precedes commands there, its address, its token and its facts."""
    token, facts = join.require_token(folder / "token", create=True), folder / "facts.json"
    facts.write_text(facts_of({}).model_dump_json())
    with network(1) as net:
        inside, address = net.inside(0), f"{net.address(0)}:{PORT}"
        argv = [*inside, sys.executable, "-m", "tests.support.stand_in_head", "head", address, str(facts)]
        process = subprocess.Popen(argv, env=join.cluster_environment(token, variables()), stderr=subprocess.DEVNULL)
        try:
            yield inside, address, token, facts
        finally:
            end([process])


def facts_of(changed: dict[str, object]) -> HeadFacts:
    """What a head on this machine tells, with changes."""
    values = {"run": "theirs", "locked": "", "data": "", "image_id": "", "image": "", "settings": {}}
    return HeadFacts.model_validate(join.collect_versions() | values | changed)


def ask(inside: list[str], address: str, token: Path) -> "subprocess.CompletedProcess[str]":
    """`autoresearch worker` there, until it is refused."""
    argv = [*inside, sys.executable, "-m", "tests.support.stand_in_head", "worker", address, str(ROOT), str(token)]
    return subprocess.run(argv, env=variables(), capture_output=True, text=True, check=False, timeout=150)


def wait_until_it_answers(inside: list[str], address: str) -> None:
    """The head needs some seconds."""
    code = "import sys, time\nfrom orchestrator.execution import join\n"
    code += "while not join.is_answering(sys.argv[1]): time.sleep(0.1)"
    subprocess.run([*inside, sys.executable, "-c", code, address], env=variables(), check=True, timeout=120)


@pytest.mark.timeout(300)
def test_a_host_that_differs_is_told_how_and_what_to_do(tmp_path: Path) -> None:
    """By the worker's own command: exit 1, one line, and nothing joined; another run's head is refused too."""
    said = dict[str, tuple[int, str]]()
    with head(tmp_path) as (inside, address, token, facts):
        wait_until_it_answers(inside, address)
        for name, (changed, *_) in CASES.items():
            facts.write_text(facts_of(changed).model_dump_json())
            done = ask(inside, address, token)
            said[name] = done.returncode, done.stderr
        done = ask(inside, address, join.require_token(tmp_path / "another", create=True))
        said["token"] = done.returncode, done.stderr
        hello = {"address": address, "run": "ours", "facts": join.stamp(facts_of({"run": "ours"}))}
        facts.write_text(facts_of({}).model_dump_json())
        argv = (*inside, sys.executable, "-m", "tests.support.stand_in_slot")
        with (
            pytest.raises(ConfigError) as second,
            RayCluster(argv, hello, join.cluster_environment(token, variables())),
        ):
            pass

    for name, (_, why, mend) in (CASES | {"token": ({}, "has another token", "copy the head's token file")}).items():
        code, text = said[name]
        assert (1, 1) == (code, len(text.splitlines())), f"{name}: {text}"
        assert why in text
        assert mend in text
    assert "run theirs uses this cluster now: end it, or name another address" in str(second.value)
