"""Luck and progress: the spread of single runs, re-runs with other seeds, the best measured again."""

import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import ask, turn
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.record.verify import findings
from orchestrator.scoring import noise
from orchestrator.scoring.decide import judge
from orchestrator.session import Running
from orchestrator.settings import Noise
from orchestrator.types import Status, Trial
from tests.support import fakes, sessions
from tests.support.journals import kept

LIMITS = Noise(baseline_runs=3, reruns=2, remeasure_every=0)
VALUES = st.floats(0.5, 5.0)
GROUPS = st.lists(st.lists(VALUES, min_size=1, max_size=5), min_size=1, max_size=5)


def trial(*values: float) -> Trial:
    """One that ran so often."""
    return replace(fakes.scored(values[0]), repeat_scores=values if len(values) > 1 else ())


# --- pure


@given(st.lists(VALUES, min_size=2, max_size=9))
def test_the_spread_of_one_source_is_its_standard_deviation(values: list[float]) -> None:
    """Of a sample, in val_bpb."""
    assert statistics.stdev(values) == pytest.approx(noise.spread([values]), abs=1e-9)


@given(GROUPS, st.floats(-2.0, 2.0))
def test_how_good_a_source_is_says_nothing_of_its_spread(groups: list[list[float]], shift: float) -> None:
    """Moving all runs of one source leaves it alone; sources that ran once add nothing."""
    moved = [[value + shift for value in groups[0]], *groups[1:], [1.0]]

    assert noise.spread(groups) == pytest.approx(noise.spread(moved), abs=1e-6)


def test_the_spread_is_not_known_before_something_ran_twice() -> None:
    """None, never 0.0."""
    assert noise.spread([]) is None
    assert noise.spread([[2.0], [2.1]]) is None


def test_the_baseline_runs_until_its_spread_is_known() -> None:
    """As often as is asked for, and once where the gate is off."""
    assert 3 == noise.wants(trial(2.0), None, None, LIMITS)
    assert 3 == noise.wants(trial(2.0, 2.1, 2.2), None, None, LIMITS)
    assert 1 == noise.wants(trial(2.0), None, None, LIMITS.model_copy(update={"baseline_runs": 1}))


@given(VALUES, st.lists(VALUES, min_size=1, max_size=6), st.one_of(st.none(), st.floats(0.0, 1.0)))
def test_a_candidate_never_runs_more_often_than_allowed(best: float, values: list[float], known: float | None) -> None:
    """Whatever it scores, and once if it is not better."""
    wanted = noise.wants(trial(*values), kept(best), known, LIMITS)

    assert wanted <= max(len(values), 1 + LIMITS.reruns)
    if statistics.fmean(values) >= best:
        assert len(values) == wanted


def test_only_a_gain_that_luck_may_explain_runs_again() -> None:
    """Two standard errors of the difference; what is not known may be anything."""
    best = kept(2.0)

    assert 3 == noise.wants(trial(1.99), best, 0.01, LIMITS)
    assert 1 == noise.wants(trial(1.90), best, 0.01, LIMITS)
    assert 3 == noise.wants(trial(1.90), best, None, LIMITS)
    assert 1 == noise.wants(trial(2.01), best, 0.01, LIMITS)


def test_the_best_on_new_hardware_runs_until_the_spread_there_is_known() -> None:
    """And once where it is known."""
    assert 3 == noise.wants(trial(2.0), kept(2.0), None, LIMITS, remeasures_id=0)
    assert 1 == noise.wants(trial(1.9), kept(2.0), 0.5, LIMITS, remeasures_id=0)


def test_a_gain_that_the_audit_cannot_tell_does_not_run_again() -> None:
    """More runs would not show it either."""
    one = trial(1.99)
    assert one.score is not None

    assert 1 == noise.wants(replace(one, score=replace(one.score, standard_error=0.006)), kept(2.0), 0.01, LIMITS)
    unaudited = replace(one, score=replace(one.score, standard_error=None))
    assert noise.wants(one, kept(2.0), 0.01, LIMITS) == noise.wants(unaudited, kept(2.0), 0.01, LIMITS)


def test_a_trial_without_a_score_or_company_does_not_run_again() -> None:
    """It is over."""
    assert 0 == noise.wants(fakes.broken(Status.CRASH), None, None, LIMITS)
    assert 1 == noise.wants(replace(trial(2.0), contended_by="bob"), None, None, LIMITS)


