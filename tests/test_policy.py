"""When a change is kept: the rule of orchestrator/policy.py, section by section."""

import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import policy
from orchestrator.events import Revision
from orchestrator.policy import Attempt, Decision, History, Rerun, Rules, choose_champion, judge, merge_trials
from orchestrator.settings import Noise
from orchestrator.types import (
    Champion,
    Conditions,
    Experiment,
    Gain,
    Level,
    MachineLoad,
    Role,
    Score,
    Status,
    Trial,
    Usage,
    Verdict,
)
from tests.support import fakes
from tests.support.journals import kept

if TYPE_CHECKING:
    from orchestrator.estimates import Estimates

NOISE = Noise(rule="estimate")
OFF = Noise(rule="lowest")
BUDGET_S = 25.0
RULES = Rules(noise=NOISE, time_budget_s=BUDGET_S)
HERE = Conditions()
ALICE = "alice's python (pid 42)"
QUIET = MachineLoad(others_cpu_s=0.0, cpus=2, duration_s=25.0)
BUSY = MachineLoad(others_cpu_s=10.0, cpus=2, duration_s=25.0)
VALUES = st.floats(0.5, 5.0)
GROUPS = st.lists(st.lists(VALUES, min_size=1, max_size=5), min_size=1, max_size=5)


def trial(*scores: float) -> Trial:
    """Return what so many trials amount to."""
    return replace(fakes.scored(scores[0]), repeat_scores=scores if len(scores) > 1 else ())


def champion(*scores: float, **changes: object) -> Champion:
    """Return a champion with these scores."""
    one = kept(scores[0], repeat_scores=scores if len(scores) > 1 else (), **changes)
    return Champion(experiment=one, scores=one.scores, conditions=one.conditions)


def attempt(*trials: Trial, parent_id: int | None = 0, **changes: object) -> Attempt:
    """Return an experiment whose trials ended like this, as a child of the baseline."""
    values: dict[str, object] = {"id": 9, "trials": trials, "conditions": HERE, "parent_id": parent_id}
    return Attempt(**(values | changes))  # type: ignore[arg-type]


def history(*experiments: Experiment, std: float | None = None) -> History:
    """Return a run that kept these, with a known standard deviation between trials of its baseline."""
    estimates: Estimates | None = None
    for one in experiments:
        estimates = policy.learn(estimates, one)
    swings = () if std is None or not experiments else (1, -1, -1, 1, 1, -1, 1, -1)
    again = [
        kept(experiments[0].scores[0] + swing * std, id=50 + n, status=Status.DISCARD, remeasures_id=experiments[0].id)
        for n, swing in enumerate(swings)
        if std is not None
    ]
    for one in again:
        estimates = policy.learn(estimates, one)
    found = {} if estimates is None else {experiments[0].conditions: estimates}
    return History(kept=experiments, remeasurements=tuple(again), estimates=found)


def decide(one: Attempt, past: History, rules: Rules = RULES) -> Decision:
    """Return a decision where one is due."""
    step = policy.next_step(one, past, rules)
    assert isinstance(step, Decision)
    return step


def likely(probability: float, mean: float = 0.01, **changes: float | bool) -> Gain:
    """Return a gain that is so likely one; more trials of it are worth nothing."""
    values: dict[str, object] = {
        "mean": mean,
        "sd": 0.01,
        "probability": probability,
        "worth": 0.0,
        "worth_of_idea": 1.0,
    }
    return Gain(**(values | changes))  # type: ignore[arg-type]


# ---- the rule of the lowest score, for scores without noise

SCORES = st.lists(st.integers(180, 200).map(lambda n: n / 100), min_size=1, max_size=3)  # too few for a doubtful jump


@given(SCORES)
def test_the_lowest_score_is_kept_where_nothing_is_estimated(scores: list[float]) -> None:
    """Lowest: every strictly lower score at once, after one trial."""
    past, best, decided = history(kept(2.01)), 2.01, []
    for number, score in enumerate(scores, start=1):
        decision = decide(attempt(fakes.scored(score), id=number), past, replace(RULES, noise=OFF))
        decided.append((decision.verdict.status, len(decision.trial.scores)))
        if decision.verdict.status is Status.KEEP:
            past = History(kept=(*past.kept, kept(score, id=number)))

    expected = []
    for score in scores:
        expected.append((Status.KEEP if score < best else Status.DISCARD, 1))
        best = min(best, score)
    assert expected == decided


# ---- the rule of estimates, replayed


