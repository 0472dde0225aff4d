"""Calibration: what honest runs differ by becomes what later scores on the same hardware may differ by."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.config import Config
from orchestrator.devices.contention import ContentionMonitor, Ours, Then
from orchestrator.devices.lease import Lease
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.execution.slot import Slot
from orchestrator.scoring import thresholds
from orchestrator.scoring.thresholds import LEAST_FLOOR, Measured
from orchestrator.trust import calibrate
from orchestrator.types import Status, Trial
from tests.devices.test_lease import four_cores
from tests.support import fakes
from tests.support.sessions import task

MEASURED = Measured(
    audit_cap=0.3, audit_floor=0.001, worst=0.15, worst_mean=0.0005, runs=3, positions=6144,
    image_id="sha256:fake", measured_at="2026-11-01T00:00:00+00:00",
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A task directory, its train.py committed."""
    made = task(tmp_path)
    commit(tmp_path)
    return made


def commit(folder: Path) -> None:
    """As a human does it."""
    who = ["-c", "user.name=alice", "-c", "user.email=alice@localhost"]
    subprocess.run(["git", "-C", str(folder), "add", "mutable"], check=True)
    subprocess.run(["git", "-C", str(folder), *who, "commit", "-qm", "mine"], check=True)


def differing(worst: float, mean: float) -> Trial:
    """An honest run whose claims were off by that."""
    trial = fakes.scored(2.0, k=100)
    assert trial.score is not None
    return replace(trial, score=replace(trial.score, max_difference=worst, mean_difference=mean))


def slot(tmp_path: Path, trials: Iterator[Trial], busy: Callable[[], str] = str) -> Slot:
    """A slot whose runs end as given."""

    def watch(leased: Lease, ours: Ours, then: Then) -> ContentionMonitor:
        return ContentionMonitor(busy, interval_s=60, then=then)

    runner = fakes.ArithmeticRunner(lambda _: next(trials))
    policy = four_cores(tmp_path / "machine")
    return Slot(policy=policy, wait_s=1, make=lambda _: runner, on_wait=lambda _: None, watch=watch, back_off_s=0.001)


def test_until_something_was_measured_the_task_decides(config: Config) -> None:
    """The numbers of task.toml, and that they are its."""
    found = thresholds.load(config, "some cpu")

    assert (config.active_profile.audit_cap, config.active_profile.audit_floor) == (found.audit_cap, found.audit_floor)
    assert "task.toml" == found.origin


def test_a_measurement_holds_for_its_own_hardware_only(config: Config) -> None:
    """Another class of hardware, or profile, keeps the numbers of task.toml."""
    thresholds.save(config, "some cpu", MEASURED)
    thresholds.save(config, "another", MEASURED.model_copy(update={"audit_cap": 0.7}))

    assert 0.3 == thresholds.load(config, "some cpu").audit_cap
    assert 0.7 == thresholds.load(config, "another").audit_cap
    assert "calibrated 2026-11-01T00:00:00+00:00" == thresholds.load(config, "some cpu").origin
    assert "task.toml" == thresholds.load(config, "a third").origin
    other = config.model_copy(update={"profile_name": "gpu"})
    assert "task.toml" == thresholds.load(other, "some cpu").origin


def test_a_measurement_with_its_earlier_names_is_used(config: Config) -> None:
    """They were once of one task's unit; what is saved beside it keeps it, with the names of today."""
    path = thresholds.path_of(config)
    path.parent.mkdir()
    path.write_text(
        '{"cpu: some cpu": {"cap_nats": 0.3, "floor_nats": 0.001, "worst_nats": 0.15, "worst_mean_nats": 0.0005,'
        ' "runs": 3, "positions": 6144, "image_id": "sha256:fake", "measured_at": "2026-11-01T00:00:00+00:00"}}'
    )
    before = thresholds.load(config, "some cpu")
    thresholds.save(config, "another", MEASURED)

    assert (0.3, 0.001) == (before.audit_cap, before.audit_floor)
    assert before == thresholds.load(config, "some cpu")
    assert "nats" not in path.read_text()


@pytest.mark.parametrize("text", ["", "[1]", '{"cpu: x": {"audit_cap": -1}}', '{"cpu: x": {"speed": 1}}', "\0"])
def test_a_file_that_is_none_of_ours_is_named(config: Config, text: str) -> None:
    """Never a silent fall-back to other numbers."""
    path = thresholds.path_of(config)
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"thresholds\.json: cannot be used"):
        thresholds.load(config, "x")


def test_the_worst_of_all_honest_runs_counts_with_a_margin(config: Config, tmp_path: Path) -> None:
    """Twice the largest single difference and twice the largest mean, either sign; a failed run says nothing."""
    trials = iter([differing(0.002, 1e-4), fakes.broken(Status.CRASH), differing(0.005, -3e-4)])
    told: list[str] = []
    with slot(tmp_path, trials) as leased:
        models = calibrate.models(config, 3, ())
        found = calibrate.run(
            leased, models, tmp_path / "runs", lambda one: told.append(calibrate.line(one, "val_bpb"))
        )
        measured = calibrate.summary(found, config, "sha256:fake")

    assert (0.01, 6e-4) == pytest.approx((measured.audit_cap, measured.audit_floor))
    assert (2, 200) == (measured.runs, measured.positions)
    assert "no score: crash" in told[1]


