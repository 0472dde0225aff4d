"""When a change is kept: the rule of orchestrator/policy.py, section by section."""

import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import policy
from orchestrator.events import Revision
from orchestrator.policy import Attempt, Decision, History, Rerun, Rules, choose_champion, judge, merge_trials
from orchestrator.settings import Noise
from orchestrator.types import Champion, Experiment, Level, Role, Score, Status, Trial, Usage, Verdict
from tests.support import fakes
from tests.support.journals import kept

NOISE = Noise(baseline_runs=3, reruns=2, remeasure_every=0)
OFF = Noise(baseline_runs=1, reruns=2, remeasure_every=0)
BUDGET_S = 25.0
RULES = Rules(noise=NOISE, time_budget_s=BUDGET_S)
HERE = ("", "", "")  # hardware, image, compile cache
ALICE = "alice's python (pid 42)"
VALUES = st.floats(0.5, 5.0)
STDS = st.one_of(st.none(), st.floats(0.0, 1.0))
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
    """Return a run that kept these, with a known standard deviation between trials."""
    spread = () if std is None else (kept(2.0, repeat_scores=(2.0 - std / 2**0.5, 2.0 + std / 2**0.5)),)
    return History(kept=experiments, repeated=spread)


def decide(one: Attempt, past: History, rules: Rules = RULES) -> Decision:
    """Return a decision where one is due."""
    step = policy.next_step(one, past, rules)
    assert isinstance(step, Decision)
    return step


# ---- all of it, for changes that are neither doubted nor disturbed

SCORES = st.integers(180, 200).map(lambda n: n / 100)  # without a jump that would be doubted
IDEAS = st.lists(st.lists(SCORES, min_size=3, max_size=3), max_size=3)


def decide_plainly(baseline: list[float], ideas: list[list[float]]) -> list[tuple[str, int]]:
    """Return the status and the number of trials of each, by the rule in a few lines of its own."""
    best, best_trials, groups = statistics.fmean(baseline), 3, [baseline]
    decided = [("keep", 3)]
    for scores in ideas:
        std, trials, mean = policy.pooled_std(groups) or 0.0, 1, scores[0]
        while mean < best and trials < 3 and policy.is_within_noise(best - mean, std, trials, best_trials):
            trials += 1
            mean = statistics.fmean(scores[:trials])
        better = mean < best and (trials == 1 or statistics.fmean(scores[1:trials]) < best)
        groups += [scores[:trials]] if trials > 1 else []
        if better:
            best, best_trials = mean, trials
        decided.append(("keep" if better else "discard", trials))
    return decided


def decide_by_policy(baseline: list[float], ideas: list[list[float]]) -> list[tuple[str, int]]:
    """Return the same as the policy decides it, trial by trial."""
    past, decided = History(), list[tuple[str, int]]()
    for number, scores in enumerate([baseline, *ideas]):
        trials = [fakes.scored(scores[0])]
        while isinstance(
            step := policy.next_step(attempt(*trials, parent_id=0 if number else None), past, RULES), Rerun
        ):
            trials.append(fakes.scored(scores[len(trials)]))
        one = kept(scores[0], id=number, status=step.verdict.status, repeat_scores=step.trial.repeat_scores)
        past = replace(
            past,
            kept=(*past.kept, *([one] if one.status is Status.KEEP else [])),
            repeated=(*past.repeated, *([one] if len(trials) > 1 else [])),
        )
        decided.append((one.status.value, len(trials)))
    return decided


@given(st.lists(SCORES, min_size=3, max_size=3), IDEAS)
def test_the_policy_decides_by_the_plain_rule(baseline: list[float], ideas: list[list[float]]) -> None:
    """Same statuses and as many trials, whatever the scores."""
    assert decide_plainly(baseline, ideas) == decide_by_policy(baseline, ideas)


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