def decide_by_policy(baseline: list[float], ideas: list[list[float]]) -> list[tuple[str, int]]:
    """Return the status and the number of trials of each idea, children of the best before them."""
    past, decided = History(), list[tuple[str, int]]()
    for number, scores in enumerate([baseline, *ideas]):
        trials, parent = [fakes.scored(scores[0])], past.champion
        parent_id = None if parent is None else parent.id
        tried = {"id": number, "parent_id": parent_id}
        while isinstance(step := policy.next_step(attempt(*trials, **tried), past, RULES), Rerun):
            trials.append(fakes.scored(scores[len(trials)]))
        values = tuple(step.trial.scores)
        one = kept(values[0], id=number, status=step.verdict.status, repeat_scores=values, parent_id=parent_id)
        learnt = policy.learn(past.estimates.get(HERE), one)
        assert learnt is not None
        is_kept = one.status is Status.KEEP
        past = replace(past, kept=(*past.kept, one) if is_kept else past.kept, estimates={HERE: learnt})
        decided.append((one.status.value, len(values)))
    return decided


# ---- keep


def test_the_first_score_is_kept() -> None:
    """Keep: the baseline has nothing to beat."""
    assert Status.KEEP == judge(fakes.scored(2.0), None, 0, None).status


@pytest.mark.parametrize(("value", "expected"), [(1.9, Status.KEEP), (2.0, Status.DISCARD), (2.1, Status.DISCARD)])
def test_only_a_strict_improvement_is_kept(value: float, expected: Status) -> None:
    """Keep: an equal score is discarded."""
    verdict = judge(fakes.scored(value), champion(2.0), 0, None)

    assert (expected, expected is Status.DISCARD) == (verdict.status, verdict.reason.startswith("not better than"))
    assert expected == decide(attempt(fakes.scored(value)), history(kept(2.0), std=0.001)).verdict.status


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.49, Status.DISCARD), (0.51, Status.KEEP), (0.93, Status.KEEP)]
)
def test_what_is_more_likely_better_than_not_is_kept_and_says_how_sure_it_is(
    probability: float, expected: Status
) -> None:
    """Keep: the reason and the record have the probability and the estimated gain."""
    verdict = judge(fakes.scored(1.99), champion(2.0), 0, likely(probability))

    assert (expected, probability, 0.01) == (verdict.status, verdict.sure, verdict.gain)
    assert f"better with {probability:.2f}, by 0.01 ± 0.01" in verdict.reason


def test_a_broken_challenger_is_never_kept() -> None:
    """Keep: far worse than anything expected, it left its estimate untouched."""
    verdict = judge(fakes.scored(9.0), champion(2.0), 0, likely(0.9, is_broken=True))
    past = history(kept(2.0), std=0.01)

    assert (Status.DISCARD, 0.0) == (verdict.status, verdict.sure)
    assert "far worse" in verdict.reason
    assert Status.DISCARD is decide(attempt(fakes.scored(9.0)), past).verdict.status


@pytest.mark.parametrize(("probability", "sure"), [(0.84, False), (0.85, True)])
def test_a_keep_that_is_not_sure_is_in_doubt(probability: float, sure: bool) -> None:
    """Keep: views mark it."""
    assert sure is policy.is_sure(probability)


@given(VALUES, st.lists(VALUES, min_size=1, max_size=3))
def test_nothing_is_kept_unless_the_mean_holds(best: float, values: list[float]) -> None:
    """Keep: not on a mean that is not better than the champion's, where nothing is estimated."""
    verdict = judge(trial(*values), champion(best), 0, None)

    assert (Status.KEEP is verdict.status) is (statistics.fmean(values) < best)


@pytest.mark.parametrize(("error", "expected"), [(0.004, Status.KEEP), (0.006, Status.DISCARD)])
@pytest.mark.parametrize("whose", ["its own", "the champion's"])
def test_a_gain_must_be_more_than_the_audits_leave_open(whose: str, error: float, expected: Status) -> None:
    """Keep: by twice the standard error of both scores; claims that are off at random within the cap gain nothing."""
    score = Score(value=1.99, level=Level.L2, audited_positions=10_000, standard_error=error)
    one = replace(fakes.scored(1.99), score=score) if whose == "its own" else fakes.scored(1.99)
    other = replace(score, value=2.0) if whose == "the champion's" else fakes.scored(2.0).score

    assert expected == judge(one, champion(2.0, score=other), 0, None).status


def test_a_new_champion_needs_the_large_audit() -> None:
    """Keep: a better score that was audited at few positions is not kept."""
    assert Status.DISCARD == judge(fakes.scored(1.0, k=256), champion(2.0), 2048, None).status


def test_small_data_is_audited_whole() -> None:
    """Keep: where there are fewer positions than a large audit needs, all of them are enough."""
    one = fakes.scored(1.0, k=256)
    assert one.score is not None
    whole, part = (replace(one, score=replace(one.score, total_positions=total)) for total in (256, 257))

    assert Status.KEEP is judge(whole, champion(2.0), 2048, None).status
    assert Status.DISCARD is judge(part, champion(2.0), 2048, None).status


