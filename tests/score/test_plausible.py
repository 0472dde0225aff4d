"""Doubts about a would-be best, and how they are settled."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.scoring import plausible
from orchestrator.types import Experiment, Level, Role, Score, Status, Trial, Usage
from tests.support import fakes

BUDGET_S = 25.0


def experiment(number: int, value: float | None, status: Status = Status.KEEP) -> Experiment:
    """One of the history."""
    score = None if value is None else Score(value=value, level=Level.L2)
    return Experiment(
        id=number, parent_id=None, status=status, reason="", hypothesis="", expected_effect="", proposer="", model="",
        score=score, message="", source_sha256="", started_at="", duration_s=1.0, train_s=1.0, usage=Usage(), attempt=1,
        folder=Path(),
    )  # fmt: skip


def trial(value: float, **trainer: object) -> Trial:
    """A scored trial whose trainer did what a training does, or did not."""
    usual = {"duration_s": 24.0, "cpu_s": 40.0}
    execution = fakes.execution(Role.TRAINER, **(usual | trainer))
    score = Score(value=value, level=Level.L2)
    return Trial(executions=(execution,), score=score, failure=None, message="")


STEADY = [experiment(n, v) for n, v in enumerate((2.40, 2.37, 2.36, 2.33))]
BEST = STEADY[-1]


@pytest.mark.parametrize("value", [2.329, 2.30, 2.25])
def test_a_gain_like_those_before_is_believed(value: float) -> None:
    """Up to four times the usual gain."""
    assert "" == plausible.doubt(trial(value), BEST, STEADY, time_budget_s=BUDGET_S)


@pytest.mark.parametrize("value", [2.15, 1.0, 0.02])
def test_a_jump_far_beyond_the_history_is_doubted(value: float) -> None:
    """The reason names the gain and what is usual."""
    assert "far beyond" in plausible.doubt(trial(value), BEST, STEADY, time_budget_s=BUDGET_S)


def test_without_a_history_only_a_huge_jump_is_doubted() -> None:
    """The first steps from a careless baseline are large."""
    first = [experiment(0, 2.40)]

    assert "" == plausible.doubt(trial(2.20), first[0], first, time_budget_s=BUDGET_S)
    assert plausible.doubt(trial(1.90), first[0], first, time_budget_s=BUDGET_S)


def test_discarded_and_failed_experiments_are_no_measure() -> None:
    """What is usual comes from kept ones only."""
    more = [*STEADY, experiment(9, 9.0, Status.DISCARD), experiment(10, None, Status.CRASH)]

    assert plausible.usual_gain(STEADY) == plausible.usual_gain(more) > 0


def test_a_score_without_a_training_is_doubted() -> None:
    """A trainer that ended at once, or used no processor, did not train what was scored."""
    assert "took 0.9 s" in plausible.doubt(trial(2.32, duration_s=0.9), BEST, STEADY, time_budget_s=BUDGET_S)
    assert "processor" in plausible.doubt(trial(2.32, cpu_s=0.1), BEST, STEADY, time_budget_s=BUDGET_S)
    assert "" == plausible.doubt(trial(2.32, cpu_s=None), BEST, STEADY, time_budget_s=BUDGET_S)


@pytest.mark.parametrize(("used", "doubted"), [(False, True), (True, False), (None, False)])
def test_a_training_without_its_gpu_is_doubted(used: bool | None, doubted: bool) -> None:
    """Where a GPU was given and seen to be idle; nobody looks for one on a cpu."""
    found = plausible.doubt(replace(trial(2.32), gpu_used=used), BEST, STEADY, time_budget_s=BUDGET_S)

    assert doubted is ("never used the GPU" in found)


def test_a_doubt_is_settled_by_another_seed() -> None:
    """Kept if the second training is below the best too, discarded if not; a refusal is a refusal."""
    first = trial(1.0)

    assert Status.KEEP is plausible.settled("why", first, trial(1.1), BEST).status
    assert Status.DISCARD is plausible.settled("why", first, trial(2.33), BEST).status
    assert Status.DISCARD is plausible.settled("why", first, trial(2.5), BEST).status
    assert Status.CHEAT is plausible.settled("why", first, fakes.broken(Status.CHEAT), BEST).status
    assert Status.CRASH is plausible.settled("why", first, fakes.broken(Status.CRASH), BEST).status


def test_our_own_failure_is_not_blamed_on_it() -> None:
    """An engine that died while it was trained again has it queued again."""
    assert Status.INFRA is plausible.settled("why", trial(1.0), fakes.broken(Status.INFRA), BEST).status