@given(VALUES, st.lists(VALUES, min_size=1, max_size=3), STDS)
def test_nothing_is_kept_unless_the_mean_holds(best: float, values: list[float], std: float | None) -> None:
    """Keep: neither on a mean that is not better than the champion's, nor on reruns that are not."""
    verdict = judge(trial(*values), champion(best), 0, std)

    if verdict.status is Status.KEEP:
        assert statistics.fmean(values) < best
        assert len(values) == 1 or statistics.fmean(values[1:]) < best


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
    whole, part = (replace(one, score=replace(one.score, tokens=tokens)) for tokens in (256, 257))

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
    past, elsewhere = history(kept(2.0)), ("H100", "", "")
    gain = decide(attempt(fakes.scored(1.0), conditions=elsewhere), past).verdict
    crash = decide(attempt(fakes.broken(Status.CRASH), conditions=elsewhere), past).verdict
    rules = replace(RULES, noise=OFF)
    again = decide(attempt(fakes.scored(1.0), conditions=elsewhere, remeasures_id=0), past, rules).verdict

    assert (Status.CONTENDED, Status.CRASH, Status.DISCARD) == (gain.status, crash.status, again.status)
    assert "not judged: its device, image or compile cache is not the champion's" == gain.reason


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


def test_the_noise_of_other_conditions_is_not_known_here() -> None:
    """Noise: each hardware, image and compile cache has its own."""
    past = history(kept(2.0), std=0.1)

    assert pytest.approx(0.1) == past.seed_std(HERE)
    assert past.seed_std(("H100", "", "")) is None


# ---- rerun


def test_the_baseline_runs_until_its_noise_is_known() -> None:
    """Rerun: as often as the settings say, and once where the gate is off."""
    assert 3 == policy.trials_needed(trial(2.0), None, None, NOISE, None)
    assert 3 == policy.trials_needed(trial(2.0, 2.1, 2.2), None, None, NOISE, None)
    assert 1 == policy.trials_needed(trial(2.0), None, None, OFF, None)


@given(VALUES, st.lists(VALUES, min_size=1, max_size=6), STDS)
def test_a_candidate_never_runs_more_often_than_allowed(best: float, values: list[float], std: float | None) -> None:
    """Rerun: whatever it scores, and once if it is not better."""
    wanted = policy.trials_needed(trial(*values), champion(best), std, NOISE, None)

    assert wanted <= max(len(values), 1 + NOISE.reruns)
    if statistics.fmean(values) >= best:
        assert len(values) == wanted


def test_only_a_gain_that_luck_may_explain_runs_again() -> None:
    """Rerun: within two standard errors of the difference; while the noise is not known, any gain may be luck."""
    best = champion(2.0)

    assert 3 == policy.trials_needed(trial(1.99), best, 0.01, NOISE, None)
    assert 1 == policy.trials_needed(trial(1.90), best, 0.01, NOISE, None)
    assert 3 == policy.trials_needed(trial(1.90), best, None, NOISE, None)
    assert 1 == policy.trials_needed(trial(2.01), best, 0.01, NOISE, None)


def test_a_gain_within_the_audits_error_does_not_run_again() -> None:
    """Rerun: more trials would not show it either."""
    one = trial(1.99)
    assert one.score is not None
    unclear = replace(one, score=replace(one.score, standard_error=0.006))

    assert 1 == policy.trials_needed(unclear, champion(2.0), 0.01, NOISE, None)


def test_a_trial_without_a_score_or_beside_others_does_not_run_again() -> None:
    """Rerun: the attempt is over."""
    assert 0 == policy.trials_needed(fakes.broken(Status.CRASH), None, None, NOISE, None)
    assert 1 == policy.trials_needed(replace(trial(2.0), contended_by="bob"), None, None, NOISE, None)