# ---- discard, and what is not judged


@pytest.mark.parametrize("status", [Status.CRASH, Status.CHEAT, Status.TIMEOUT, Status.OOM, Status.INFRA])
def test_a_trial_without_a_score_keeps_its_failure(status: Status) -> None:
    """Not judged: the failure is the verdict, its message the reason."""
    verdict = judge(fakes.broken(status, "why"), champion(2.0), 0, None)

    assert (status, "why") == (verdict.status, verdict.reason)
    assert (status is Status.CHEAT) is verdict.needs_review


@pytest.mark.parametrize("one", [fakes.scored(0.1), fakes.broken(Status.CRASH)])
def test_what_others_disturbed_is_not_judged(one: Trial) -> None:
    """Not judged: whatever came of it, a record or a crash; the reason names who used the device."""
    verdict = judge(replace(one, contended_by=ALICE), None, 0, None)

    assert Verdict(status=Status.CONTENDED, reason=f"not judged: {ALICE} used the device too") == verdict


def test_a_broken_wall_is_a_cheat_whoever_used_the_device() -> None:
    """Not judged: code that broke out and uses the GPU from outside may itself be the other user."""
    cheat = replace(fakes.broken(Status.CHEAT, "locked files changed"), contended_by=ALICE)

    assert Status.CHEAT is judge(cheat, None, 0, None).status
    assert Status.CHEAT is judge(merge_trials((fakes.scored(1.0), cheat), first=True), None, 0, None).status


def test_other_conditions_than_the_champions_judge_nothing() -> None:
    """Not judged: a gain may be the hardware's; a failure has its own status there, and a remeasurement its verdict."""
    past, elsewhere = history(kept(2.0)), Conditions("H100")
    gain = decide(attempt(fakes.scored(1.0), conditions=elsewhere), past).verdict
    crash = decide(attempt(fakes.broken(Status.CRASH), conditions=elsewhere), past).verdict
    rules = replace(RULES, noise=OFF)
    again = decide(attempt(fakes.scored(1.0), conditions=elsewhere, remeasures_id=0), past, rules).verdict

    assert (Status.CONTENDED, Status.CRASH, Status.DISCARD) == (gain.status, crash.status, again.status)
    assert "not judged under other conditions than the champion: hardware was none, is H100" == gain.reason


@pytest.mark.parametrize("trials", [(1.5,), (1.5, None)])
def test_a_child_of_an_invalidated_experiment_is_discarded(trials: tuple[float | None, ...]) -> None:
    """Discard: however good; also where nothing is kept any more and its last trial was not alone and has no score."""
    alone = [fakes.scored(value) for value in trials if value is not None]
    disturbed = [replace(fakes.broken(Status.INFRA), contended_by=ALICE) for value in trials if value is None]
    past = History(invalidated={1: "gained; but it cheated on the holdout"})
    decision = decide(attempt(*alone, *disturbed, parent_id=1), past)

    assert Status.DISCARD is decision.verdict.status
    assert "its parent, experiment 1, has since been invalidated: gained; but it cheated" in decision.verdict.reason


@pytest.mark.parametrize("status", [Status.CRASH, Status.CHEAT])
def test_a_failed_child_of_an_invalidated_experiment_has_its_own_status(status: Status) -> None:
    """Discard: only a score is discarded; a child that cheated is a cheat."""
    past = History(invalidated={1: "it cheated"})

    assert status is decide(attempt(fakes.broken(status), parent_id=1), past).verdict.status


# ---- noise


@given(st.lists(VALUES, min_size=2, max_size=9))
def test_the_noise_of_one_source_is_its_standard_deviation(values: list[float]) -> None:
    """Noise: of a sample."""
    assert statistics.stdev(values) == pytest.approx(policy.pooled_std([values]), abs=1e-9)


@given(GROUPS, st.floats(-2.0, 2.0))
def test_how_good_a_source_is_says_nothing_of_its_noise(groups: list[list[float]], shift: float) -> None:
    """Noise: shifting all trials of one source does not change it; sources with one trial add nothing."""
    moved = [[value + shift for value in groups[0]], *groups[1:], [1.0]]

    assert policy.pooled_std(groups) == pytest.approx(policy.pooled_std(moved), abs=1e-6)


def test_the_noise_is_not_known_before_something_ran_twice() -> None:
    """Noise: None, never 0.0."""
    assert policy.pooled_std([]) is None
    assert policy.pooled_std([[2.0], [2.1]]) is None
    assert history(kept(2.0)).seed_std(HERE) is None
    assert history(kept(2.0), kept(1.99, id=1)).seed_std(HERE) is not None


