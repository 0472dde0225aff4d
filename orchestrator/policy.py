"""When is a change kept? Pure: no I/O, no clock, no randomness.

The score of one source differs from seed to seed. By how much is measured on the hardware at hand: first by the
baseline, then by every experiment that has several trials. `next_step` says what follows from a trial: another trial
or a verdict. Lower scores are better.

Keep        A mean score strictly better than the champion's, by more than luck and the audits' own error explain, and
            audited as a champion must be. Without a champion the first score is kept: the baseline.
Discard     Every other score, and every score of a child of an experiment that was invalidated.
Not judged  A trial beside other users of the device, or under other conditions than the champion's: `contended`. A
            trial without a score has the status of its failure; code that cheated is `cheat` whoever used the device.
Rerun       The baseline, and a gain that luck may explain, run again with other seeds; the gain is kept only if those
            trials gain too. A gain with too small an audit runs again with a full one. `baseline_runs = 1` turns off
            all of this but the full audit.
Doubt       A gain that is hard to believe is trained again and audited in full; the worse of both scores counts.
Remeasure   The champion is measured again now and then, and at once under conditions where it has no score.
Champion    The kept experiment with the best mean over all its trials under the conditions of the newest experiment.
Invalidate  A kept experiment that cheats when it is measured again, or on the holdout, is not kept any more, nor are
            its descendants.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean, median

from orchestrator.events import Revision
from orchestrator.settings import Noise
from orchestrator.types import Champion, Conditions, Experiment, Status, Trial, Verdict

STANDARD_ERRORS = 2.0  # a gain above so many is not luck
JUMP = 4.0  # times the median gain of the run
FIRST_JUMP = 0.15  # share of the baseline's score, while the run has too few gains
GAINS_FOR_MEDIAN = 3
LEAST_TRAINING_SHARE = 0.1  # of the time budget
LEAST_CPU_S = 1.0  # starting Python and torch alone takes longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that decide."""

    noise: Noise
    time_budget_s: float
    needed_k: int = 0  # audited positions of a new champion


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the verdicts of a run depend on; oldest first."""

    kept: tuple[Experiment, ...] = ()
    remeasurements: tuple[Experiment, ...] = ()  # judged repeats of kept ones
    repeated: tuple[Experiment, ...] = ()  # with several trials: what is known of the noise
    invalidated: Mapping[int, str] = field(default_factory=dict)  # the reason, for each that is not kept any more

    @property
    def champion(self) -> Champion | None:
        """Return the kept experiment with the lowest mean, over all trials under the conditions of the newest."""
        return choose_champion(self.kept, self.remeasurements)

    def why_invalid(self, experiment_id: int | None) -> str:
        """Return why an experiment is not kept any more; "" if it is, or was never kept."""
        return "" if experiment_id is None else self.invalidated.get(experiment_id, "")

    def seed_std(self, conditions: Conditions) -> float | None:
        """Return the standard deviation between trials of one source; None if it is not known yet."""
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


def next_step(attempt: Attempt, history: History, rules: Rules) -> Rerun | Decision:
    """Return what follows from the attempt's last trial."""
    champion = history.champion
    rival = find_rival(attempt, history.kept, champion)
    trial = merge_trials(attempt.trials, first=rival is None)
    if trial.score and (why := history.why_invalid(attempt.parent_id)):
        reason = f"its parent, experiment {attempt.parent_id}, has since been invalidated: {why}"
        return Decision(trial=trial, verdict=Verdict(status=Status.DISCARD, reason=reason))
    if trial.score and champion and attempt.remeasures_id is None and attempt.conditions != champion.conditions:
        reason = "not judged: its device, image or compile cache is not the champion's"
        return Decision(trial=trial, verdict=Verdict(status=Status.CONTENDED, reason=reason))
    if attempt.suspicion and champion:
        return settle_doubt(attempt, champion)
    seed_std = None if rules.noise.is_off else history.seed_std(attempt.conditions)
    if rerun := need_rerun(attempt, trial, rival, seed_std, rules):
        return rerun
    verdict = judge(trial, rival, rules.needed_k, seed_std, attempt.remeasures_id)
    if verdict.status is Status.KEEP and rival is not None and (why := suspect(trial, rival, history.kept, rules)):
        return Rerun(at_most=len(attempt.trials) + 1, mean_so_far=fmean(trial.scores), suspicion=why)
    return Decision(trial=trial, verdict=verdict, revisions=revise(attempt, verdict, history.kept))


