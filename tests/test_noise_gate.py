"""Noise in the real loop: trials with other seeds, the champion measured again, and what a cheat takes with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import loop, policy
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError
from orchestrator.events import ChampionReplaced, ConfirmationFailed, ExperimentBegun, TrialRepeated
from orchestrator.experiments import begin_experiment
from orchestrator.lifecycle import load_offset
from orchestrator.loop import run_session
from orchestrator.policy import Decision
from orchestrator.record.journal import Journal
from orchestrator.record.verify import find_damage
from orchestrator.types import Environment, Status, Trial
from tests.support import fakes, sessions


def gated(tmp_path: Path, experiments: int, **flags: object) -> Config:
    """Return a task with the gate as it is shipped, but for flags."""
    sessions.task(tmp_path)
    shipped = {"noise.baseline_runs": 3, "limits.experiments": experiments}
    return load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", **shipped, **flags})


def scripted(values: dict[float, list[float]]) -> Callable[[str], Trial]:
    """Return a score for each trial of a learning rate, one after the other."""
    left = {rate: iter(scores) for rate, scores in values.items()}
    return lambda source: fakes.scored(next(left[fakes.rate_of(source)]))


def ran(config: Config, score: Callable[[str], Trial], rates: list[str]) -> fakes.ArithmeticRunner:
    """Run one session and return its runner."""
    session, _, runner = sessions.session(config, score, rates)
    with session.journal:
        run_session(session)
    return runner


def test_the_baseline_of_a_session_has_three_trials(tmp_path: Path) -> None:
    """One experiment on record, its score the mean, each trial's seeds in the record, each in its own folder."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0, 2.1, 2.2], 0.03: [3.0]}), ["0.03"])
    with Journal.read(config.run_path) as journal:
        baseline = journal.experiment(0)
        again = [r.event for r in journal.events(TrialRepeated, 0)]
        counted = journal.spent().experiments

    assert 2.1 == pytest.approx(baseline.value)
    assert (2.0, 2.1, 2.2) == baseline.repeat_scores
    assert [2, 3] == [event.trial for event in again]
    assert [(3, 2.0), (3, 2.05)] == [(event.at_most, event.mean_so_far) for event in again]
    assert 3 == len({event.seeds.train_seed for event in again} | {0})
    assert all((config.run_path / "0000" / f"trial-{n}").is_dir() for n in (2, 3))
    assert 1 == counted


def test_gains_inside_the_noise_run_again_and_must_hold(tmp_path: Path) -> None:
    """A lucky one is discarded, a real one kept at its mean, a large one kept at once, a worse one never runs again."""
    config = gated(tmp_path, 4, **{"noise.remeasure_every": 0})
    scores = {
        0.02: [2.0, 2.1, 1.9],
        0.03: [1.95, 2.05],
        0.04: [1.9, 1.85, 1.95],
        0.05: [1.65],
        0.06: [1.7],
    }
    runner = ran(config, scripted(scores), ["0.03", "0.04", "0.05", "0.06"])
    with Journal.read(config.run_path) as journal:
        found = [(e.status.value, round(e.value or 0, 6)) for e in journal.experiments()]

    assert [("keep", 2.0), ("discard", 2.0), ("keep", 1.9), ("keep", 1.65), ("discard", 1.7)] == found
    assert 3 + 2 + 3 + 1 + 1 == len(runner.ran)
    again = [None, None]
    assert [None, *again, 2.0, None, 2.0, *again, 1.9, 1.65] == [below and round(below, 6) for below in runner.below]


def test_the_champion_is_measured_again_and_the_record_says_when_it_did_not_hold(tmp_path: Path) -> None:
    """A champion that was luck is not a parent any more: the one before it is back, in place too."""
    config = gated(tmp_path, 4, **{"noise.remeasure_every": 2})
    scores = {0.02: [2.0, 2.01, 1.99, 2.02], 0.03: [1.8, 3.0], 0.8: [4.0], 0.9: [4.0], 0.7: [4.0]}
    runner = ran(config, scripted(scores), ["0.03", "0.8", "0.9", "0.7"])
    with Journal.read(config.run_path) as journal:
        best, again = journal.champion(), journal.experiment(4)
        replaced = [(r.event.experiment_id, r.event.champion_id) for r in journal.events(ChampionReplaced)]

    assert 0 == getattr(best, "id", None)
    assert (1, Status.DISCARD) == (again.remeasures_id, again.status)
    assert "did not hold" in again.reason
    assert [(1, 0)] == replaced
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())
    assert [None] == [below for source, below in zip(runner.ran, runner.below, strict=True) if "0.03" in source][1:]