def test_the_noise_of_other_conditions_is_not_known_here() -> None:
    """Noise: each hardware, image and compile cache has its own."""
    past = history(kept(2.0), std=0.1)

    assert pytest.approx(0.1, rel=0.4) == past.seed_std(HERE)
    assert past.seed_std(Conditions("H100")) is None
    busy = replace(past, repeated=(kept(2.0, repeat_scores=(1.5, 2.5)),))
    assert past.seed_std(HERE) == busy.seed_std(HERE) == past.trial_std(HERE)
    assert pytest.approx(0.5**0.5) == busy.trial_std(HERE)
    assert pytest.approx(0.1) == History(repeated=(kept(2.0, repeat_scores=(1.9, 2.0, 2.1)),)).seed_std(HERE)


# ---- repeat


def test_the_baseline_runs_once() -> None:
    """Repeat: the first idea need not wait for more."""
    assert (Status.KEEP, 1) == (
        decide(attempt(fakes.scored(2.0), parent_id=None), History()).verdict.status,
        len(decide(attempt(fakes.scored(2.0), parent_id=None), History()).trial.scores),
    )


@pytest.mark.parametrize(
    ("worth", "trials", "again"), [(2.0, 1, True), (0.5, 1, False), (2.0, 3, True), (2.0, 4, False)]
)
def test_a_trial_is_repeated_where_that_is_worth_more_than_an_idea(worth: float, trials: int, again: bool) -> None:
    """Repeat: four trials at most; here an idea is worth 1."""
    one = attempt(*[fakes.scored(1.99)] * trials)
    merged = merge_trials(one.trials, first=False)

    assert again is policy.is_owed_a_trial(likely(0.5, worth=worth), one, merged)


def test_what_is_broken_or_failed_or_was_disturbed_does_not_run_again() -> None:
    """Repeat: it would teach nothing; the attempt is over."""
    good, worthy = fakes.scored(1.99), likely(0.5, worth=2.0)
    failed, shared = fakes.broken(Status.CRASH), replace(fakes.scored(1.9), contended_by="bob")

    assert not policy.is_owed_a_trial(likely(0.5, worth=2.0, is_broken=True), attempt(good), good)
    for last in (failed, shared):
        one = attempt(good, last)
        assert not policy.is_owed_a_trial(worthy, one, merge_trials(one.trials, first=False))


def test_an_unclear_gain_runs_again_and_a_clear_one_does_not() -> None:
    """Repeat: close to the champion where ideas gain little; neither far above it, nor far below it."""
    past = history(kept(2.0), std=0.1)
    for number in range(1, 12):
        learnt = policy.learn(past.estimates[HERE], kept(2.3, id=number, status=Status.DISCARD, parent_id=0))
        assert learnt is not None
        past = replace(past, estimates={HERE: learnt})
    steps = {
        score / 100: policy.next_step(attempt(fakes.scored(score / 100)), past, RULES) for score in range(170, 300)
    }
    again = {score: step for score, step in steps.items() if isinstance(step, Rerun) and not step.suspicion}

    assert again
    assert 1.8 < min(again) < max(again) < 2.2
    assert all((policy.MOST_TRIALS, score) == (step.at_most, step.mean_so_far) for score, step in again.items())
    assert all(isinstance(step, Decision) for score, step in steps.items() if score > 2.2)


def test_further_trials_tell_luck_from_progress() -> None:
    """Repeat: a lucky first trial is discarded, a gain that every trial shows is kept with more certainty."""
    past = history(kept(2.0), std=0.05)
    lucky = policy.estimate_gain(
        past.estimates[HERE], attempt(), past.champion, [fakes.scored(v) for v in (1.9, 2.05, 2.05)]
    )
    once = policy.estimate_gain(past.estimates[HERE], attempt(), past.champion, [fakes.scored(1.9)])
    real = policy.estimate_gain(past.estimates[HERE], attempt(), past.champion, [fakes.scored(1.9)] * 3)

    assert lucky is not None
    assert once is not None
    assert real is not None
    assert lucky.probability < 0.5 < once.probability < real.probability


@pytest.mark.parametrize(("changes", "counts"), [({}, True), ({"parent_id": 0}, False), ({"remeasures_id": 4}, False)])
def test_the_noise_that_a_scorer_reports_counts_for_the_baseline_only(changes: dict[str, int], counts: bool) -> None:
    """A proposer's code can widen or narrow what a stopwatch reports of it."""
    one = kept(2.0, score=Score(value=2.0, level=Level.L1, noise=0.5), **changes)
    known = policy.learn(None, one)

    assert known is not None
    assert counts is known.knows_noise
    assert counts is (known.trial_sd == pytest.approx(0.5))