def test_a_further_run_that_fails_fails_the_trial() -> None:
    """With its own reason; a first score that stands for itself outlives company in a further run."""
    shared = replace(trial(2.0), contended_by="bob")

    assert Status.CRASH is noise.joined(trial(1.0), fakes.broken(Status.CRASH), first=True).failure
    assert "bob" == noise.joined(trial(1.0), shared, first=False).contended_by
    assert (1.0,) == noise.joined(trial(1.0), shared, first=True).runs
    assert (1.0, 2.0) == noise.joined(trial(1.0), trial(2.0), first=False).runs
    assert 2 == len(noise.joined(trial(1.0), trial(2.0), first=False).executions)
    fuller = noise.joined(fakes.scored(1.0, k=256), fakes.scored(1.1, k=4096), first=False)
    assert (fakes.scored(1.1, k=4096).score, (1.0, 1.1)) == (fuller.score, fuller.runs)


@given(VALUES, st.lists(VALUES, min_size=1, max_size=3), st.one_of(st.none(), st.floats(0.0, 1.0)))
def test_nothing_is_kept_unless_the_mean_holds(best: float, values: list[float], known: float | None) -> None:
    """Neither on a mean that is not below the best, nor on re-runs that are not."""
    verdict = judge(trial(*values), kept(best), spread=known)

    if verdict.status is Status.KEEP:
        assert statistics.fmean(values) < best
        assert len(values) == 1 or statistics.fmean(values[1:]) < best


def test_a_lucky_first_run_is_told_from_progress() -> None:
    """The runs that nobody picked decide, and the rule says so."""
    lucky = judge(trial(1.8, 2.01, 2.02), kept(2.0), spread=0.2)
    real = judge(trial(1.8, 1.9, 1.8), kept(2.0), spread=0.2)

    assert (Status.DISCARD, Status.KEEP) == (lucky.status, real.status)
    assert "the first run was luck" in lucky.reason
    assert "over 3 runs" in real.reason


def test_a_gain_inside_the_noise_is_not_kept_where_nothing_may_run_again() -> None:
    """With `reruns = 0` luck is never kept."""
    assert Status.DISCARD is judge(trial(1.95), kept(2.0), spread=0.1).status
    assert Status.KEEP is judge(trial(1.5), kept(2.0), spread=0.1).status


@given(st.lists(VALUES, min_size=1, max_size=6, unique=True))
def test_the_best_is_the_lowest_mean_of_those_kept(values: list[float]) -> None:
    """Measuring the best again changes its mean, and may make another one the best."""
    all_kept = [kept(value, id=number) for number, value in enumerate(values)]
    best = noise.best_of(all_kept, [])
    assert best is not None
    worse = kept(9.0, id=99, status=Status.DISCARD, remeasures_id=best.id)
    now = noise.best_of(all_kept, [worse])

    assert min(values) == best.value
    assert now is not None
    means = [*(v for v in values if v != best.value), (min(values) + 9.0) / 2]
    assert min(means) == pytest.approx(now.value)


def test_scores_of_other_hardware_do_not_count() -> None:
    """The newest experiment says which one counts; what was kept elsewhere counts once it was measured here."""
    elsewhere, here = kept(1.0, id=0, hardware="H100"), kept(2.0, id=1, hardware="A100")
    again = kept(1.5, id=2, hardware="A100", status=Status.DISCARD, remeasures_id=0)

    assert 1 == getattr(noise.best_of([elsewhere, here], []), "id", None)
    assert (0, 1.5) == (
        getattr(noise.best_of([elsewhere, here], [again]), "id", None),
        getattr(noise.best_of([elsewhere, here], [again]), "value", None),
    )


def luck(limits: Noise, known: float | None, changes: int = 300) -> tuple[int, float]:
    """Changes that change nothing, runs that spread by 0.01: how many are kept, how far the best is from the truth."""
    chance, keeps = random.Random(7), 0  # noqa: S311 - no secret
    best = kept(2.0)
    for number in range(1, changes):
        now = trial(2.0 + chance.gauss(0, 0.01))
        while len(now.runs) < noise.wants(now, best, known, limits):
            now = noise.joined(now, trial(2.0 + chance.gauss(0, 0.01)), first=False)
        if judge(now, best, spread=known).status is Status.KEEP:
            best, keeps = kept(now.runs[0], id=number, repeat_scores=now.repeat_scores), keeps + 1
    return keeps, abs(2.0 - (best.value or 0))


def test_the_gate_keeps_less_luck() -> None:
    """And what it believes is nearer to the truth, though nothing was measured again yet."""
    keeps, error = luck(LIMITS.model_copy(update={"baseline_runs": 1}), None)
    gated_keeps, gated_error = luck(LIMITS, 0.01)

    assert gated_keeps < keeps
    assert gated_error < 0.7 * error


# --- in the loop


def gated(tmp_path: Path, experiments: int, **flags: object) -> Config:
    """A task with the gate as it is shipped, but for flags."""
    sessions.task(tmp_path)
    shipped = {"noise.baseline_runs": 3, "limits.experiments": experiments}
    return load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", **shipped, **flags})