def judge(  # noqa: PLR0911  # one return per rule, in order
    trial: Trial, champion: Champion | None, needed_k: int, seed_std: float | None, remeasures_id: int | None = None
) -> Verdict:
    """Return keep only for a strict improvement that is not luck, audited as a new champion must be."""
    if trial.failure is Status.CHEAT:  # whoever used the device too: that may be code that broke out
        return describe_failure(trial)
    if trial.contended_by:
        return Verdict(status=Status.CONTENDED, reason=f"not judged: {trial.contended_by} used the device too")
    if trial.score is None:
        return describe_failure(trial)
    if champion is None:
        return Verdict(status=Status.KEEP, reason="the baseline")
    if remeasures_id is not None:
        return Verdict(status=Status.DISCARD, reason=describe_remeasurement(trial, champion, seed_std))
    gain, count = champion.value - fmean(trial.scores), len(trial.scores)
    over = f", over {count} trials" if count > 1 else ""
    than = f"the champion, {champion.value:.6f} of experiment {champion.id}{over}"
    if not gain > 0:
        return Verdict(status=Status.DISCARD, reason=f"not better than {than}")
    if luck := explain_by_luck(trial, champion, seed_std):
        return Verdict(status=Status.DISCARD, reason=luck)
    if is_within_audit_error(gain, trial, champion):
        error = math.hypot(trial.standard_error, champion.standard_error)
        reason = f"the gain of {gain:.6f} is within the standard error of the audits ({error:.1e})"
        return Verdict(status=Status.DISCARD, reason=reason)
    if not is_audited(trial, needed_k):
        reason = f"better, but audited at {trial.score.audited_positions} positions only"
        return Verdict(status=Status.DISCARD, reason=reason)
    return Verdict(status=Status.KEEP, reason=f"{gain:.6f} better than {than}")


def describe_failure(trial: Trial, prefix: str = "") -> Verdict:
    """Return the verdict on a trial without a score."""
    status = trial.failure or Status.INFRA
    needs_review = trial.needs_review or status is Status.CHEAT
    return Verdict(status=status, reason=f"{prefix}{trial.message}", needs_review=needs_review)


# ---- the champion


def choose_champion(kept: Iterable[Experiment], remeasurements: Sequence[Experiment]) -> Champion | None:
    """Return the best of all kept experiments under the conditions of the newest one; None if none ran there."""
    known = list(kept)
    if not known:
        return None
    now = max((*known, *remeasurements), key=lambda e: e.id).conditions
    scores: dict[int, list[float]] = {e.id: [] for e in known}
    for one in (*known, *remeasurements):
        source_id = one.id if one.remeasures_id is None else one.remeasures_id
        if one.conditions == now and source_id in scores:
            scores[source_id] += one.scores
    champions = [Champion(experiment=e, scores=tuple(scores[e.id]), conditions=now) for e in known if scores[e.id]]
    return min(champions, key=lambda c: (c.value, c.id), default=None)


def find_rival(attempt: Attempt, kept: Sequence[Experiment], champion: Champion | None) -> Champion | None:
    """Return what an attempt is compared with: the champion, or the kept experiment that it measures again."""
    if champion is None or attempt.remeasures_id in (None, champion.id):
        return champion
    for one in kept:  # another experiment has become the champion since the attempt began
        if one.id == attempt.remeasures_id:
            return Champion(experiment=one, scores=one.scores, conditions=one.conditions)
    return champion


def is_remeasurement_due(champion: Champion, conditions: Conditions, judged_since: int, noise: Noise) -> bool:
    """Return whether the champion is to be measured again: now and then, and at once where it never ran."""
    every = noise.remeasure_every
    return champion.conditions != conditions or bool(every and judged_since >= every)


def describe_remeasurement(trial: Trial, champion: Champion, seed_std: float | None) -> str:
    """Return what measuring the champion again shows."""
    scores = (*champion.scores, *trial.scores)
    loss = fmean(trial.scores) - champion.value
    holds = seed_std is None or is_within_noise(loss, seed_std, len(trial.scores), len(champion.scores))
    outcome = "holds" if holds else "did not hold"
    mean = f"{fmean(trial.scores):.6f} now, {fmean(scores):.6f} over {len(scores)} trials"
    return f"experiment {champion.id} {outcome}: {mean}"


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


def is_within_noise(gain: float, seed_std: float | None, trials: int, champion_trials: int) -> bool:
    """Return whether luck alone explains a gain between two means; what is not known explains nothing."""
    return seed_std is not None and gain <= STANDARD_ERRORS * seed_std * math.sqrt(1 / trials + 1 / champion_trials)