def test_what_others_used_is_taken_out_of_a_score() -> None:
    """Repeat: a score beside a busy neighbour is no loss once the run knows what such neighbours cost."""
    estimates = policy.learn(None, kept(2.0, loads=(QUIET,)))
    for n in range(1, 9):
        load, score = (BUSY, 2.2) if n % 2 else (QUIET, 2.0)
        again = kept(score + 0.005 * (n % 3), id=n, status=Status.DISCARD, remeasures_id=0, loads=(load,))
        estimates = policy.learn(estimates, again)
    assert estimates is not None
    disturbed = fakes.scored(2.15, load=BUSY)
    best = replace(champion(2.0), conditions=HERE)
    seen = policy.estimate_gain(estimates, attempt(disturbed), best, (disturbed,))
    unseen = policy.estimate_gain(estimates, attempt(fakes.scored(2.15)), best, (fakes.scored(2.15),))

    assert seen is not None
    assert unseen is not None
    assert seen.mean > 0 > unseen.mean or (not seen.is_broken and unseen.is_broken)
    assert seen.probability > 0.5


def test_a_gain_with_too_small_an_audit_runs_again_in_full() -> None:
    """Repeat: once, and kept with the larger audit; data that is audited whole suffices."""
    past, rules = history(kept(2.0)), Rules(noise=OFF, time_budget_s=BUDGET_S, needed_k=2048)
    small, large = fakes.scored(1.9, k=256), fakes.scored(1.9, k=2048)
    assert small.score is not None
    whole = replace(small, score=replace(small.score, total_positions=256))

    assert Rerun(at_most=2, mean_so_far=1.9) == policy.next_step(attempt(small), past, rules)
    assert Status.KEEP is decide(attempt(small, large), past, rules).verdict.status
    assert "audited at 256 positions only" in decide(attempt(small, small), past, rules).verdict.reason
    assert Status.DISCARD is decide(attempt(fakes.scored(2.1, k=256)), past, rules).verdict.status
    assert Status.KEEP is decide(attempt(whole), past, rules).verdict.status


def test_a_further_trial_that_fails_fails_the_whole() -> None:
    """Repeat: with its own reason; a first score of a run counts although a further trial was not alone."""
    shared = replace(trial(2.0), contended_by="bob")

    assert Status.CRASH is merge_trials((trial(1.0), fakes.broken(Status.CRASH)), first=True).failure
    assert "bob" == merge_trials((trial(1.0), shared), first=False).contended_by
    assert (1.0,) == merge_trials((trial(1.0), shared), first=True).scores
    assert (1.0, 2.0) == merge_trials((trial(1.0), trial(2.0)), first=False).scores
    assert 2 == len(merge_trials((trial(1.0), trial(2.0)), first=False).executions)
    fuller = merge_trials((fakes.scored(1.0, k=256), fakes.scored(1.1, k=4096)), first=False)
    assert (fakes.scored(1.1, k=4096).score, (1.0, 1.1)) == (fuller.score, fuller.scores)


def test_a_baseline_whose_further_trial_was_not_alone_is_kept() -> None:
    """Repeat: by its first score; no third trial follows."""
    shared = replace(fakes.scored(9.0), contended_by="bob")
    decision = decide(attempt(fakes.scored(2.0), shared, parent_id=None), History())

    assert (Status.KEEP, (2.0,)) == (decision.verdict.status, decision.trial.scores)
    assert 2 == len(decision.trial.executions)


def choose_among_equals(rules: Rules, changes: int = 60) -> tuple[int, float]:
    """Return how many of so many changes that change nothing are kept, and how far the champion is from the truth."""
    chance, keeps = random.Random(7), 0  # noqa: S311 - no secret
    past = history(kept(2.0 + chance.gauss(0, 0.01)))
    for number in range(1, changes):
        trials = [fakes.scored(2.0 + chance.gauss(0, 0.01))]
        while isinstance(step := policy.next_step(attempt(*trials, id=number), past, rules), Rerun):
            trials.append(fakes.scored(2.0 + chance.gauss(0, 0.01)))
        scores = step.trial.scores
        one = kept(scores[0], id=number, status=step.verdict.status, repeat_scores=scores, parent_id=0)
        learnt = policy.learn(past.estimates.get(HERE), one) if not rules.noise.is_off else None
        is_kept = one.status is Status.KEEP
        past = replace(
            past,
            kept=(*past.kept, one) if is_kept else past.kept,
            estimates={HERE: learnt} if learnt is not None else {},
        )
        keeps += is_kept
    assert past.champion is not None
    return keeps, abs(2.0 - past.champion.value)