def scripted(values: dict[float, list[float]]) -> Callable[[str], Trial]:
    """For each learning rate the scores of its runs, one after the other."""
    left = {rate: iter(scores) for rate, scores in values.items()}
    return lambda source: fakes.scored(next(left[fakes.rate_of(source)]))


def ran(config: Config, score: Callable[[str], Trial], rates: list[str]) -> fakes.ArithmeticRunner:
    """One session."""
    loop, _, runner = sessions.session(config, score, rates)
    with loop.journal:
        run_session(loop)
    return runner


def test_the_baseline_of_a_session_runs_three_times(tmp_path: Path) -> None:
    """One experiment on record, its score the mean, each run's seeds in the record, each in a folder of its own."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0, 2.1, 2.2], 0.03: [3.0]}), ["0.03"])
    with Journal.read(config.run_path) as journal:
        baseline = journal.experiment(0)
        again = [r.body for r in journal.records("experiment.run_again", 0)]
        counted = journal.spent().experiments

    assert 2.1 == pytest.approx(baseline.value)
    assert (2.0, 2.1, 2.2) == baseline.repeat_scores
    assert [2, 3] == [body["run"] for body in again]
    assert 3 == len({body["train_seed"] for body in again} | {0})
    assert all((config.run_path / "0000" / f"run-{n}").is_dir() for n in (2, 3))
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


def test_the_best_is_measured_again_and_the_record_says_when_it_did_not_hold(tmp_path: Path) -> None:
    """A best that was luck is no parent any more: the one before it is back, in place too."""
    config = gated(tmp_path, 4, **{"noise.remeasure_every": 2})
    scores = {0.02: [2.0, 2.01, 1.99, 2.02], 0.03: [1.8, 3.0], 0.8: [4.0], 0.9: [4.0], 0.7: [4.0]}
    runner = ran(config, scripted(scores), ["0.03", "0.8", "0.9", "0.7"])
    with Journal.read(config.run_path) as journal:
        best, again = journal.best(), journal.experiment(4)
        said = [(r.experiment_id, r.body["goes_back_to"]) for r in journal.records("keep.did_not_hold")]

    assert 0 == getattr(best, "id", None)
    assert (1, Status.DISCARD) == (again.remeasures_id, again.status)
    assert "did not hold up" in again.reason
    assert [(1, 0)] == said
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())
    assert [None] == [below for source, below in zip(runner.ran, runner.below, strict=True) if "0.03" in source][1:]


def test_a_best_that_is_caught_cheating_later_is_no_best_any_more(tmp_path: Path) -> None:
    """It is a cheat in every view, and what was made from it goes with it; the record stays intact."""
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
        best, fell, again = journal.best(), journal.experiment(1), journal.experiment(4)
        said = [(r.experiment_id, r.body["goes_back_to"]) for r in journal.records("keep.did_not_hold")]

    assert 0 == getattr(best, "id", None)
    assert (1, Status.CHEAT) == (again.remeasures_id, again.status)
    assert (Status.CHEAT, 1.8) == (fell.status, fell.value)
    assert "ended as cheat when it was run again, in experiment 4" in fell.reason
    assert [(1, 0)] == said
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())
    assert [] == list(findings(config.run_path))


def test_what_is_made_from_a_cheat_is_never_kept(tmp_path: Path) -> None:
    """Neither what was kept before, nor what ends later with a better score."""
    config = gated(tmp_path, 2, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.03: [1.8], 0.04: [1.6]}), ["0.03", "0.04"])
    loop, _, _ = sessions.session(config, scripted({0.05: [1.5]}), ["0.05"])
    with loop.journal as journal:
        best = journal.best()
        assert best is not None
        candidate = turn.next_candidate(loop, best, ())
        running = turn.begin(loop, candidate, loop.runner, best)
        journal.note("experiment.not_confirmed", {"failure": "cheat"}, 1)
        outcome = turn.judged(loop, running, fakes.scored(1.5), journal.best())
        now = [(e.id, e.status) for e in journal.experiments()]

    assert [(0, Status.KEEP), (1, Status.CHEAT), (2, Status.DISCARD)] == now
    assert not isinstance(outcome, Running)
    assert (Status.DISCARD, True) == (outcome[1].status, "made from experiment 1" in outcome[1].reason)


def test_a_run_whose_baseline_cheated_is_over(tmp_path: Path) -> None:
    """What stands in train.py may come from it, so it is no new baseline."""
    config = gated(tmp_path, 1, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.03: [1.8]}), ["0.03"])
    loop, _, _ = sessions.session(config, scripted({}), ["0.05"])
    loop.journal.note("experiment.not_confirmed", {"failure": "cheat"}, 0)
    with loop.journal, pytest.raises(ConfigError, match="start a new run with --run NAME"):
        run_session(loop)


def test_a_best_that_holds_stays_with_all_its_runs(tmp_path: Path) -> None:
    """Its score is the mean over all of them."""
    config = gated(tmp_path, 3, **{"noise.remeasure_every": 2})
    ran(config, scripted({0.02: [2.0, 2.1, 2.2, 2.1], 0.8: [4.0], 0.9: [4.0], 0.7: [4.0]}), ["0.8", "0.9", "0.7"])
    with Journal.read(config.run_path) as journal:
        best, again = journal.best(), journal.experiment(3)

    assert (0, 4) == (getattr(best, "id", None), len(getattr(best, "runs", ())))
    assert "experiment 0 holds" in again.reason


def test_other_hardware_measures_the_best_first(tmp_path: Path) -> None:
    """Before anything is compared with it there, as often as the spread needs."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0, 2.0, 2.1], 0.8: [4.0]}), ["0.8"])
    loop, _, runner = sessions.session(config, scripted({0.02: [1.0, 1.1, 1.2], 0.9: [4.0]}), ["0.9"])
    runner.hardware = "another GPU"
    with loop.journal:
        run_session(loop)
        best, spread = loop.journal.best(), ask.spread(loop)

    assert 1.1 == pytest.approx(getattr(best, "value", None))
    assert 0.1 == pytest.approx(spread)


