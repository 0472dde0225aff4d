"""Estimates in the real loop: trials with other seeds, a keep that is undone, and what a cheat takes with it."""

from collections.abc import Callable
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
    """Return a task with the rule as it is shipped, but for flags."""
    sessions.task(tmp_path)
    shipped = {"noise.rule": "estimate", "limits.experiments": experiments}
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


def test_the_baseline_runs_once_before_the_first_idea(tmp_path: Path) -> None:
    """One trial, kept; then the idea."""
    config = gated(tmp_path, 1)
    runner = ran(config, scripted({0.02: [2.0], 0.03: [3.0]}), ["0.03"])

    assert [(0, "keep"), (1, "discard")] == sessions.statuses(config)
    assert 2 == len(runner.ran)


def test_a_gain_that_runs_again_has_all_its_trials_on_record(tmp_path: Path) -> None:
    """Each trial's seeds in the record, each in its own folder; the reason says how sure the keep is."""
    config = gated(tmp_path, 3)
    scores = {0.02: [2.0], 0.7: [2.02], 0.8: [2.01]}
    left = {rate: iter(map(fakes.scored, values)) for rate, values in scores.items()}
    left[0.03] = iter([fakes.scored(1.9, k=10), fakes.scored(1.91)])
    ran(config, lambda source: next(left[fakes.rate_of(source)]), ["0.7", "0.8", "0.03"])
    with Journal.read(config.run_path) as journal:
        last, again = journal.experiment(3), [r.event for r in journal.events(TrialRepeated, 3)]

    assert (Status.KEEP, (1.9, 1.91)) == (last.status, last.scores)
    assert last.sure is not None
    assert f"over 2 trials: better with {last.sure:.2f}, by " in last.reason
    assert [(2, 2, 1.9)] == [(event.trial, event.at_most, event.mean_so_far) for event in again]
    assert (config.run_path / "0003" / "trial-2").is_dir()


def test_a_keep_that_was_luck_is_undone_and_the_record_says_so(tmp_path: Path) -> None:
    """Children of a lucky champion show what it is worth: the one before it is back, in place too."""
    rates = ["0.03", "0.8", "0.9", "0.7", "0.6", "0.5", "0.4", "0.3"]
    config = gated(tmp_path, len(rates))
    session, proposer, runner = sessions.session(config, lambda s: fakes.scored(2.0), rates)
    worse = iter([1.99, *[2.004, 2.006] * 40])
    runner.score = lambda source: fakes.scored(2.0 if fakes.rate_of(source) == 0.02 else next(worse))
    with session.journal:
        run_session(session)
    with Journal.read(config.run_path) as journal:
        best, first = journal.champion(), journal.experiment(1)
        replaced = [(r.event.experiment_id, r.event.champion_id) for r in journal.events(ChampionReplaced)]

    assert Status.KEEP is first.status
    assert (1, 0) == replaced[-1]
    assert 0 == getattr(best, "id", None)
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())
    assert proposer.asked == len(rates)


def test_a_champion_that_is_caught_cheating_later_is_not_kept_any_more(tmp_path: Path) -> None:
    """It is a cheat in every view, and so are its descendants discarded; the record stays intact."""
    config = gated(tmp_path, 3, **{"noise.rule": "lowest"})
    session, _, runner = sessions.session(config, lambda _: fakes.scored(9.9), ["0.03", "0.8", "0.9"])

    def run(source: str) -> Trial:
        rate = fakes.rate_of(source)
        if rate == 0.03 and runner.hardware == "H100":
            return fakes.broken(Status.CHEAT, "the scorer refused it")
        if rate == 0.8:
            runner.hardware = "H100"
        return fakes.scored({0.02: 2.0, 0.03: 1.8}.get(rate, 4.0))

    runner.hardware, runner.score = "A100", run
    with session.journal:
        run_session(session)
    with Journal.read(config.run_path) as journal:
        best, fell = journal.champion(), journal.experiment(1)
        again = [e for e in journal.experiments() if e.remeasures_id == 1]

    assert 0 == getattr(best, "id", None)
    assert [Status.CHEAT] == [e.status for e in again]
    assert (Status.CHEAT, 1.8) == (fell.status, fell.value)
    assert f"it cheated when it was measured again, in experiment {again[0].id}" in fell.reason
    assert [] == list(find_damage(config.run_path))