def test_estimates_keep_less_luck() -> None:
    """Repeat: and the champion's estimate is nearer to the truth than the lowest score."""
    keeps, error = choose_among_equals(replace(RULES, noise=OFF))
    fewer, smaller = choose_among_equals(RULES)

    assert fewer < keeps
    assert smaller < 0.7 * error


# ---- doubt


def experiment(number: int, value: float | None, status: Status = Status.KEEP) -> Experiment:
    """Return one of a run's history."""
    score = None if value is None else Score(value=value, level=Level.L2)
    return Experiment(
        id=number, parent_id=None, status=status, reason="", hypothesis="", expected_effect="", proposer="", model="",
        score=score, message="", source_sha256="", started_at="", duration_s=1.0, train_s=1.0, usage=Usage(), attempt=1,
        folder=Path(),
    )  # fmt: skip


def trained(value: float, **trainer: object) -> Trial:
    """Return a scored trial whose trainer did what a training does, or did not."""
    usual = {"duration_s": 24.0, "cpu_s": 40.0}
    execution = fakes.execution(Role.TRAINER, **(usual | trainer))
    score = Score(value=value, level=Level.L2)
    return Trial(executions=(execution,), score=score, failure=None, message="")


STEADY = [experiment(n, v) for n, v in enumerate((2.40, 2.37, 2.36, 2.33))]
BEST = Champion(experiment=STEADY[-1], scores=(2.33,), conditions=HERE)


def settle(second: Trial, first: Trial | None = None) -> Decision:
    """Return the decision after the trial that had to settle a doubt."""
    one = attempt(first or trained(1.0), second, suspicion="why")
    return decide(one, History(kept=tuple(STEADY)))


@pytest.mark.parametrize("value", [2.329, 2.30, 2.25])
def test_a_gain_like_those_before_is_believed(value: float) -> None:
    """Doubt: up to four times the usual gain."""
    assert "" == policy.suspect(trained(value), BEST, STEADY, RULES)


@pytest.mark.parametrize("value", [2.15, 1.0, 0.02])
def test_a_jump_far_beyond_the_history_is_doubted(value: float) -> None:
    """Doubt: the reason names the gain and what is usual; the next trial has to settle it."""
    step = policy.next_step(attempt(trained(value)), History(kept=tuple(STEADY)), replace(RULES, noise=OFF))

    assert "far beyond" in policy.suspect(trained(value), BEST, STEADY, RULES)
    assert isinstance(step, Rerun)
    assert (2, value, True) == (step.at_most, step.mean_so_far, "far beyond" in step.suspicion)


def test_without_a_history_only_a_huge_jump_is_doubted() -> None:
    """Doubt: the first steps from a careless baseline are large."""
    first = [experiment(0, 2.40)]
    best = Champion(experiment=first[0], scores=(2.40,), conditions=HERE)

    assert "" == policy.suspect(trained(2.20), best, first, RULES)
    assert policy.suspect(trained(1.90), best, first, RULES)


def test_the_usual_gain_is_the_median_between_kept_experiments() -> None:
    """Doubt: 0.03, 0.01 and 0.03 here; it is not known before three gains, and history has kept ones only."""
    assert pytest.approx(0.03) == policy.median_gain(STEADY)
    assert 0.0 == policy.median_gain(STEADY[:3])


def test_a_score_without_a_training_is_doubted() -> None:
    """Doubt: a trainer that ended at once, or used no processor, did not train what was scored."""
    assert "took 0.9 s" in policy.suspect(trained(2.32, duration_s=0.9), BEST, STEADY, RULES)
    assert "processor" in policy.suspect(trained(2.32, cpu_s=0.1), BEST, STEADY, RULES)
    assert "" == policy.suspect(trained(2.32, cpu_s=None), BEST, STEADY, RULES)


@pytest.mark.parametrize(("used", "doubted"), [(False, True), (True, False), (None, False)])
def test_a_training_without_its_gpu_is_doubted(used: bool | None, doubted: bool) -> None:
    """Doubt: where a GPU was given and seen to be idle; nobody looks for one on a cpu."""
    found = policy.suspect(replace(trained(2.32), gpu_used=used), BEST, STEADY, RULES)

    assert doubted is ("never used the GPU" in found)


def test_a_doubt_is_settled_by_another_seed() -> None:
    """Doubt: kept if the second training is better than the champion too, discarded if not; a refusal is a refusal."""
    assert Status.KEEP is settle(trained(1.1)).verdict.status
    assert Status.DISCARD is settle(trained(2.33)).verdict.status
    assert Status.DISCARD is settle(trained(2.5)).verdict.status
    assert Status.CHEAT is settle(fakes.broken(Status.CHEAT)).verdict.status
    assert Status.CRASH is settle(fakes.broken(Status.CRASH)).verdict.status