def test_a_champion_that_is_caught_cheating_later_is_not_kept_any_more(tmp_path: Path) -> None:
    """It is a cheat in every view, and so are its descendants discarded; the record stays intact."""
    config = gated(tmp_path, 4, **{"noise.remeasure_every": 2, "noise.baseline_runs": 1})
    runs = {0.02: [2.0, 2.0], 0.03: [1.8], 0.8: [4.0], 0.9: [4.0], 0.04: [1.7], 0.7: [4.0]}
    score = scripted(runs)
    later = {0.03: fakes.broken(Status.CHEAT, "the scorer refused it")}

    def run(source: str) -> Trial:
        rate = fakes.rate_of(source)
        try:
            return score(source)
        except StopIteration:
            return later[rate]

    ran(config, run, ["0.03", "0.8", "0.9", "0.7"])
    with Journal.read(config.run_path) as journal:
        best, fell, again = journal.champion(), journal.experiment(1), journal.experiment(4)
        replaced = [(r.event.experiment_id, r.event.champion_id) for r in journal.events(ChampionReplaced)]

    assert 0 == getattr(best, "id", None)
    assert (1, Status.CHEAT) == (again.remeasures_id, again.status)
    assert (Status.CHEAT, 1.8) == (fell.status, fell.value)
    assert "it cheated when it was measured again, in experiment 4" in fell.reason
    assert [(1, 0)] == replaced
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())
    assert [] == list(find_damage(config.run_path))


def caught_on_holdout(journal: Journal, experiment_id: int) -> ConfirmationFailed:
    """Return what is recorded when a kept experiment cheats on the holdout."""
    return ConfirmationFailed(
        experiment_id=experiment_id, failure=Status.CHEAT, message="refused", scores=(), folder="", files={},
        environment=Environment(), revisions=policy.invalidate(experiment_id, journal.kept(), "on the holdout"),
    )  # fmt: skip


def test_what_descends_from_a_cheat_is_never_kept(tmp_path: Path) -> None:
    """Neither what was kept before, nor what ends later with a better score."""
    config = gated(tmp_path, 2, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.03: [1.8], 0.04: [1.6]}), ["0.03", "0.04"])
    session, _, _ = sessions.session(config, scripted({0.05: [1.5]}), ["0.05"])
    with session.journal as journal:
        best = journal.champion()
        candidate = loop.choose_next(session, best, (), load_offset(journal))
        active = begin_experiment(journal, candidate, session.runners[0], best)
        journal.append(caught_on_holdout(journal, 1))
        step = policy.next_step(active.attempt_with(fakes.scored(1.5)), journal.history(), session.rules)
        now = [(e.id, e.status) for e in journal.experiments()]
        kept_ids = [e.id for e in journal.history().kept]

    assert [(0, Status.KEEP), (1, Status.CHEAT), (2, Status.DISCARD)] == now
    assert [0] == kept_ids
    assert isinstance(step, Decision)
    assert Status.DISCARD is step.verdict.status
    assert "its parent, experiment 2, has since been invalidated" in step.verdict.reason
    assert "descends from experiment 1, which cheated on the holdout" in step.verdict.reason


def test_a_run_whose_baseline_cheated_is_over(tmp_path: Path) -> None:
    """train.py may descend from it, so it cannot be a new baseline."""
    config = gated(tmp_path, 1, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.03: [1.8]}), ["0.03"])
    session, _, _ = sessions.session(config, scripted({}), ["0.05"])
    session.journal.append(caught_on_holdout(session.journal, 0))
    with session.journal, pytest.raises(ConfigError, match=r"every kept experiment was invalidated.*--run NAME"):
        run_session(session)


