"""Runners on other hosts, against a scripted driver: what comes back, what is lost, late or not to be believed."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.devices.schedule import StartGate
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.events import ContainerStarted, Event
from orchestrator.execution.join import HeadFacts
from orchestrator.execution.remote import RayCluster, RemoteRunner, SlotLost
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Plan, Proposal, Reply, Status
from tests.support import fakes, sessions

ROOT = Path(__file__).parents[2]
FACTS = HeadFacts(
    run="t", code="c", release="1", locked="l", data="d", image_id="sha256:fake", image="i", ray="2", python="3",
    settings={},
)  # fmt: skip
CANDIDATE = Candidate(
    proposal=Proposal(hypothesis="h"), source=fakes.TRAIN_PY, parent_id=None, parent_source="",
    reply=Reply(proposer="p", prompt="what only the LLM is told"),
)  # fmt: skip


@contextmanager
def cluster(*words: str) -> Iterator[RayCluster]:
    """A cluster whose slots answer by these words."""
    argv = (sys.executable, "-m", "tests.support.scripted_driver", *words)
    with RayCluster(argv, {}, {**os.environ, "PYTHONPATH": str(ROOT)}) as made:
        yield made


def runner(made: RayCluster, tmp_path: Path, recorded: list[Event], lines: list[str]) -> RemoteRunner:
    """A runner of that cluster."""
    config = sessions.task(tmp_path)
    config = config.model_copy(update={"recording": config.recording.model_copy(update={"checkpoint_mb": 1})})
    return RemoteRunner(
        cluster=made, number=0, config=config, facts=FACTS, hardware=lambda: "", on_wait=lambda _: None,
        record=recorded.append, show=lambda _, role, text: lines.append(f"{role}: {text}"),
        gate=StartGate(run=tmp_path), again_s=0.01,
    )  # fmt: skip


def test_a_trial_comes_back_with_its_files_events_and_output(tmp_path: Path) -> None:
    """As if it had run here; its events carry the experiment's number as the head has it."""
    recorded, lines = list[Event](), list[str]()
    (tmp_path / "0007").mkdir()
    with cluster("fine") as made:
        one = runner(made, tmp_path, recorded, lines)
        waited = one.ready()
        trial = one.run(CANDIDATE, Plan.draw(), experiment_id=7, folder=tmp_path / "0007", best=None)

    assert waited
    assert trial.score is not None
    assert 1.5 == trial.score.value
    assert "one two" == (tmp_path / "0007" / "trainer.log").read_text()
    assert ["trainer: step 1"] == lines
    assert [7] == [event.experiment_id for event in recorded if isinstance(event, ContainerStarted)]
    assert "host1" == one.environment().host


def test_the_late_result_of_a_lost_slot_is_dropped(tmp_path: Path) -> None:
    """It belongs to a trial that was given up; the next trial on the slot has its own result."""
    with cluster("lost", "fine") as made:
        one = runner(made, tmp_path, [], [])
        one.ready()
        with pytest.raises(SlotLost, match="its host is gone"):
            one.run(CANDIDATE, Plan.draw(), experiment_id=1, folder=tmp_path, best=None)
        one.ready()
        trial = one.run(CANDIDATE, Plan.draw(), experiment_id=2, folder=tmp_path, best=None)

    assert trial.score is not None
    assert 1.5 == trial.score.value


def test_a_dead_driver_is_the_loss_of_its_slots_and_is_started_again(tmp_path: Path) -> None:
    """Ray ends a driver whose head died; the loop lives on."""
    with cluster("dies") as made:
        one = runner(made, tmp_path, [], [])
        one.ready()
        with pytest.raises(SlotLost, match="driver ended"):
            one.run(CANDIDATE, Plan.draw(), experiment_id=1, folder=tmp_path, best=None)
        assert one.ready()


BAD = {
    "failed": "the engine died",
    "overwrites": "File exists",
    "climbs": "a file called",
    "large": "larger than agreed",
    "foreign": "not a slot's to report",
    "broken": "cannot be used",
}


def test_what_a_slot_may_not_send_fails_the_trial_and_touches_nothing(tmp_path: Path) -> None:
    """Names, sizes, kinds of events and types are checked here, whatever the host did."""
    (tmp_path / "train.py").write_text("ours")
    recorded, reasons = list[Event](), dict[str, str]()
    with cluster(*BAD) as made:
        one = runner(made, tmp_path, recorded, [])
        for word in BAD:
            one.ready()
            with pytest.raises(SandboxError) as raised:
                one.run(CANDIDATE, Plan.draw(), experiment_id=1, folder=tmp_path, best=None)
            reasons[word] = str(raised.value)

    assert {} == {word: reason for word, reason in reasons.items() if BAD[word] not in reason}
    assert "ours" == (tmp_path / "train.py").read_text()
    assert {"container.started"} == {event.kind for event in recorded}


def test_a_refused_head_is_one_line(tmp_path: Path) -> None:
    """What only a person can mend ends the start."""
    with pytest.raises(ConfigError, match=r"^the token is another one: copy it$"), cluster("refuses"):
        pass


def test_a_wait_for_a_slot_ends_with_the_cluster(tmp_path: Path) -> None:
    """Nobody waits for what will not come."""
    failures = list[BaseException]()
    with cluster("fine") as made:
        one = runner(made, tmp_path, [], [])

    def wait() -> None:
        try:
            one.ready()
        except SandboxError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(10)

    assert ["the session ends"] == [str(failure) for failure in failures]


def test_a_session_counts_a_lost_trial_as_infra_and_runs_it_again(tmp_path: Path) -> None:
    """None is lost and none is counted twice."""
    config = sessions.task(tmp_path, experiments=2)
    with cluster("fine", "lost", "fine", "fine") as made, Journal.open(config.run_path) as journal:
        one = runner(made, tmp_path, [], [])
        one.record = journal.append
        one.ready()
        session = sessions.open_session(config, fakes.ScriptedProposer(["0.03", "0.04"]), one, journal=journal)
        run_session(session)

    assert [
        (0, Status.KEEP.value), (1, Status.INFRA.value), (2, Status.DISCARD.value), (3, Status.DISCARD.value),
    ] == sessions.statuses(config)  # fmt: skip