def test_a_failure_of_the_sandbox_is_not_blamed_on_a_doubtful_change() -> None:
    """Doubt: an engine that died while it was trained again has it queued again; so have other users of the device."""
    assert Status.INFRA is settle(fakes.broken(Status.INFRA)).verdict.status
    assert Status.CONTENDED is settle(replace(trained(1.0), contended_by="bob")).verdict.status


@pytest.mark.parametrize(("first", "second", "counts"), [(1.0, 1.1, 1.1), (1.1, 1.0, 1.1), (1.0, 2.5, 2.5)])
def test_the_worse_score_of_a_doubtful_change_counts(first: float, second: float, counts: float) -> None:
    """Doubt: and the executions of both trials are on record."""
    one = settle(trained(second), trained(first)).trial

    assert (counts,) == one.scores
    assert 2 == len(one.executions)


def test_a_cheat_that_settles_a_doubt_needs_review() -> None:
    """Doubt: as any cheat; a crash does not."""
    assert settle(fakes.broken(Status.CHEAT)).verdict.needs_review
    assert not settle(fakes.broken(Status.CRASH)).verdict.needs_review


# ---- remeasure


@pytest.mark.parametrize(("hardware", "due"), [("", False), ("H100", True)])
def test_the_champion_is_measured_again_where_it_never_ran(hardware: str, due: bool) -> None:
    """Remeasure: at once, and nowhere else."""
    assert due is policy.is_remeasurement_due(champion(2.0), Conditions(hardware))


@pytest.mark.parametrize("value", [2.01, 1.5, 2.9])
def test_a_remeasurement_is_never_kept(value: float) -> None:
    """Remeasure: its reason has the mean now and over all trials."""
    verdict = decide(attempt(fakes.scored(value), remeasures_id=0), history(kept(2.0))).verdict
    over = f"{value:.6f} now, {(2.0 + value) / 2:.6f} over 2 trials"

    assert (Status.DISCARD, f"experiment 0 once more: {over}") == (verdict.status, verdict.reason)


def test_a_remeasurement_is_compared_with_what_it_measured_again() -> None:
    """Remeasure: also where another experiment has become the champion meanwhile."""
    past = history(kept(2.0), kept(1.5, id=1))
    verdict = decide(attempt(fakes.scored(2.01), remeasures_id=0), past).verdict

    assert "experiment 0 once more: 2.010000 now, 2.005000 over 2 trials" == verdict.reason


# ---- champion


@given(st.lists(VALUES, min_size=1, max_size=6, unique=True))
def test_the_champion_is_the_lowest_mean_of_those_kept(values: list[float]) -> None:
    """Champion: measuring it again changes its mean, and may make another one the champion."""
    all_kept = [kept(value, id=number) for number, value in enumerate(values)]
    best = choose_champion(all_kept, [])
    assert best is not None
    worse = kept(9.0, id=99, status=Status.DISCARD, remeasures_id=best.id)
    now = choose_champion(all_kept, [worse])

    assert min(values) == best.value
    assert now is not None
    means = [*(v for v in values if v != best.value), (min(values) + 9.0) / 2]
    assert min(means) == pytest.approx(now.value)


def test_later_trials_undo_a_keep() -> None:
    """Champion: a kept one that turns out worse makes room for a better one, and may come back."""
    lucky = history(kept(2.0), kept(1.9, id=1, parent_id=0), std=0.05)
    learnt = lucky.estimates[HERE]
    for score in (2.1, 2.1, 2.1, 2.1):
        learnt = learnt.repeat(1, score)
    fallen = replace(lucky, estimates={HERE: learnt})
    for score in (1.8,) * 6:
        learnt = learnt.repeat(1, score)

    found = [past.champion for past in (lucky, fallen, replace(lucky, estimates={HERE: learnt}))]
    assert [1, 0, 1] == [getattr(best, "id", None) for best in found]


def test_the_champions_score_is_its_estimate() -> None:
    """Champion: not the lucky trial that it was kept for; and the mean of its trials where nothing is estimated."""
    past = history(kept(2.0), kept(1.8, id=1, parent_id=0), std=0.1)

    assert past.champion is not None
    assert 1.8 < past.champion.value < 2.0
    assert 1.8 == getattr(replace(past, estimates={}).champion, "value", None)


