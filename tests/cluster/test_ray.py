"""A real Ray cluster in network namespaces of its own: losses, the API key, cancel, a wrong token."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, SandboxError
from orchestrator.events import ContainerStarted, Event, ExperimentBegun, ExperimentFinished
from orchestrator.execution import join
from orchestrator.execution.remote import RayCluster, RemoteRunner
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Plan, Proposal, Reply
from tests.support import fakes, sessions
from tests.support.ray_cluster import PORT, StandInCluster, kill, processes_in, stand_in_cluster, variables

KEY = "sk-ant-the-key-of-the-head"
SLOT, RAYLET, HEAD, DRIVER = "ray::StandInSlot", "/raylet --", "gcs_server", "stand_in_slot"
LOSSES = {2: ((SLOT, 1), (SLOT, 2)), 4: ((RAYLET, 2),), 5: ((HEAD, 0), (DRIVER, 0))}  # once these have begun


@pytest.mark.timeout(240)
def test_a_storm_in_a_teacup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot's process, a host's raylet and the head are killed: every experiment ends once, none is lost.

    The key of the head is nowhere in the cluster, nobody joins with another token, and `end` reaches what runs.
    """
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("AUTORESEARCH_LIMITS__CONSECUTIVE_INFRA", "9")
    config = sessions.task(tmp_path, experiments=4).model_copy(update={"parallel": 2})
    killed, leaks = dict[int, int](), list[str]()
    with (
        stand_in_cluster(tmp_path, slots=(1, 1), pause_s=0.7) as made,
        Journal.open(config.run_path) as journal,
    ):
        runners = made.runners(config, journal.append)
        runners[0].ready()
        leaks += leaks_of(made)
        refusal = refused(made, tmp_path)
        cancelled = end_trial(runners[0], tmp_path)

        def lose(event: Event) -> None:
            if isinstance(event, ContainerStarted) and event.experiment_id not in killed:
                losses = LOSSES.get(event.experiment_id, ())
                killed[event.experiment_id] = sum(kill(made.net, word, (host,)) for word, host in losses)

        journal.subscribe(lambda recorded: lose(recorded.event))
        proposer = fakes.ScriptedProposer([f"0.0{number}" for number in range(1, 9)])
        session = sessions.open_session(config, proposer, *runners, journal=journal)
        run_session(session)
        begun = Counter(recorded.event.experiment_id for recorded in journal.events(ExperimentBegun))
        finished = Counter(recorded.event.experiment_id for recorded in journal.events(ExperimentFinished))
        statuses = [one.status.value for one in journal.experiments()]
        owed = journal.queued()

    assert 4 <= sum(killed.values())
    assert begun == finished
    assert {1} == set(finished.values())
    assert statuses.count("infra") >= 2
    assert len(statuses) - statuses.count("infra") >= 5  # the baseline and four ideas
    assert [] == owed
    assert [] == leaks
    assert "another token" in refusal
    assert "ended" == cancelled


def end_trial(runner: RemoteRunner, folder: Path) -> str:
    """What a trial comes to that is ended while it runs."""
    candidate = Candidate(
        proposal=Proposal(hypothesis="h"), source=fakes.TRAIN_PY, parent_id=None, parent_source="",
        reply=Reply(proposer="p"),
    )  # fmt: skip
    record, runner.record = runner.record, lambda _: runner.end("somebody else needs the device")
    with pytest.raises(SandboxError) as raised:
        runner.run(candidate, Plan.draw(), experiment_id=99, folder=folder, best=None)
    runner.record = record
    return str(raised.value)


def leaks_of(made: StandInCluster) -> list[str]:
    """The processes of the cluster that hold a key, in their environment or arguments."""
    secrets = (KEY.encode(), b"sk-of-a-host")
    found, seen = list[str](), 0
    for pid, command in processes_in(made.net).items():
        variables_of = Path(f"/proc/{pid}/environ").read_bytes()
        if "stand_in_host" in command:  # the worker itself is started by a person, with whatever that person has
            continue
        seen += "ray::" in command
        if any(secret in variables_of + command.encode() for secret in secrets):
            found.append(command)
    assert seen, "no slot runs yet"
    return found


def refused(made: StandInCluster, folder: Path) -> str:
    """What a head with another token is told."""
    token = join.require_token(folder / "other-token", create=True)
    argv = (*made.net.inside(0), sys.executable, "-m", "tests.support.stand_in_slot")
    hello = {"address": f"{made.net.address(0)}:{PORT}", "run": "t", "facts": join.stamp(made.facts)}
    with (
        pytest.raises(ConfigError) as raised,
        RayCluster(argv, hello, join.cluster_environment(token, variables())),
    ):
        pass
    return str(raised.value)
