"""What the host saw of its machine during each trial is in the record, beside the trial's score."""

from dataclasses import replace
from pathlib import Path

from orchestrator.config import load
from orchestrator.events import EARLIER_NAMES, ConfirmationFailed, ExperimentFinished, body_of, parse_event
from orchestrator.experiments import loads_of
from orchestrator.loop import run_session
from orchestrator.record.index import NAME
from orchestrator.record.journal import Journal
from orchestrator.types import Environment, Level, MachineLoad, Score, Status, Trial
from tests.support import fakes, sessions
from tests.support.journals import kept

BUSY, QUIET = MachineLoad(waited_s=6.6, cpu_s=30.0), MachineLoad(waited_s=1.2, cpu_s=37.0)


def test_each_trial_of_an_experiment_has_its_load(tmp_path: Path) -> None:
    """One for each score, in order, also from an index that is built anew."""
    sessions.task(tmp_path)
    flags = {"tag": "t", "runs": tmp_path / "runs", "limits.experiments": 1}
    config = load(tmp_path, flags)
    trials = iter([fakes.scored(2.3), fakes.scored(2.0, k=10, load=BUSY), fakes.scored(2.1, load=QUIET)])
    session, _, _ = sessions.session(config, lambda _: next(trials), ["0.03"])
    with session.journal:
        run_session(session)
    (config.run_path / NAME).unlink()
    with Journal.read(config.run_path) as journal:
        baseline, first = journal.experiment(0), journal.experiment(1)

    assert (2.0, 2.1) == first.scores
    assert (BUSY, QUIET) == first.loads
    assert (None,) == baseline.loads


def test_a_trial_without_a_score_leaves_no_load() -> None:
    """Where only one of two trials counts, its load is the experiment's."""
    first, second = fakes.scored(2.0, load=BUSY), fakes.scored(2.1, load=QUIET)
    both = (*first.executions, *second.executions)

    assert (BUSY,) == loads_of([first], replace(first, executions=both))
    assert (QUIET,) == loads_of([first], replace(second, executions=both))
    assert () == loads_of([first], replace(second, executions=both, score=None))
    assert () == loads_of([], Trial.infra("the engine is gone"))


def test_a_record_from_before_has_no_loads() -> None:
    """It reads as ever."""
    run = Path(__file__).parent / "format1" / "scripted"

    with Journal.read(run) as journal:
        old = journal.events(ExperimentFinished)[0].event
    body = body_of(old)
    del body["experiment"]["loads"]
    for execution in body["executions"]:
        del execution["load"]

    assert () == old.experiment.loads
    assert old == parse_event(ExperimentFinished.kind, old.experiment_id, body)


def test_shares_are_of_what_was_wanted_and_of_what_was_leased() -> None:
    """None where a part is not known, or nothing was wanted."""
    assert 0.25 == MachineLoad(waited_s=2.5, cpu_s=7.5).wait_share
    assert MachineLoad(waited_s=2.5).wait_share is None
    assert MachineLoad(waited_s=0.0, cpu_s=0.0).wait_share is None
    assert 0.125 == MachineLoad(others_cpu_s=6.0, cpus=2, duration_s=24.0).others_share
    assert MachineLoad(others_cpu_s=6.0, duration_s=24.0).others_share is None


def test_a_score_with_its_earlier_names_is_read() -> None:
    """They were once of one task: its tokens, and its unit."""
    score = Score(
        value=2.0, level=Level.L2, standard_error=0.0, audited_positions=9, undetectable=0.25, total_positions=512,
        mean_difference=0.125, max_difference=0.5,
    )  # fmt: skip
    earlier = {new: old for old, new in EARLIER_NAMES.items()}
    event = ExperimentFinished(experiment=kept(2.0, score=score), executions=())
    again = ConfirmationFailed(
        experiment_id=1, failure=Status.CRASH, message="", scores=(score,), folder="", files={},
        environment=Environment(),
    )  # fmt: skip
    body, other = body_of(event), body_of(again)
    old = {earlier.get(key, key): value for key, value in body["experiment"]["score"].items()}
    found = parse_event(event.kind, event.experiment_id, {**body, "experiment": {**body["experiment"], "score": old}})
    confirmed = parse_event(again.kind, 1, {**other, "scores": [old]})

    assert {"tokens", "undetectable_bpb", "mean_difference_nats", "max_difference_nats"} <= set(old)
    assert isinstance(found, ExperimentFinished)
    assert isinstance(confirmed, ConfirmationFailed)
    assert score == found.experiment.score == confirmed.scores[0]


def test_an_environment_with_its_earlier_names_is_read() -> None:
    """Its tolerances were once in one task's unit; its conditions are those of today."""
    environment = Environment(hardware="cpu", audit_cap="0.01", audit_floor="0.0002", settings={"cpus": "2"})
    event = ConfirmationFailed(
        experiment_id=1, failure=Status.CRASH, message="", scores=(), folder="", files={}, environment=environment
    )
    body = body_of(event)
    earlier = {new: old for old, new in EARLIER_NAMES.items()}
    old = {earlier.get(key, key): value for key, value in body["environment"].items()}
    found = parse_event(event.kind, 1, {**body, "environment": old})

    assert {"cap_nats", "floor_nats"} <= set(old)
    assert event == found
    assert isinstance(found, ConfirmationFailed)
    assert environment.conditions == found.environment.conditions