def test_a_new_compile_cache_measures_the_best_first(tmp_path: Path) -> None:
    """What it saves on compiling is no gain of the next patch."""
    config = gated(tmp_path, 1, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    loop, _, runner = sessions.session(config, scripted({0.02: [1.0], 0.9: [1.5]}), ["0.9"])
    runner.more["warm_sha256"] = "another"
    with loop.journal:
        run_session(loop)
        best, ended = loop.journal.best(), loop.journal.experiment(3).status

    assert (0, 1.0, "another") == (best and best.id, best and best.value, best and best.warm_sha256)
    assert Status.DISCARD is ended


@pytest.mark.parametrize("name", ["data_sha256", "locked_sha256"])
def test_other_data_or_another_scorer_is_another_run(tmp_path: Path, name: str) -> None:
    """Neither a new session nor a running one mixes them: an easier text is no better model."""
    config = gated(tmp_path, 1, **{"noise.remeasure_every": 0, "noise.baseline_runs": 1})
    ran(config, scripted({0.02: [2.0], 0.8: [4.0]}), ["0.8"])
    loop, _, runner = sessions.session(config, scripted({0.9: [1.5]}), ["0.9"])
    runner.more[name] = "another"
    with loop.journal as journal, pytest.raises(ConfigError, match=f"{name} , now another.*--run NAME"):
        run_session(loop)
    edited, _, runner = sessions.session(config, scripted({0.9: [1.5]}), ["0.9"])
    with edited.journal as journal:
        best = journal.best()
        assert best is not None
        candidate = turn.next_candidate(edited, best, ())
        runner.more[name] = "another"
        with pytest.raises(ConfigError, match="--run NAME"):
            turn.begin(edited, candidate, runner, best)


def test_a_best_that_fails_on_other_hardware_ends_the_session(tmp_path: Path) -> None:
    """Nothing can be compared with it."""
    config = gated(tmp_path, 1)
    ran(config, scripted({0.02: [2.0, 2.0, 2.1], 0.8: [4.0]}), ["0.8"])
    loop, _, runner = sessions.session(config, lambda _: fakes.broken(Status.OOM), ["0.9"])
    runner.hardware = "a small GPU"
    with loop.journal, pytest.raises(ConfigError, match="ended as oom on this hardware"):
        run_session(loop)


def test_company_in_a_further_run_of_the_baseline_costs_no_score(tmp_path: Path) -> None:
    """The first one stands; a candidate's gain is then told from luck by its own runs."""
    config = gated(tmp_path, 1)
    shared = iter([False, True])

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == 0.02:
            return replace(fakes.scored(2.0), contended_by="bob" if next(shared) else "")
        return fakes.scored(1.9)

    runner = ran(config, run, ["0.03"])

    assert [(0, "keep"), (1, "keep")] == sessions.statuses(config)
    assert 2 + 3 == len(runner.ran)


def test_a_reply_that_waits_outlives_the_measuring_again(tmp_path: Path) -> None:
    """It was paid for: it is the next candidate after the best was measured again."""
    config = gated(tmp_path, 3, prefetch=1, **{"noise.remeasure_every": 1, "noise.baseline_runs": 1})
    loop, proposer, _ = sessions.session(config, lambda s: fakes.scored(2.0 + fakes.rate_of(s)), ["0.5", "0.6", "0.7"])
    with loop.journal:
        run_session(loop)
        begun = [r for r in loop.journal.records("experiment.begun") if r.body["reply"]["proposer"] == "scripted"]

    assert proposer.asked == len(begun)
