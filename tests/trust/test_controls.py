"""The controls of a task: what each of them shows to be wrong with it."""

from pathlib import Path

import pytest

from orchestrator.config import Config, load
from orchestrator.trust.controls import FORGED, Control, Outcome, find_problem, list_controls
from orchestrator.types import Status, Trial
from tests.support import fakes

ROOT = Path(__file__).parents[2]
BASELINE = Control(name="baseline", source="", must_score=True)
BROKEN, FORGING = (Control(name=name, source="") for name in ("broken", "forging-frames"))


def config(folder: Path) -> Config:
    """The settings of a task in the repository."""
    return load(ROOT / folder, {"tag": "t", "runs": ROOT / "build" / "none"})


def problem(control: Control, trial: Trial, earlier: tuple[Trial, ...] = (), folder: str = ".") -> str:
    """What a control that ended so shows, after those of the baseline."""
    before = [Outcome(control=BASELINE, trial=one, problem="") for one in earlier]
    return find_problem(control, trial, before, config(Path(folder)))


@pytest.mark.parametrize(
    ("control", "trial"),
    [
        (BASELINE, fakes.scored(2.5)),
        (BROKEN, fakes.broken(Status.CRASH)),
        (FORGING, fakes.broken(Status.CHEAT)),
        (FORGING, fakes.broken(Status.TIMEOUT)),
    ],
)
def test_controls_that_end_as_they_must_show_nothing(control: Control, trial: Trial) -> None:
    """A baseline with a score, others without."""
    assert "" == problem(control, trial)


@pytest.mark.parametrize(
    ("control", "trial", "expected"),
    [
        (BASELINE, fakes.broken(Status.CRASH, "no such name"), "the baseline has no score: crash: no such name"),
        (BROKEN, fakes.scored(2.5), "a broken file has a score, 2.5: locked/score.py must send `failed` or `refused`"),
        (FORGING, fakes.scored(FORGED), "it forged its score: 0.123456789"),
        (FORGING, fakes.scored(2.5), "it forged its score: 2.5"),
        (BROKEN, fakes.broken(Status.INFRA, "exit code 1"), "the scorer itself failed: exit code 1"),
    ],
)
def test_what_is_wrong_with_a_task_is_said_in_one_line(control: Control, trial: Trial, expected: str) -> None:
    """With what its scorer must do."""
    assert problem(control, trial).startswith(expected)


def test_a_text_may_look_like_a_score_and_have_its_own() -> None:
    """But not the one that it names."""
    assert "" == problem(FORGING, fakes.scored(50.0), folder="examples/drift")
    assert problem(FORGING, fakes.scored(FORGED), folder="examples/drift")


def test_a_metric_that_is_said_to_have_no_noise_is_measured_twice() -> None:
    """And must be the same both times."""
    names = [one.name for one in list_controls(config(Path("examples/drift")))]

    assert ["baseline", "baseline", "broken", "forging"] == names
    assert "" == problem(BASELINE, fakes.scored(70.0), (fakes.scored(70.0),), "examples/drift")
    assert 'noise = "none", but 70.0 became 70.5: say noise = "measured"' == problem(
        BASELINE, fakes.scored(70.5), (fakes.scored(70.0),), "examples/drift"
    )


def test_a_task_may_bring_its_own_controls(tmp_path: Path) -> None:
    """In place of ours of that kind."""
    task = config(Path("examples/kernel"))
    task = task.model_copy(update={"root": tmp_path, "task": task.task.model_copy(update={"mutable": Path("k.py")})})
    (tmp_path / "controls").mkdir()
    (tmp_path / "k.py").write_text("right = 1\n")
    for name in ("forging-files", "forging-frames"):
        (tmp_path / "controls" / f"{name}.py").write_text(f"# {name}\n")

    assert ["baseline", "broken", "forging-files", "forging-frames"] == [one.name for one in list_controls(task)]
