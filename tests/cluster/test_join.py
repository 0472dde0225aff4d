"""Who may join a cluster: what a host must have in common with the head, the token, and what processes are given."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cluster import host
from orchestrator.cluster.driver import end_process
from orchestrator.cluster.worker import Worker, count_slots
from orchestrator.errors import ConfigError
from orchestrator.execution import frames, join
from orchestrator.execution.join import HeadFacts
from orchestrator.types import Candidate, Kept, Plan, Proposal, Reply
from tests.support import fakes, sessions
from tests.support.waiting import within

ROOT = Path(__file__).parents[2]
HEAD = HeadFacts(
    run="nov27", code="c" * 64, release="1.0", locked="l" * 64, data="d" * 64, image_id="sha256:1", image="i" * 64,
    ray="2.60.0", python="3.11.7", settings={"profile_name": "gpu", "corpus": "python"}, clock=1000.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("ray", "install the head's version"),
        ("python", "use the head's version"),
        ("code", "install the head's version"),
        ("locked", "copy the task directory from the head"),
        ("data", "copy data/gpu-python from the head"),
        ("image", "docker save autoresearch-sandbox:gpu"),
    ],
)
def test_a_host_with_something_else_than_the_head_may_not_join(name: str, mend: str) -> None:
    """One line with both values and the mend."""
    here = {key: str(getattr(HEAD, key)) for key in join.MENDS} | {name: "other"}

    reason = join.find_difference(HEAD, here)

    assert "other" in reason
    assert str(getattr(HEAD, name))[:12] in reason
    assert mend in reason
    assert "\n" not in reason


def test_a_host_like_the_head_may_join() -> None:
    """The image's id does not count: stores name the same image differently."""
    assert "" == join.find_difference(HEAD, {key: str(getattr(HEAD, key)) for key in join.MENDS})


@pytest.mark.parametrize(("now", "word"), [(1010.0, ""), (1100.0, "100 s ahead of"), (900.0, "100 s behind")])
def test_a_clock_that_differs_is_named(now: float, word: str) -> None:
    """Within half a minute clocks are as good as equal."""
    reason = join.find_clock_skew(HEAD, now)

    assert word in reason
    assert bool(word) == bool(reason)


def test_slots_are_asked_for_by_what_the_host_had_when_it_joined() -> None:
    """A host that joined a head with another image offers another resource."""
    other = HEAD.model_copy(update={"image": "other"})
    later = HEAD.model_copy(update={"clock": 2000.0, "run": "nov28"})

    assert HEAD.resource != other.resource
    assert HEAD.resource == later.resource


def test_the_head_makes_a_token_that_only_its_owner_can_read(tmp_path: Path) -> None:
    """It is made once."""
    made = join.require_token(tmp_path / "new" / "token", create=True)
    text = made.read_text()

    assert 0o600 == made.stat().st_mode & 0o777
    assert len(text) >= join.LEAST_TOKEN
    assert text == join.require_token(made, create=True).read_text()


@pytest.mark.parametrize(("mode", "text", "why"), [(0o644, "x" * 64, "chmod 600"), (0o600, "", "holds no token")])
def test_a_token_that_others_can_read_or_that_is_none_is_refused(
    tmp_path: Path, mode: int, text: str, why: str
) -> None:
    """With the mend."""
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)

    with pytest.raises(ConfigError, match=why):
        join.require_token(file, create=False)


def test_a_missing_token_is_copied_from_the_head(tmp_path: Path) -> None:
    """Only the head makes one."""
    with pytest.raises(ConfigError, match="copy the head's"):
        join.require_token(tmp_path / "token", create=False)