def test_a_rerun_says_what_is_known_so_far() -> None:
    """Rerun: at most how many trials, the mean, and no suspicion; after the last one there is a verdict."""
    past = history(kept(2.0), std=0.1)
    first, second, third = fakes.scored(1.95), fakes.scored(1.85), fakes.scored(1.84)

    assert Rerun(at_most=3, mean_so_far=1.95) == policy.next_step(attempt(first), past, RULES)
    assert Rerun(at_most=3, mean_so_far=statistics.fmean([1.95, 1.85])) == policy.next_step(
        attempt(first, second), past, RULES
    )
    decision = decide(attempt(first, second, third), past)
    assert (Status.KEEP, (1.95, 1.85, 1.84)) == (decision.verdict.status, decision.trial.scores)


def test_a_lucky_first_trial_is_told_from_progress() -> None:
    """Rerun: the trials that were not selected decide, and the reason says so."""
    lucky = judge(trial(1.8, 2.01, 2.02), champion(2.0), 0, 0.2)
    real = judge(trial(1.8, 1.9, 1.8), champion(2.0), 0, 0.2)

    assert (Status.DISCARD, Status.KEEP) == (lucky.status, real.status)
    assert "the first trial was luck" in lucky.reason
    assert "over 3 trials" in real.reason


def test_a_gain_within_the_noise_is_not_kept_where_nothing_may_run_again() -> None:
    """Rerun: with `reruns = 0` luck is never kept."""
    assert Status.DISCARD is judge(trial(1.95), champion(2.0), 0, 0.1).status
    assert Status.KEEP is judge(trial(1.5), champion(2.0), 0, 0.1).status


def test_a_gate_that_is_off_judges_by_no_noise() -> None:
    """Rerun: with `baseline_runs = 1` every strict gain is kept at once, though the noise is known."""
    past, one = history(kept(2.0), std=0.1), attempt(fakes.scored(1.99))

    assert isinstance(policy.next_step(one, past, RULES), Rerun)
    assert Status.KEEP is decide(one, past, replace(RULES, noise=OFF)).verdict.status


def test_a_gain_with_too_small_an_audit_runs_again_in_full() -> None:
    """Rerun: once, also where the gate is off, and kept with the larger audit; data that is audited whole suffices."""
    past, rules = history(kept(2.0)), Rules(noise=OFF, time_budget_s=BUDGET_S, needed_k=2048)
    small, large = fakes.scored(1.9, k=256), fakes.scored(1.9, k=2048)
    assert small.score is not None
    whole = replace(small, score=replace(small.score, tokens=256))

    assert Rerun(at_most=2, mean_so_far=1.9) == policy.next_step(attempt(small), past, rules)
    assert Status.KEEP is decide(attempt(small, large), past, rules).verdict.status
    assert "audited at 256 positions only" in decide(attempt(small, small), past, rules).verdict.reason
    assert Status.DISCARD is decide(attempt(fakes.scored(2.1, k=256)), past, rules).verdict.status
    assert Status.KEEP is decide(attempt(whole), past, rules).verdict.status


def test_a_further_trial_that_fails_fails_the_whole() -> None:
    """Rerun: with its own reason; a first score of a run counts although a further trial was not alone."""
    shared = replace(trial(2.0), contended_by="bob")

    assert Status.CRASH is merge_trials((trial(1.0), fakes.broken(Status.CRASH)), first=True).failure
    assert "bob" == merge_trials((trial(1.0), shared), first=False).contended_by
    assert (1.0,) == merge_trials((trial(1.0), shared), first=True).scores
    assert (1.0, 2.0) == merge_trials((trial(1.0), trial(2.0)), first=False).scores
    assert 2 == len(merge_trials((trial(1.0), trial(2.0)), first=False).executions)
    fuller = merge_trials((fakes.scored(1.0, k=256), fakes.scored(1.1, k=4096)), first=False)
    assert (fakes.scored(1.1, k=4096).score, (1.0, 1.1)) == (fuller.score, fuller.scores)


def test_a_baseline_whose_further_trial_was_not_alone_is_kept() -> None:
    """Rerun: by its first score; no third trial follows."""
    shared = replace(fakes.scored(9.0), contended_by="bob")
    decision = decide(attempt(fakes.scored(2.0), shared, parent_id=None), History())

    assert (Status.KEEP, (2.0,)) == (decision.verdict.status, decision.trial.scores)
    assert 2 == len(decision.trial.executions)


