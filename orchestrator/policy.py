"""When is a change kept? Pure: no I/O, no clock, no randomness.

The score of one source differs from trial to trial: by its seed, and by what the machine does. So a change is not kept
for its score, but for its estimated gain: estimates.py takes from all trials of the run, of every source, what the
machine's drift and other users explain, and says with which probability a source is better than the champion. What is
claimed of a run is another question, and has another answer: a duel (duels.py). A score's sign makes a cost of it, of
which the lower is better, whatever the direction of the task's metric.

Keep        A gain that is more likely than not, by more than a tenth of seed noise and by more than the audits leave
            open, and audited as a champion must be. The reason says how sure it is. Without a champion the first score
            is kept: the baseline, after one trial.
Discard     Every other score, and every score of a child of an experiment that was invalidated.
Not judged  A trial beside other users of the device, or under other conditions than the champion's: `contended`. A
            trial without a score has the status of its failure; code that cheated is `cheat` whoever used the device.
Repeat      A challenger runs again with another seed where one more trial of it is expected to bring more than a trial
            of a new idea does, four trials at most. A gain with too small an audit runs again with a full one.
Doubt       A gain that is hard to believe is run again and audited in full; the worse of both scores counts.
Champion    The kept experiment with the best estimate under the conditions of the newest experiment. Later trials, its
            children's too, may undo a keep: then the kept one with the best estimate is the champion once more.
Remeasure   The champion is measured again at once under conditions where it has no score.
Classes     On a cluster of several classes of hardware each has a champion of its own, which starts as the run's
            champion, measured there. Nothing is compared across classes; the run's champion is that of its own class.
Duel        At the end of a session the champion against the baseline, then changes in doubt against the files they were
            made to, as far as a tenth of the device time and `claim_hours` allow. Duels claim; they keep nothing.
Removal     A change of the champion in which a duel found no gain is taken out once: an experiment as any other.
Threshold   Where the task has one, every score that reaches it is kept, whatever the champion has, and the next
            proposal begins with the newest kept file, not with the champion. Every view names both.
Invalidate  A kept experiment that cheats when it is measured again, in a duel or on the holdout is not kept any more,
            nor are its descendants.

With `[noise] rule = "lowest"` every strictly better score is kept at once, as upstream does: for scores without noise.
Where a task says that its metric has none, its baseline is scored twice, and must have the same score twice.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean, median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.events import Revision
from orchestrator.text import counted
from orchestrator.types import (
    Champion,
    Conditions,
    DuelOutcome,
    Experiment,
    Gain,
    MachineLoad,
    Score,
    Status,
    Trial,
    Verdict,
)

if TYPE_CHECKING:  # numpy and pydantic's models are slow to import
    from orchestrator.estimates import Estimates
    from orchestrator.settings import Noise

ESTIMATE = "estimate"  # the rule of keeping
EVEN = 0.5  # the probability above which a challenger becomes the champion
SURE = 0.85  # and below which every view calls a kept change in doubt
MOST_TRIALS = 4  # of one challenger
STANDARD_ERRORS = 2.0  # of the audits; a smaller gain may be theirs
JUMP = 4.0  # times the median gain of the run
FIRST_JUMP = 0.15  # share of the baseline's score, while the run has too few gains
GAINS_FOR_MEDIAN = 3
LEAST_TRAINING_SHARE = 0.1  # of the time budget
LEAST_CPU_S = 1.0  # starting Python and torch alone takes longer
Numbers = Any  # a number, or an array of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that decide."""

    noise: "Noise"
    time_budget_s: float
    needed_k: int = 0  # audited positions of a new champion
    threshold: float | None = None  # where every score that reaches it is kept
    is_exact: bool = False  # the task says that its metric has no noise


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the verdicts of a run depend on; oldest first."""

    kept: tuple[Experiment, ...] = ()
    remeasurements: tuple[Experiment, ...] = ()  # judged repeats of kept ones
    repeated: tuple[Experiment, ...] = ()  # with several trials: what is known of the noise
    invalidated: Mapping[int, str] = field(default_factory=dict)  # the reason, for each that is not kept any more
    estimates: Mapping[Conditions, "Estimates"] = field(
        default_factory=dict
    )  # empty under the rule of the lowest score
    threshold: float | None = None  # where every score that reaches it is kept
    home: str = ""  # the session's own class of hardware
    away: frozenset[int] = frozenset()  # experiments that ran on another class than their session's own

    @property
    def champion(self) -> Champion | None:
        """Return the best kept experiment, by all trials under the conditions of the newest in the run's own class."""
        return choose_champion(self.kept, self.remeasurements, self.estimates, self.away)

    def champion_of_class(self, conditions: Conditions) -> Champion | None:
        """Return the best one to compare with on a class of hardware; None where another class has to start."""
        if not self.is_away(conditions.hardware):
            return self.champion
        return self._find_best(conditions)

    def champions_away(self) -> tuple[Champion, ...]:
        """Return the best of each other class of hardware of the run, under the newest conditions there."""
        measured = sorted((*self.kept, *self.remeasurements), key=lambda e: e.id)
        newest = {e.hardware: e.conditions for e in measured if e.id in self.away}
        own = self.champion.conditions.hardware if self.champion else ""
        found = (self._find_best(newest[hardware]) for hardware in sorted(newest) if hardware != own)
        return tuple(champion for champion in found if champion)

    def is_away(self, hardware: str) -> bool:
        """Return whether a class of hardware is another one than the session's own."""
        return bool(self.home and hardware and hardware != self.home)

    def was_measured(self, experiment_id: int, conditions: Conditions) -> bool:
        """Return whether a kept experiment has a score under these conditions."""
        measured = (*self.kept, *self.remeasurements)
        return any(e.conditions == conditions and experiment_id in (e.id, e.remeasures_id) for e in measured)

    def _find_best(self, conditions: Conditions) -> Champion | None:
        return find_best(conditions, self.kept, self.remeasurements, self.estimates)

    @property
    def parent(self) -> Champion | None:
        """Return what the next proposal begins with: the champion; where a threshold decides, the newest kept one."""
        if self.threshold is None or not self.kept:
            return self.champion
        newest = next((e for e in reversed(self.kept) if e.id not in self.away), self.kept[-1])
        return make_champion(newest)

    def parent_of_class(self, conditions: Conditions) -> Champion | None:
        """Return what a proposal for a class of hardware begins with; None where another class has to start."""
        if not self.is_away(conditions.hardware):
            return self.parent
        newest = next((e for e in reversed(self.kept) if e.conditions == conditions), None)
        if self.threshold is None or newest is None:
            return self._find_best(conditions)
        return make_champion(newest)

    def level(self, experiment: Experiment, conditions: Conditions) -> float | None:
        """Return the estimated score of a kept experiment; None where nothing is estimated or it is forgotten."""
        known = self.estimates.get(conditions)
        return experiment.sign * known.level(experiment.id)[0] if known and known.knows(experiment.id) else None

    def why_invalid(self, experiment_id: int | None) -> str:
        """Return why an experiment is not kept any more; "" if it is, or was never kept."""
        return "" if experiment_id is None else self.invalidated.get(experiment_id, "")

    def seed_std(self, conditions: Conditions) -> float | None:
        """Return the standard deviation between trials of one source; None if it is not known yet."""
        if conditions in self.estimates:
            known = self.estimates[conditions]
            return known.trial_sd if known.knows_noise else None
        return self._scores_std(conditions)

    def trial_std(self, conditions: Conditions) -> float | None:
        """Return the same with the machine's load in it, as scores themselves have it; None if it is not known yet."""
        known = (self.seed_std(conditions), self._scores_std(conditions))
        return max((std for std in known if std is not None), default=None)

    def _scores_std(self, conditions: Conditions) -> float | None:
        return pooled_std(e.scores for e in self.repeated if e.conditions == conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An experiment that has just ended a trial."""

    id: int
    trials: tuple[Trial, ...]  # in order; the last one has just ended
    conditions: Conditions
    parent_id: int | None = None
    remeasures_id: int | None = None  # the kept experiment that it measures again
    suspicion: str = ""  # why its last trial had to settle a doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """One more trial with another seed."""

    at_most: int  # trials in all, as far as is known now
    mean_so_far: float
    suspicion: str = ""  # why the score is hard to believe; the trial is audited in full and settles it


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict, and the trial that all trials of the experiment amount to."""

    trial: Trial
    verdict: Verdict
    revisions: tuple[Revision, ...] = ()


def next_step(  # noqa: C901, PLR0911  # one return per rule, in order
    attempt: Attempt, history: History, rules: Rules
) -> Rerun | Decision:
    """Return what follows from the attempt's last trial."""
    champion = history.champion_of_class(attempt.conditions) or history.champion
    rival = find_rival(attempt, history.kept, champion)
    trial = merge_trials(attempt.trials, first=rival is None)
    if trial.score and (why := history.why_invalid(attempt.parent_id)):
        reason = f"its parent, experiment {attempt.parent_id}, has since been invalidated: {why}"
        return Decision(trial=trial, verdict=Verdict(status=Status.DISCARD, reason=reason))
    if trial.score and champion and attempt.remeasures_id is None and attempt.conditions != champion.conditions:
        change = champion.conditions.describe_change(attempt.conditions)
        reason = f"not judged under other conditions than the champion: {change}"
        return Decision(trial=trial, verdict=Verdict(status=Status.CONTENDED, reason=reason))
    if rules.threshold is not None and champion and trial.score and attempt.remeasures_id is None:
        return Decision(trial=trial, verdict=compare_with_threshold(trial, trial.score, rules.threshold))
    if champion is None and rules.is_exact and trial.score and not trial.contended_by:
        if len(attempt.trials) == 1:
            return Rerun(at_most=2, mean_so_far=trial.score.value)
        if len(set(trial.scores)) > 1:
            return Decision(trial=replace(trial, score=None, repeat_scores=()), verdict=describe_noise(trial.scores))
    estimates = None if rules.noise.is_off else history.estimates.get(attempt.conditions)
    if attempt.suspicion and champion:
        return settle_doubt(attempt, champion, estimates)
    gain = estimate_gain(estimates, attempt, champion, attempt.trials)
    if gain is not None and is_owed_a_trial(gain, attempt, trial):
        return Rerun(at_most=MOST_TRIALS, mean_so_far=fmean(trial.scores))
    if need_audit(attempt, trial, rival, rules.needed_k, gain):
        return Rerun(at_most=len(attempt.trials) + 1, mean_so_far=fmean(trial.scores))
    verdict = judge(trial, rival, rules.needed_k, gain, attempt.remeasures_id)
    is_news = verdict.status is Status.KEEP and not rules.is_exact  # without noise it would have the same score again
    why = suspect(trial, rival, history.kept, rules, gain) if rival and is_news else ""
    if why:
        return Rerun(at_most=len(attempt.trials) + 1, mean_so_far=fmean(trial.scores), suspicion=why)
    return Decision(trial=trial, verdict=verdict, revisions=revise(attempt, verdict, history.kept))


def judge(  # noqa: C901, PLR0911  # one return per rule, in order
    trial: Trial, champion: Champion | None, needed_k: int, gain: Gain | None, remeasures_id: int | None = None
) -> Verdict:
    """Return keep only for a likely gain, audited as a new champion must be; without estimates for a lower score."""
    if trial.failure is Status.CHEAT:  # whoever used the device too: that may be code that broke out
        return describe_failure(trial)
    if trial.contended_by:
        return Verdict(status=Status.CONTENDED, reason=f"not judged: {trial.contended_by} used the device too")
    if trial.score is None:
        return describe_failure(trial)
    if champion is None:
        return Verdict(status=Status.KEEP, reason="the baseline")
    if remeasures_id is not None:
        return Verdict(status=Status.DISCARD, reason=describe_remeasurement(trial, champion))
    if gain is None:
        gain = Gain.exact(champion.cost - trial.sign * fmean(trial.scores))
    than = describe_gain(gain, trial, champion)
    if gain.is_broken:  # its estimate is that of any idea
        return Verdict(status=Status.DISCARD, reason=f"not better than {than}", sure=0.0)
    if not is_better(gain.probability):
        return Verdict(status=Status.DISCARD, reason=f"not better than {than}", gain=gain.mean, sure=gain.probability)
    if is_within_audit_error(gain.mean, trial, champion):
        error = math.hypot(trial.standard_error, champion.standard_error)
        reason = f"the gain of {gain.mean:.6f} is within the standard error of the audits ({error:.1e})"
        return Verdict(status=Status.DISCARD, reason=reason, gain=gain.mean, sure=gain.probability)
    if not is_audited(trial, needed_k):
        reason = f"better, but audited at {trial.score.audited_positions} positions only"
        return Verdict(status=Status.DISCARD, reason=reason, gain=gain.mean, sure=gain.probability)
    return Verdict(
        status=Status.KEEP, reason=f"{gain.mean:.6f} better than {than}", gain=gain.mean, sure=gain.probability
    )


def describe_noise(scores: Sequence[float]) -> Verdict:
    """Return the verdict on a baseline whose metric differs from trial to trial, though its task says it does not."""
    both = " and ".join(repr(score) for score in scores)
    reason = f'task.toml says noise = "none", but two trials of the baseline scored {both}; say noise = "measured"'
    return Verdict(status=Status.CRASH, reason=reason)


def describe_gain(gain: Gain, trial: Trial, champion: Champion) -> str:
    """Return what a challenger is compared with, and how sure the comparison is."""
    over = f", over {len(trial.scores)} trials" if len(trial.scores) > 1 else ""
    than = f"the champion, {champion.value:.6f} of experiment {champion.id}{over}"
    if gain.sd == 0:
        return than
    if gain.is_broken:
        return f"{than}; far worse"
    return f"{than}: better with {gain.probability:.2f}, by {gain.mean:.2g} ± {gain.sd:.1g}"


def compare_with_threshold(trial: Trial, score: Score, threshold: float) -> Verdict:
    """Return keep for a score that reaches the task's threshold; otherwise what the scorer would have improved."""
    if trial.failure is Status.CHEAT:
        return describe_failure(trial)
    if trial.contended_by:
        return Verdict(status=Status.CONTENDED, reason=f"not judged: {trial.contended_by} used the device too")
    if score.sign * score.value <= score.sign * threshold:
        return Verdict(status=Status.KEEP, reason=f"{score.value:.6g} reaches the threshold of {threshold:g}")
    why = "; ".join((f"{score.value:.6g} does not reach the threshold of {threshold:g}", *score.reasons))
    return Verdict(status=Status.DISCARD, reason=why)


def describe_failure(trial: Trial, prefix: str = "") -> Verdict:
    """Return the verdict on a trial without a score."""
    status = trial.failure or Status.INFRA
    needs_review = trial.needs_review or status is Status.CHEAT
    return Verdict(status=status, reason=f"{prefix}{trial.message}", needs_review=needs_review)


# ---- the champion


def choose_champion(
    kept: Iterable[Experiment],
    remeasurements: Sequence[Experiment],
    estimates: Mapping[Conditions, "Estimates"] = MappingProxyType({}),
    away: Collection[int] = (),
) -> Champion | None:
    """Return the best of all kept experiments under the conditions of the newest one; None if none ran there.

    The newest one that is not `away`, on another class of hardware than its session's own, if there is one.
    """
    known = list(kept)
    if not known:
        return None
    measured = [*known, *remeasurements]
    own = [e for e in measured if e.id not in away] or measured
    return find_best(max(own, key=lambda e: e.id).conditions, known, remeasurements, estimates)


def find_best(
    now: Conditions,
    known: Sequence[Experiment],
    remeasurements: Sequence[Experiment],
    estimates: Mapping[Conditions, "Estimates"],
) -> Champion | None:
    """Return the best of the kept experiments under conditions; None if none ran there.

    By its estimate where there is one, else by the mean of its scores.
    """
    scores: dict[int, list[float]] = {e.id: [] for e in known}
    for one in (*known, *remeasurements):
        source_id = one.id if one.remeasures_id is None else one.remeasures_id
        if one.conditions == now and source_id in scores:
            scores[source_id] += one.scores
    champions = [Champion(experiment=e, scores=tuple(scores[e.id]), conditions=now) for e in known if scores[e.id]]
    if now in estimates:
        known_here, best_id = estimates[now], estimates[now].best()
        best = next((c for c in champions if c.id == best_id), None)
        if best is None:
            return None
        sign, (level, sd), to_beat = best.experiment.sign, known_here.level(best.id), known_here.expected_next(best.id)
        error = sd if known_here.knows_noise else None
        return replace(best, estimate=sign * level, estimate_sd=error, to_beat=sign * to_beat)
    return min(champions, key=lambda c: (c.cost, c.id), default=None)


def make_champion(experiment: Experiment) -> Champion:
    """Return a kept experiment as one to compare with, by its own trials alone."""
    return Champion(experiment=experiment, scores=experiment.scores, conditions=experiment.conditions)


def find_rival(attempt: Attempt, kept: Sequence[Experiment], champion: Champion | None) -> Champion | None:
    """Return what an attempt is compared with: the champion, or the kept experiment that it measures again."""
    if champion is None or attempt.remeasures_id is None:
        return champion
    rival = champion
    for one in kept:  # another experiment may have become the champion since the attempt began
        if one.id == attempt.remeasures_id != champion.id:
            rival = make_champion(one)
    return rival if rival.conditions == attempt.conditions else replace(rival, scores=())  # they do not compare


def is_remeasurement_due(champion: Champion, conditions: Conditions) -> bool:
    """Return whether the champion is to be measured again: where it never ran."""
    return champion.conditions != conditions


def describe_remeasurement(trial: Trial, champion: Champion) -> str:
    """Return what measuring the champion again shows."""
    if not champion.scores:
        return f"experiment {champion.id} once more, the first time under these conditions: {fmean(trial.scores):.6f}"
    scores = (*champion.scores, *trial.scores)
    return (
        f"experiment {champion.id} once more: {fmean(trial.scores):.6f} now, {fmean(scores):.6f} over"
        f" {counted(len(scores), 'trial')}"
    )


def revise(attempt: Attempt, verdict: Verdict, kept: Sequence[Experiment]) -> tuple[Revision, ...]:
    """Return what a remeasurement that cheated changes: the experiment that it measured again and its descendants."""
    if verdict.status is not Status.CHEAT or attempt.remeasures_id is None:
        return ()
    return invalidate(attempt.remeasures_id, kept, f"when it was measured again, in experiment {attempt.id}")


def invalidate(cheat_id: int, kept: Sequence[Experiment], where: str) -> tuple[Revision, ...]:
    """Return revisions for a kept experiment that cheated, and for every kept one that descends from it."""
    line = {cheat_id}
    for experiment in kept:  # oldest first: a parent comes before its children
        if experiment.parent_id in line:
            line.add(experiment.id)
    itself = Revision(experiment_id=cheat_id, status=Status.CHEAT, reason=f"it cheated {where}")
    reason = f"it descends from experiment {cheat_id}, which cheated {where}"
    others = (Revision(experiment_id=n, status=Status.DISCARD, reason=reason) for n in sorted(line - {cheat_id}))
    return (itself, *others) if any(e.id == cheat_id for e in kept) else ()


# ---- noise


def pooled_std(groups: Iterable[Sequence[float]]) -> float | None:
    """Return the standard deviation of one trial, pooled over groups of one source each; None if none has two."""
    squares, degrees = 0.0, 0
    for group in groups:
        mean = fmean(group)
        squares += sum((value - mean) ** 2 for value in group)
        degrees += len(group) - 1
    return math.sqrt(squares / degrees) if degrees else None


def is_within_audit_error(gain: float, trial: Trial, champion: Champion) -> bool:
    """Return whether a gain is no more than the audits of both scores leave open."""
    return gain <= STANDARD_ERRORS * math.hypot(trial.standard_error, champion.standard_error)


def is_audited(trial: Trial, needed_k: int) -> bool:
    """Return whether the audit is large enough for a champion; data with fewer positions is audited whole."""
    score = trial.score
    return score is not None and score.audited_positions >= min(needed_k, score.total_positions or needed_k)


def need_audit(attempt: Attempt, trial: Trial, champion: Champion | None, needed_k: int, gain: Gain | None) -> bool:
    """Return whether all that a would-be champion lacks is a trial with a full audit."""
    if attempt.remeasures_id is not None or is_audited(trial, needed_k) or len(attempt.trials) > MOST_TRIALS:
        return False
    was_tried = len(attempt.trials) > 1 and attempt.trials[-1].score is not None and gain is None
    return not was_tried and champion is not None and judge(trial, champion, 0, gain).status is Status.KEEP


def merge_trials(trials: Sequence[Trial], *, first: bool) -> Trial:
    """Return one trial for all; if one failed or was not alone on its device, neither was the whole.

    The score with the larger audit is that of the whole. The `first` score of a run counts although a later trial was
    not alone.
    """
    merged, *more = trials
    for trial in more:
        executions = (*merged.executions, *trial.executions)
        scores = (*merged.scores, *trial.scores)
        if trial.contended_by and first and trial.failure is not Status.CHEAT:
            merged = replace(merged, executions=executions)
        elif trial.score is None or trial.contended_by or trial.failure is Status.CHEAT:
            merged = replace(trial, executions=executions)
        else:
            larger = max(merged, trial, key=lambda one: one.score.audited_positions if one.score else 0)
            merged = replace(larger, executions=executions, repeat_scores=scores)
    return merged


# ---- estimates


def is_better(probability: Numbers) -> Numbers:
    """Return whether a challenger becomes the champion."""
    return probability > EVEN


def is_worth_repeating(worth: Numbers, worth_of_idea: Numbers, trials: Numbers) -> Numbers:
    """Return whether one more trial of a challenger is expected to bring more than a trial of a new idea."""
    return (worth > worth_of_idea) & (trials < MOST_TRIALS)


def is_sure(probability: Numbers) -> Numbers:
    """Return whether no view calls a kept change in doubt."""
    return probability >= SURE


def is_refuted(outcome: DuelOutcome, mean: float) -> bool:
    """Return whether a duel of a change with the file that it was made to found no gain."""
    return outcome is DuelOutcome.REFUTED or (outcome is DuelOutcome.NOT_SHOWN and mean <= 0)


def is_owed_a_trial(gain: Gain, attempt: Attempt, trial: Trial) -> bool:
    """Return whether a challenger runs once more; not after a trial that failed or was not alone."""
    scored = trial.score is not None and not trial.contended_by and len(trial.scores) == len(attempt.trials)
    worth = is_worth_repeating(gain.worth, gain.worth_of_idea, len(attempt.trials))
    return bool(scored and not gain.is_broken and worth)


def estimate_gain(
    estimates: "Estimates | None", attempt: Attempt, champion: Champion | None, trials: Sequence[Trial]
) -> Gain | None:
    """Return the gain of a challenger over the champion; None where nothing is estimated."""
    if estimates is None or champion is None or attempt.remeasures_id is not None:
        return None
    scores = tuple((t.sign * t.score.value, others_of(t.load)) for t in trials if t.score and not t.contended_by)
    if not scores or not estimates.knows(champion.id):
        return None
    home = champion.id if attempt.parent_id is None else attempt.parent_id
    return estimates.challenge(home, champion.id, scores)[1]


def learn(estimates: "Estimates | None", experiment: Experiment) -> "Estimates | None":
    """Return what is known once an experiment is judged, under the conditions that it ran in."""
    source = experiment.id if experiment.remeasures_id is None else experiment.remeasures_id
    loads = experiment.loads or (None,) * len(experiment.scores)
    sign = experiment.sign
    trials = tuple((sign * score, others_of(load)) for score, load in zip(experiment.scores, loads, strict=False))
    is_kept = experiment.status is Status.KEEP or experiment.remeasures_id is not None
    if not trials or not experiment.is_judged or (estimates is None and not is_kept):
        return estimates
    if estimates is None:
        from orchestrator.estimates import Estimates  # noqa: PLC0415

        estimates, trials = Estimates.begin(source, *trials[0], noise=reported_noise(experiment)), trials[1:]
    if estimates.knows(source):
        for score, others in trials:
            estimates = estimates.repeat(source, score, others)
        return estimates
    best = estimates.best()
    parent = best if experiment.parent_id is None else experiment.parent_id
    learnt, _ = estimates.challenge(parent, best, trials)
    return learnt.keep(source) if is_kept else learnt


def reported_noise(experiment: Experiment) -> float:
    """Return the noise that the scorer reports of the baseline; 0.0 for none, and of code that a proposer wrote."""
    score = experiment.score
    is_baseline = experiment.parent_id is None and experiment.remeasures_id is None
    return (score.noise or 0.0) if score and is_baseline else 0.0


def others_of(load: MachineLoad | None) -> float:
    """Return the share of the processors' time that others used: nothing that a candidate can make larger helps it."""
    return 0.0 if load is None or load.others_share is None else load.others_share


# ---- plausibility


def suspect(
    trial: Trial, champion: Champion, kept: Sequence[Experiment], rules: Rules, estimated: Gain | None = None
) -> str:
    """Return why this would-be champion is hard to believe; "" if it is not."""
    if trial.score is None:
        return ""
    gain = estimated.mean if estimated else champion.cost - trial.sign * trial.score.value
    usual = median_gain(kept)
    if usual and estimated:
        usual = max(usual, estimated.sd)  # where most gains are small, a large one is no wonder
    bound = JUMP * usual if usual else FIRST_JUMP * abs(champion.value)
    if gain > bound:
        return f"a gain of {gain:.4f} is far beyond this run's usual gain, {usual or bound:.4f}"
    trainer = trial.trainer
    if trainer is not None and trainer.duration_s < LEAST_TRAINING_SHARE * rules.time_budget_s:
        return f"its training took {trainer.duration_s:.1f} s of the {rules.time_budget_s:g} s it was given"
    if trainer is not None and trainer.cpu_s is not None and trainer.cpu_s < LEAST_CPU_S:
        return f"its training used {trainer.cpu_s:.1f} s of processor time"
    if trial.gpu_used is False:
        return "its training never used the GPU that it was given"
    return ""


def median_gain(kept: Sequence[Experiment]) -> float:
    """Return the median gain of the kept experiments over the one before; 0 before there are three gains."""
    scores = [e.cost for e in kept if e.cost is not None]
    gains = [e.gain for e in kept if e.gain is not None] or [before - after for before, after in pairwise(scores)]
    return median(gains) if len(gains) >= GAINS_FOR_MEDIAN else 0.0


def settle_doubt(attempt: Attempt, champion: Champion, estimates: "Estimates | None") -> Decision:
    """Return the decision on a doubtful score after the trial that had to settle it: the worse of both counts."""
    first, second, why = merge_trials(attempt.trials[:-1], first=False), attempt.trials[-1], attempt.suspicion
    if second.contended_by:
        return Decision(trial=second, verdict=judge(second, champion, 0, None))
    worse = (
        second.score is None
        or first.score is None
        or (second.sign * second.score.value > first.sign * first.score.value)
    )
    trial = replace(second if worse else first, executions=(*first.executions, *second.executions))
    if second.score is None:
        verdict = describe_failure(second, f"doubtful: {why}; run again it had no score: ")
        return Decision(trial=trial, verdict=verdict)
    value = second.score.value
    gain = estimate_gain(estimates, attempt, champion, (trial,)) or Gain.exact(champion.cost - second.sign * value)
    if gain.is_broken or not is_better(gain.probability) or is_within_audit_error(gain.mean, second, champion):
        before = first.score.value if first.score else math.nan
        reason = f"doubtful: {why}; run again with another seed it reached {value:.6f}, not {before:.6f}"
        return Decision(trial=trial, verdict=Verdict(status=Status.DISCARD, reason=reason))
    reason = f"better than experiment {champion.id}, and again with another seed ({value:.6f}), though {why}"
    verdict = Verdict(status=Status.KEEP, reason=reason, gain=gain.mean, sure=gain.probability)
    return Decision(trial=trial, verdict=verdict)
