"""A training that is lost is ended early: by its own words, or because it does nothing; no other one is."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execution.early_end import TrainingWatch, read_losses
from orchestrator.types import ExecutionResult, Role, Status
from tests.score.test_failure import driver
from tests.support import fakes

BUDGET_S = 300.0


def watch(*, sees_idle: bool = True) -> TrainingWatch:
    """Return the watch of a training of five minutes."""
    return TrainingWatch(time_budget_s=BUDGET_S, sees_idle=sees_idle)


def heard(*lines: str, every_s: float = 10.0) -> list[str]:
    """Return what is said after each line."""
    one = watch()
    return [one.hear(line, number * every_s) for number, line in enumerate(lines)]


@pytest.mark.parametrize(
    "line",
    [
        "step 120 | loss nan | 31,000 tok/s | 3.1s left",
        "step 00120 (4.0%) | loss: NaN | lrm: 1.00",
        "iter 5: loss -inf, time 20ms",
        "train_loss=inf",
        '{"step": 3, "loss": NaN, "lr": 0.1}',
        "{'loss': nan}",
        "loss tensor(nan, grad_fn=<MeanBackward0>)",
        "Loss = Infinity",
    ],
)
def test_losses_that_are_no_numbers_end_a_training(line: str) -> None:
    """Three in a row, over a tenth of its time, in the forms in which scripts print them."""
    first, second, third, fourth = heard(line, line, line, line, every_s=10.0)

    assert ["", "", ""] == [first, second, third]
    assert "its last 4 printed losses, over 30 s, were NaN or infinite" == fourth


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("step 1 | loss 3.41 | 1 tok/s", [3.41]),
        ("loss: -1.5e-3", [-0.0015]),
        ("loss .5", [0.5]),
        ("losses are nannies", []),
        ("glossary nan", []),
        ("loss function: nanmean", []),
        ("loss information", []),
        ("grad norm nan", []),
        ("x" * 10_000 + " loss nan", []),
    ],
)
def test_only_a_loss_is_read_as_one(line: str, expected: list[float]) -> None:
    """Other words that contain it, and other numbers, are not."""
    assert expected == read_losses(line)


def test_a_loss_that_recovers_ends_nothing() -> None:
    """One number among them, in the same line too, and the count starts again; so many in an instant are not enough."""
    lost = "loss nan"

    assert not any(heard(*[lost, lost, "loss 3.2"] * 50))
    assert not any(heard(*["aux loss nan, loss 3.2"] * 50))
    assert not any(heard(*[lost] * 1000, every_s=0.001))
    assert not any(heard(lost, lost, every_s=100.0))


@given(st.lists(st.text(max_size=60), max_size=30))
def test_a_script_that_prints_no_losses_is_never_ended_by_its_words(lines: list[str]) -> None:
    """Whatever it prints instead, and when."""
    assert not any(heard(*(line for line in lines if "loss" not in line.lower()), every_s=100.0))


def test_a_training_that_does_nothing_is_ended() -> None:
    """A minute without output and without processor time, a fifth of the budget if that is longer."""
    one = watch()
    said = [one.look(2.0 + 0.0001 * second, float(second)) for second in range(62)]

    assert not any(said[:60])
    assert "it printed nothing and used no processor for 60 s" == said[60]


def test_a_silent_training_that_works_is_never_ended() -> None:
    """Nor one that prints, nor where the host does not tell, nor where a GPU does the work."""
    working, printing, unknown, gpu = watch(), watch(), watch(), watch(sees_idle=False)
    for second in range(300):
        printing.hear("still here", float(second)) if second % 50 == 0 else None

        assert "" == working.look(0.02 * second, float(second))
        assert "" == printing.look(1.0, float(second))
        assert "" == unknown.look(None, float(second))
        assert "" == gpu.look(1.0, float(second))


class Trainer:
    """A trainer that runs until it is killed."""

    spec = SimpleNamespace(role=Role.TRAINER)
    cpu_s = None

    def __init__(self) -> None:
        """Run."""
        self.killed_by: str | None = None

    def alive(self) -> bool:
        """Return whether it was not killed."""
        return self.killed_by is None

    def kill(self, reason: str) -> None:
        """Remember why."""
        self.killed_by = reason

    def wait(self) -> ExecutionResult:
        """Return how it ended."""
        return fakes.execution(exit_code=None, killed_by=self.killed_by, log_tail="step 9 | loss nan")


def test_a_lost_training_is_a_crash_with_its_own_last_words() -> None:
    """Nothing is scored; what to look for is said to the LLM."""
    turn, trainer = driver(), Trainer()
    turn.box.running.append(cast("Any", trainer))
    turn.watch.time_budget_s = 0.0
    for _ in range(3):
        turn.heard(Role.TRAINER, "step 9 | loss nan")
    trial = turn.untrained(Status.CRASH, trainer.wait())

    assert (Status.CRASH, None) == (trial.failure, trial.score)
    assert trial.message.startswith(
        "train.py was ended early: its last 3 printed losses, over 0 s, were NaN or infinite. Look for a learning rate"
    )
    assert trial.message.endswith("step 9 | loss nan")


def test_only_a_trainer_is_ended_by_its_words() -> None:
    """What predictors and scorer print is no loss."""
    turn, trainer = driver(), Trainer()
    turn.box.running.append(cast("Any", trainer))
    turn.watch.time_budget_s = 0.0
    for role in (Role.PREDICTOR_A, Role.SCORER) * 3:
        turn.heard(role, "step 9 | loss nan")

    assert trainer.alive()


def test_a_refused_answer_of_a_training_that_diverged_is_explained_by_its_own_words() -> None:
    """As a hint only: what it printed changes no verdict."""
    messages = []
    for loss in ("nan", "3.2"):
        turn = driver()
        turn.heard(Role.TRAINER, f"step 9 | loss {loss}")
        turn.heard(Role.SCORER, '{"event": "refused", "reason": "a claim is not a finite number", "detail": ""}')
        second = cast("Any", SimpleNamespace(wait=lambda: fakes.execution(Role.PREDICTOR_B), kill=lambda _: None))
        trial = turn.judge(fakes.execution(Role.SCORER, exit_code=3), second)
        messages.append((trial.failure, trial.message))

    refused = "the scorer refused it: a claim is not a finite number"
    hint = "; hint: the last loss that the training itself printed was NaN or infinite"
    assert [(Status.CHEAT, refused + hint), (Status.CHEAT, refused)] == messages