def choose_among_equals(noise: Noise, std: float | None, changes: int = 300) -> tuple[int, float]:
    """Return how many of so many changes that change nothing are kept, and how far the champion is from the truth."""
    chance, keeps = random.Random(7), 0  # noqa: S311 - no secret
    best = champion(2.0)
    for number in range(1, changes):
        now = trial(2.0 + chance.gauss(0, 0.01))
        while len(now.scores) < policy.trials_needed(now, best, std, noise, None):
            now = merge_trials((now, trial(2.0 + chance.gauss(0, 0.01))), first=False)
        if judge(now, best, 0, std).status is Status.KEEP:
            best, keeps = champion(*now.scores, id=number), keeps + 1
    return keeps, abs(2.0 - best.value)


def test_the_gate_keeps_less_luck() -> None:
    """Rerun: and the champion's score is nearer to the truth, though nothing was measured again yet."""
    keeps, error = choose_among_equals(OFF, None)
    gated_keeps, gated_error = choose_among_equals(NOISE, 0.01)

    assert gated_keeps < keeps
    assert gated_error < 0.7 * error


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


def test_the_champion_on_new_hardware_runs_until_the_noise_there_is_known() -> None:
    """Remeasure: and once where it is known."""
    assert 3 == policy.trials_needed(trial(2.0), champion(2.0), None, NOISE, 0)
    assert 1 == policy.trials_needed(trial(1.9), champion(2.0), 0.5, NOISE, 0)


@pytest.mark.parametrize(
    ("hardware", "judged", "every", "due"),
    [("", 20, 20, True), ("", 19, 20, False), ("", 99, 0, False), ("H100", 0, 0, True)],
)
def test_the_champion_is_measured_again_now_and_then(hardware: str, judged: int, every: int, due: bool) -> None:
    """Remeasure: every so many experiments, never with 0, and at once where it has no score."""
    noise = Noise(baseline_runs=3, reruns=2, remeasure_every=every)

    assert due is policy.is_remeasurement_due(champion(2.0), (hardware, "", ""), judged, noise)


@pytest.mark.parametrize(("value", "outcome"), [(2.01, "holds"), (1.5, "holds"), (2.9, "did not hold")])
def test_a_remeasurement_is_never_kept_and_says_whether_the_champion_holds(value: float, outcome: str) -> None:
    """Remeasure: its reason has the mean now and over all trials."""
    verdict = decide(attempt(fakes.scored(value), remeasures_id=0), history(kept(2.0), std=0.1)).verdict
    over = f"{value:.6f} now, {(2.0 + value) / 2:.6f} over 2 trials"

    assert (Status.DISCARD, f"experiment 0 {outcome}: {over}") == (verdict.status, verdict.reason)


def test_a_remeasurement_is_compared_with_what_it_measured_again() -> None:
    """Remeasure: also where another experiment has become the champion meanwhile."""
    past = history(kept(2.0), kept(1.5, id=1), std=0.1)
    verdict = decide(attempt(fakes.scored(2.01), remeasures_id=0), past).verdict

    assert "experiment 0 holds: 2.010000 now, 2.005000 over 2 trials" == verdict.reason


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


def test_scores_of_other_hardware_do_not_count() -> None:
    """Champion: the newest experiment says which counts; what was kept elsewhere counts once it was measured here."""
    elsewhere, here = kept(1.0, id=0, hardware="H100"), kept(2.0, id=1, hardware="A100")
    again = kept(1.5, id=2, hardware="A100", status=Status.DISCARD, remeasures_id=0)
    before, now = choose_champion([elsewhere, here], []), choose_champion([elsewhere, here], [again])

    assert 1 == getattr(before, "id", None)
    assert (0, 1.5) == (getattr(now, "id", None), getattr(now, "value", None))
    assert ("A100", "", "") == getattr(now, "conditions", None)


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