def test_a_champion_that_holds_stays_with_all_its_trials(tmp_path: Path) -> None:
    """Its score is the mean over all of them."""
    config = gated(tmp_path, 3, **{"noise.remeasure_every": 2})
    ran(config, scripted({0.02: [2.0, 2.1, 2.2, 2.1], 0.8: [4.0], 0.9: [4.0], 0.7: [4.0]}), ["0.8", "0.9", "0.7"])
    with Journal.read(config.run_path) as journal:
        best, again = journal.champion(), journal.experiment(3)

    assert (0, 4) == (getattr(best, "id", None), len(getattr(best, "scores", ())))
    assert "experiment 0 holds" in again.reason


def test_other_hardware_measures_the_champion_first(tmp_path: Path) -> None:
    """Before anything is compared with it there, as often as it takes to know the noise."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0, 2.0, 2.1], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, scripted({0.02: [1.0, 1.1, 1.2], 0.9: [4.0]}), ["0.9"])
    runner.hardware = "another GPU"
    with session.journal:
        run_session(session)
        best = session.journal.champion()
        std = session.journal.history().seed_std(session.environment.conditions)

    assert 1.1 == pytest.approx(getattr(best, "value", None))
    assert 0.1 == pytest.approx(std)


def test_a_new_compile_cache_measures_the_champion_first(tmp_path: Path) -> None:
    """What it saves on compiling must not count as a gain of the next patch."""
    config = gated(tmp_path, 1, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, scripted({0.02: [1.0], 0.9: [1.5]}), ["0.9"])
    runner.more["cache_sha256"] = "another"
    with session.journal:
        run_session(session)
        best, ended = session.journal.champion(), session.journal.experiment(3).status

    assert (0, 1.0, "another") == (best and best.id, best and best.value, best and best.conditions[2])
    assert Status.DISCARD is ended


@pytest.mark.parametrize("name", ["data_sha256", "locked_sha256"])
def test_other_data_or_another_scorer_is_another_run(tmp_path: Path, name: str) -> None:
    """Neither a new session nor a running one mixes them: an easier text is not a better model."""
    config = gated(tmp_path, 1, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, scripted({0.9: [1.5]}), ["0.9"])
    runner.more[name] = "another"
    with session.journal as journal, pytest.raises(ConfigError, match=f"{name} , now another.*--run NAME"):
        run_session(session)
    edited, _, runner = sessions.session(config, scripted({0.9: [1.5]}), ["0.9"])
    with edited.journal as journal:
        best = journal.champion()
        candidate = loop.choose_next(edited, best, (), load_offset(journal))
        runner.more[name] = "another"
        with pytest.raises(ConfigError, match="--run NAME"):
            begin_experiment(journal, candidate, runner, best)


def test_a_champion_that_fails_on_other_hardware_ends_the_session(tmp_path: Path) -> None:
    """Nothing can be compared with it."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0, 2.0, 2.1], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, lambda _: fakes.broken(Status.OOM), ["0.9"])
    runner.hardware = "a small GPU"
    with session.journal, pytest.raises(ConfigError, match="ended as oom on this hardware"):
        run_session(session)


def test_a_further_trial_of_the_baseline_beside_others_costs_no_score(tmp_path: Path) -> None:
    """The first score counts; a candidate's gain is then told from luck by its own trials."""
    config = gated(tmp_path, 1)
    shared = iter([False, True])

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == 0.02:
            return replace(fakes.scored(2.0), contended_by="bob" if next(shared) else "")
        return fakes.scored(1.9)

    runner = ran(config, run, ["0.03"])

    assert [(0, "keep"), (1, "keep")] == sessions.statuses(config)
    assert 2 + 3 == len(runner.ran)


def test_a_reply_that_waits_outlives_a_remeasurement(tmp_path: Path) -> None:
    """It was paid for: it is the next candidate after the champion was measured again."""
    config = gated(tmp_path, 3, prefetch=1, **{"noise.remeasure_every": 1, "noise.baseline_runs": 1})
    session, proposer, _ = sessions.session(
        config, lambda s: fakes.scored(2.0 + fakes.rate_of(s)), ["0.5", "0.6", "0.7"]
    )
    with session.journal:
        run_session(session)
        begun = [r for r in session.journal.events(ExperimentBegun) if r.event.reply.proposer == "scripted"]

    assert proposer.asked == len(begun)