@pytest.mark.parametrize("address", ["", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:x", ":6379", "0.0.0.0:6379"])
def test_an_address_is_one_host_and_a_port(address: str) -> None:
    """Not every interface."""
    with pytest.raises(ConfigError, match="--address"):
        join.split_address(address)


def test_processes_of_the_cluster_get_no_key(tmp_path: Path) -> None:
    """Nor proxies, nor anything that is not named."""
    ours = {"ANTHROPIC_API_KEY": "sk", "AUTORESEARCH_API_KEY": "sk", "HTTPS_PROXY": "p", "PATH": "/bin", "OTHER": "1"}

    passed = join.cluster_environment(tmp_path / "token", ours)

    assert "/bin" == passed["PATH"]
    assert "token" == passed["RAY_AUTH_MODE"]
    assert str(tmp_path / "token") == passed["RAY_AUTH_TOKEN_PATH"]
    assert not {"ANTHROPIC_API_KEY", "AUTORESEARCH_API_KEY", "HTTPS_PROXY", "OTHER"} & passed.keys()
    assert "sk" not in passed.values()


def test_shared_settings_hold_no_key_and_nothing_of_the_head_alone(tmp_path: Path) -> None:
    """Headers, commands, accepted risks and the choice of devices are a host's own."""
    config = sessions.task(tmp_path)

    settings = join.shared_settings(config)

    assert not {"claude", "command", "notify", "api_key", "accept_risk", "gpu", "root", "runs"} & settings.keys()
    assert config.active_profile.time_budget_s == settings["profile"]["cpu"]["time_budget_s"]


def test_a_host_takes_the_head_s_settings_and_its_own_risks(tmp_path: Path) -> None:
    """A risk that was accepted on the head was not accepted here."""
    head = sessions.task(tmp_path).with_profile(time_budget_s=7.0)
    here = host.Host(folder=tmp_path, root=tmp_path, accept_risk=("limits",))
    host.write_host(here)

    config = host.load_config(
        host.read_host({host.VARIABLE: str(tmp_path)}), join.shared_settings(head), tag="t", runs=tmp_path
    )

    assert 7.0 == config.active_profile.time_budget_s
    assert ("limits",) == config.accept_risk


def test_more_slots_than_devices_are_refused(tmp_path: Path) -> None:
    """With what there is."""
    with pytest.raises(ConfigError, match=r"--slots 999: this host has devices for 1 to \d+"):
        count_slots(sessions.task(tmp_path).with_profile(cpus=1.0), 999)


def test_an_address_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    """The worker says where the loop is to be started."""
    token = join.require_token(tmp_path / "token", create=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    worker = Worker(
        address=address, root=tmp_path, token_file=token, slots=None, node_ip="", data=None, accept_risk=(), say=print
    )

    with pytest.raises(ConfigError, match="nothing answers"):
        worker.run({})


def test_nothing_that_ray_started_outlives_it() -> None:
    """As agents of a raylet that was killed: whether its main process ends when it is asked, or has died before."""
    for dies_first in (False, True):
        with subprocess.Popen(
            ["sh", "-c", "sleep 600 & echo $!; exec sleep 600"], stdout=subprocess.PIPE, start_new_session=True
        ) as ray:
            assert ray.stdout is not None
            agent = int(ray.stdout.readline())
            if dies_first:
                ray.kill()
                ray.wait()
            assert within(60, lambda agent=agent: is_asleep(agent))
            end_process(ray)

            assert within(60, lambda agent=agent: not is_asleep(agent))


def is_asleep(pid: int) -> bool:
    """Whether a process is the `sleep` that the test started: no copy of the shell any more, and not dead."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")
    except OSError:
        return False


def test_without_ray_nothing_else_changes_and_the_mend_is_named() -> None:
    """The command line does not import it; a loop that needs it says how to install it."""
    code = (
        "import sys, importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'ray' else found(name, *a)\n"
        "import orchestrator.cli, orchestrator.execution.join as join\n"
        "assert 'ray' not in sys.modules\n"
        "join.require_ray()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)

    assert "pip install 'autoresearch-sandbox[ray]'" in done.stderr.splitlines()[-1]


def test_a_job_carries_the_source_and_the_seeds_but_nothing_of_the_llm() -> None:
    """What the LLM was told and said stays on the head."""
    candidate = Candidate(
        proposal=Proposal(hypothesis="h"), source=fakes.TRAIN_PY, parent_id=3, parent_source="parent", attempt=2,
        reply=Reply(proposer="claude", prompt="the prompt", text="the reply"),
    )  # fmt: skip
    plan = Plan.draw()

    kept = [Kept(id=3, source="a text")]

    job = frames.dump_job(candidate, plan, experiment_id=7, best=float("inf"), kept=kept)

    assert (fakes.TRAIN_PY, 2) == (frames.load_candidate(job).source, frames.load_candidate(job).attempt)
    assert plan == frames.load_plan(job)
    assert kept == frames.load_kept(job)
    assert "the prompt" not in str(job)
    assert "the reply" not in str(job)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("loop", "--executor", "ray", "--run", "t"), "--address '': must be HOST:PORT"),
        (("loop", "--executor", "rya", "--run", "t"), "--executor 'rya'"),
        (("worker",), "--address '': must be HOST:PORT"),
        (("worker", "--address", "127.0.0.1:1"), "nothing answers"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_leaves_nothing(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    """No run is begun."""
    sessions.task(tmp_path)
    token = join.require_token(tmp_path / "token", create=True)
    argv = [sys.executable, "-m", "orchestrator", *words, "--task", str(tmp_path), "--token-file", str(token)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)

    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert why in done.stderr
    assert not list(tmp_path.glob("runs/t/record.jsonl"))