def test_scores_of_other_hardware_do_not_count() -> None:
    """Champion: the newest experiment says which counts; what was kept elsewhere counts once it was measured here."""
    elsewhere, here = kept(1.0, id=0, hardware="H100"), kept(2.0, id=1, hardware="A100")
    again = kept(1.5, id=2, hardware="A100", status=Status.DISCARD, remeasures_id=0)
    before, now = choose_champion([elsewhere, here], []), choose_champion([elsewhere, here], [again])

    assert 1 == getattr(before, "id", None)
    assert (0, 1.5) == (getattr(now, "id", None), getattr(now, "value", None))
    assert Conditions("A100") == getattr(now, "conditions", None)


def test_there_is_no_champion_before_something_is_kept() -> None:
    """Champion: None; nor is one known where nothing kept has a score."""
    assert choose_champion([], []) is None
    assert choose_champion([kept(1.0)], [kept(1.0, id=1, hardware="H100", remeasures_id=7)]) is None


# ---- invalidate


LINE = (kept(2.0), kept(1.9, id=1, parent_id=0), kept(1.8, id=2, parent_id=1), kept(1.7, id=3, parent_id=0))


def test_a_cheat_is_not_kept_any_more_nor_are_its_descendants() -> None:
    """Invalidate: all along the line, with the reason; the others stay."""
    itself = Revision(experiment_id=1, status=Status.CHEAT, reason="it cheated on the holdout")
    child = Revision(
        experiment_id=2, status=Status.DISCARD, reason="it descends from experiment 1, which cheated on the holdout"
    )

    assert (itself, child) == policy.invalidate(1, LINE, "on the holdout")
    assert [0, 1, 2, 3] == [one.experiment_id for one in policy.invalidate(0, LINE, "on the holdout")]
    assert () == policy.invalidate(7, LINE, "on the holdout")


def test_only_a_remeasurement_that_cheats_invalidates() -> None:
    """Invalidate: neither another failure of it, nor an idea that cheats; the reason names the experiment."""
    cheat, past = fakes.broken(Status.CHEAT), History(kept=LINE)
    caught = decide(attempt(cheat, remeasures_id=1, parent_id=1), past).revisions

    assert [(1, Status.CHEAT), (2, Status.DISCARD)] == [(one.experiment_id, one.status) for one in caught]
    assert "it cheated when it was measured again, in experiment 9" == caught[0].reason
    assert () == decide(attempt(fakes.broken(Status.OOM), remeasures_id=1, parent_id=1), past).revisions
    assert () == decide(attempt(cheat, parent_id=1), past).revisions


@pytest.mark.parametrize(("value", "expected"), [(60.0, Status.KEEP), (40.0, Status.DISCARD)])
def test_where_higher_is_better_a_higher_score_is_kept(value: float, expected: Status) -> None:
    """The same rule, on the negative; the reason has the scores as they are."""
    score = Score(value=50.0, level=Level.L1, higher_is_better=True)
    baseline = kept(50.0, id=0, score=score)
    new = replace(fakes.scored(value), score=replace(score, value=value))
    rules = Rules(noise=OFF, time_budget_s=BUDGET_S)
    first = attempt(new, conditions=baseline.conditions)
    found = policy.next_step(first, History(kept=(baseline,)), rules)
    if isinstance(found, Rerun):  # a large gain is doubted, and holds
        found = policy.next_step(
            replace(first, trials=(new, new), suspicion=found.suspicion), History(kept=(baseline,)), rules
        )

    assert isinstance(found, Decision)
    assert expected is found.verdict.status
    assert "-" not in found.verdict.reason


@pytest.mark.parametrize(("second", "expected"), [(50.0, Status.KEEP), (50.000001, Status.CRASH)])
def test_a_metric_without_noise_is_checked_once(second: float, expected: Status) -> None:
    """The baseline is scored twice; where both differ the key and its mend are named."""
    rules = Rules(noise=OFF, time_budget_s=BUDGET_S, is_exact=True)
    trials = fakes.scored(50.0), fakes.scored(second)
    first = policy.next_step(attempt(trials[0], parent_id=None, id=0), History(), rules)
    last = policy.next_step(attempt(*trials, parent_id=None, id=0), History(), rules)

    assert isinstance(first, Rerun)
    assert isinstance(last, Decision)
    assert expected is last.verdict.status
    assert expected is Status.KEEP or 'noise = "measured"' in last.verdict.reason


def test_a_large_gain_of_a_metric_without_noise_is_kept_at_once() -> None:
    """Another trial would only have the same score."""
    rules = Rules(noise=OFF, time_budget_s=BUDGET_S, is_exact=True)
    baseline = kept(50.0)
    one = attempt(fakes.scored(5.0), conditions=baseline.conditions)

    assert Status.KEEP is decide(one, History(kept=(baseline,)), rules).verdict.status
    assert isinstance(policy.next_step(one, History(kept=(baseline,)), replace(rules, is_exact=False)), Rerun)