def is_within_audit_error(gain: float, trial: Trial, champion: Champion) -> bool:
    """Return whether a gain is no more than the audits of both scores leave open."""
    return gain <= STANDARD_ERRORS * math.hypot(trial.standard_error, champion.standard_error)


def is_audited(trial: Trial, needed_k: int) -> bool:
    """Return whether the audit is large enough for a champion; data with fewer positions is audited whole."""
    score = trial.score
    return score is not None and score.audited_positions >= min(needed_k, score.tokens or needed_k)


def explain_by_luck(trial: Trial, champion: Champion, seed_std: float | None) -> str:
    """Return why a gain is luck, "" if it is not. The trials after the first were not selected, so they must gain."""
    reruns = trial.scores[1:]
    if reruns and not fmean(reruns) < champion.value:
        return f"the first trial was luck: {fmean(reruns):.6f} with other seeds, not better than {champion.value:.6f}"
    gain = champion.value - fmean(trial.scores)
    if seed_std is not None and not reruns and is_within_noise(gain, seed_std, 1, len(champion.scores)):
        return f"the gain of {gain:.6f} is within seed noise (std {seed_std:.6f})"
    return ""


def need_rerun(
    attempt: Attempt, trial: Trial, champion: Champion | None, seed_std: float | None, rules: Rules
) -> Rerun | None:
    """Return the next trial, if luck may explain the scores so far, or if the audit was too small to keep it."""
    done = len(trial.scores)
    wanted = trials_needed(trial, champion, seed_std, rules.noise, attempt.remeasures_id)
    if done >= wanted and len(attempt.trials) == 1 and attempt.remeasures_id is None:
        would_keep = judge(trial, champion, 0, seed_std).status is Status.KEEP
        wanted = done + (would_keep and not is_audited(trial, rules.needed_k))
    last_was_scored = done == len(attempt.trials)
    return Rerun(at_most=wanted, mean_so_far=fmean(trial.scores)) if done < wanted and last_was_scored else None


def trials_needed(
    trial: Trial, champion: Champion | None, seed_std: float | None, noise: Noise, remeasures_id: int | None
) -> int:
    """Return how many trials with different seeds an experiment needs, given those it had."""
    done = len(trial.scores)
    if trial.score is None or trial.contended_by or noise.is_off:
        return done
    if champion is None or (remeasures_id is not None and seed_std is None):
        return noise.baseline_runs
    gain = champion.value - fmean(trial.scores)
    promising = remeasures_id is None and gain > 0 and not is_within_audit_error(gain, trial, champion)
    maybe_luck = seed_std is None or is_within_noise(gain, seed_std, done, len(champion.scores))
    return 1 + noise.reruns if promising and maybe_luck else done


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


# ---- plausibility


def suspect(trial: Trial, champion: Champion, kept: Sequence[Experiment], rules: Rules) -> str:
    """Return why this would-be champion is hard to believe; "" if it is not."""
    if trial.score is None:
        return ""
    gain, usual = champion.value - trial.score.value, median_gain(kept)
    bound = JUMP * usual if usual else FIRST_JUMP * champion.value
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
    scores = [e.value for e in kept if e.value is not None]
    gains = [before - after for before, after in pairwise(scores)]
    return median(gains) if len(gains) >= GAINS_FOR_MEDIAN else 0.0


def settle_doubt(attempt: Attempt, champion: Champion) -> Decision:
    """Return the decision on a doubtful score after the trial that had to settle it: the worse of both counts."""
    first, second, why = merge_trials(attempt.trials[:-1], first=False), attempt.trials[-1], attempt.suspicion
    if second.contended_by:
        return Decision(trial=second, verdict=judge(second, champion, 0, None))
    worse = second.score is None or first.score is None or second.score.value > first.score.value
    trial = replace(second if worse else first, executions=(*first.executions, *second.executions))
    if second.score is None:
        verdict = describe_failure(second, f"doubtful: {why}; trained again it had no score: ")
        return Decision(trial=trial, verdict=verdict)
    value = second.score.value
    if is_within_audit_error(champion.value - value, second, champion):
        before = first.score.value if first.score else math.nan
        reason = f"doubtful: {why}; trained again with another seed it reached {value:.6f}, not {before:.6f}"
        return Decision(trial=trial, verdict=Verdict(status=Status.DISCARD, reason=reason))
    reason = f"better than experiment {champion.id}, and again with another seed ({value:.6f}), though {why}"
    return Decision(trial=trial, verdict=Verdict(status=Status.KEEP, reason=reason))