def caught_on_holdout(journal: Journal, experiment_id: int) -> ConfirmationFailed:
    """Return what is recorded when a kept experiment cheats on the holdout."""
    return ConfirmationFailed(
        experiment_id=experiment_id, failure=Status.CHEAT, message="refused", scores=(), folder="", files={},
        environment=Environment(), revisions=policy.invalidate(experiment_id, journal.kept(), "on the holdout"),
    )  # fmt: skip


def test_what_descends_from_a_cheat_is_never_kept(tmp_path: Path) -> None:
    """Neither what was kept before, nor what ends later with a better score."""
    config = gated(tmp_path, 2, **{"noise.rule": "lowest"})
    ran(config, scripted({0.02: [2.0], 0.03: [1.8], 0.04: [1.6]}), ["0.03", "0.04"])
    session, _, _ = sessions.session(config, scripted({0.05: [1.5]}), ["0.05"])
    with session.journal as journal:
        best = journal.champion()
        candidate, _ = loop.choose_next(session, (), load_offset(journal), session.environment)
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
    config = gated(tmp_path, 1, **{"noise.rule": "lowest"})
    ran(config, scripted({0.02: [2.0], 0.03: [1.8]}), ["0.03"])
    session, _, _ = sessions.session(config, scripted({}), ["0.05"])
    session.journal.append(caught_on_holdout(session.journal, 0))
    with session.journal, pytest.raises(ConfigError, match=r"every kept experiment was invalidated.*--run NAME"):
        run_session(session)


def test_other_hardware_measures_the_champion_first(tmp_path: Path) -> None:
    """Before anything is compared with it there, once."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, scripted({0.02: [1.0], 0.9: [4.0]}), ["0.9"])
    runner.hardware = "another GPU"
    with session.journal:
        run_session(session)
        best = session.journal.champion()

    assert 1.0 == pytest.approx(getattr(best, "value", None))
    assert "another GPU" == getattr(best, "conditions", ("",))[0]


def test_a_new_compile_cache_measures_the_champion_first(tmp_path: Path) -> None:
    """What it saves on compiling must not count as a gain of the next patch."""
    config = gated(tmp_path, 1, **{"noise.rule": "lowest"})
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
    config = gated(tmp_path, 1, **{"noise.rule": "lowest"})
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, scripted({0.9: [1.5]}), ["0.9"])
    runner.more[name] = "another"
    with session.journal as journal, pytest.raises(ConfigError, match=f"{name} , now another.*--run NAME"):
        run_session(session)
    edited, _, runner = sessions.session(config, scripted({0.9: [1.5]}), ["0.9"])
    with edited.journal as journal:
        best = journal.champion()
        candidate, _ = loop.choose_next(edited, (), load_offset(journal), edited.environment)
        runner.more[name] = "another"
        with pytest.raises(ConfigError, match="--run NAME"):
            begin_experiment(journal, candidate, runner, best)


def test_a_champion_that_fails_on_other_hardware_ends_the_session(tmp_path: Path) -> None:
    """Nothing can be compared with it."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    session, _, runner = sessions.session(config, lambda _: fakes.broken(Status.OOM), ["0.9"])
    runner.hardware = "a small GPU"
    with (
        session.journal,
        pytest.raises(
            ConfigError, match=r"ended as oom under today's conditions .hardware was arithmetic, is a small GPU.;"
        ),
    ):
        run_session(session)


def test_a_reply_that_waits_outlives_a_remeasurement(tmp_path: Path) -> None:
    """It was paid for: it is the next candidate after the champion was measured again."""
    config = gated(tmp_path, 3, prefetch=1, **{"noise.rule": "lowest"})
    session, proposer, runner = sessions.session(config, lambda _: fakes.scored(9.9), ["0.5", "0.6", "0.7"])

    def score(source: str) -> Trial:
        if fakes.rate_of(source) == 0.5:
            runner.hardware = "H100"
        return fakes.scored(2.0 + fakes.rate_of(source))

    runner.score = score
    with session.journal:
        run_session(session)
        begun = [r for r in session.journal.events(ExperimentBegun) if r.event.reply.proposer == "scripted"]

    assert proposer.asked == len(begun)