@pytest.mark.parametrize("missing", ["max_difference", "mean_difference"])
def test_a_scorer_that_does_not_say_by_how_much_calibrates_nothing(
    config: Config, tmp_path: Path, missing: str
) -> None:
    """What is missing is not taken for no difference at all; the file and the fields are named."""
    silent = differing(0.002, 1e-4)
    assert silent.score is not None
    trials = iter([differing(0.002, 1e-4), replace(silent, score=replace(silent.score, **{missing: None}))])
    told: list[str] = []
    with slot(tmp_path, trials) as leased:
        models = calibrate.models(config, 2, ())
        found = calibrate.run(
            leased, models, tmp_path / "runs", lambda one: told.append(calibrate.line(one, "val_bpb"))
        )
    with pytest.raises(ConfigError, match=r"score\.py: its score messages need mean_difference and max_difference"):
        calibrate.summary(found, config, "sha256:fake")

    assert told[1].endswith("K 100")


@pytest.mark.parametrize(("profile", "cap"), [("cpu", 0.005), ("gpu", 0.05)])
def test_hardware_that_differs_by_nothing_still_leaves_a_margin(config: Config, profile: str, cap: float) -> None:
    """An honest model of another kind is not refused for one rounding, of which a GPU has larger ones."""
    there = config.model_copy(update={"profile_name": profile})

    assert (cap, LEAST_FLOOR) == thresholds.propose_thresholds(0.0, 0.0, there)


@pytest.mark.parametrize(("worst", "mean", "name"), [(3.0, 0.0, "audit_cap"), (0.0, 0.1, "audit_floor")])
def test_a_model_that_leaks_sets_no_threshold(config: Config, worst: float, mean: float, name: str) -> None:
    """What it differs by would let every later lie pass; the message says what to do where it is honest."""
    model = calibrate.Model(name="leaky", source="")
    found = [calibrate.Measurement(model=model, score=differing(worst, mean).score)]

    with pytest.raises(ConfigError, match=f"task.toml.*{name}.*more than 4 times.*nothing was kept"):
        calibrate.summary(found, config, "sha256:fake")


def test_what_the_loop_put_in_place_calibrates_nothing(config: Config) -> None:
    """The file of the human's own last commit is measured, and nothing where there is none."""
    committed = config.mutable_path.read_text()
    config.mutable_path.write_text("kept by a loop")

    assert [committed] == [model.source for model in calibrate.models(config, 1, ())]
    subprocess.run(["git", "-C", str(config.root), "update-ref", "-d", "HEAD"], check=True)
    with pytest.raises(ConfigError, match=r"train\.py is not committed"):
        calibrate.models(config, 1, ())


def test_nothing_scored_is_nothing_measured(config: Config, tmp_path: Path) -> None:
    """An error, not thresholds of zero."""
    with slot(tmp_path, iter([fakes.broken(Status.OOM)])) as leased:
        found = calibrate.run(leased, calibrate.models(config, 1, ()), tmp_path / "runs", lambda _: None)

    with pytest.raises(ConfigError, match="none of the honest models was scored"):
        calibrate.summary(found, config, "sha256:fake")


def test_a_shared_device_measures_nothing(config: Config, tmp_path: Path) -> None:
    """Three tries, then an error that says who was there."""
    trials = iter([differing(0.02, 0.0)] * 9)
    with slot(tmp_path, trials, lambda: "alice's job") as leased, pytest.raises(SandboxError, match="alice's job"):
        calibrate.run(leased, calibrate.models(config, 1, ()), tmp_path / "runs", lambda _: None)

    assert 6 == len(list(trials))


def test_models_of_other_kinds_come_along_on_the_profile_they_are_made_for(config: Config, tmp_path: Path) -> None:
    """The controls beside a task, on cpu, and any file that is named."""
    (tmp_path / "reference_models").mkdir()
    (tmp_path / "reference_models" / "base.py").write_text("BASE = 1")
    (tmp_path / "reference_models" / "01_small.py").write_text("SMALL = 1")
    own = tmp_path / "own.py"
    own.write_text("OWN = 1")
    on_gpu = config.model_copy(update={"profile_name": "gpu"})

    found = calibrate.models(config, 2, [own])

    assert ["train.py, seed 1", "train.py, seed 2", "01_small", "own.py"] == [model.name for model in found]
    assert found[2].source.startswith("BASE = 1\n\nSMALL = 1")
    assert ["train.py, seed 1", "own.py"] == [model.name for model in calibrate.models(on_gpu, 1, [own])]
    with pytest.raises(ConfigError, match=r"missing\.py: cannot be read"):
        calibrate.models(config, 1, [tmp_path / "missing.py"])
