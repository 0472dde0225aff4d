"""What is on record of duels, what is in doubt, and what this machine can show: what every view leads with."""

from orchestrator import duels, policy
from orchestrator.events import DuelEnded
from orchestrator.record.journal import Journal
from orchestrator.types import DuelOutcome, Experiment
from orchestrator.units import SECONDS_PER_HOUR

NIGHT_HOURS = 8.0


def smallest_gain(journal: Journal) -> float | None:
    """Return the gain that the duels of one night can show on this machine; None before the noise is known."""
    champion, baseline = journal.champion(), journal.baseline()
    known = journal.history().estimates.get(champion.conditions) if champion else None
    if known is None or baseline is None or not known.knows_noise:
        return None
    trial_s = baseline.duration_s / max(1, len(baseline.scores))
    pairs = duels.affordable_pairs((1 - duels.CLAIM_SHARE) * NIGHT_HOURS * SECONDS_PER_HOUR, trial_s, NIGHT_HOURS)
    return duels.smallest_gain(known.pair_sd, min(pairs, duels.MOST_PAIRS))


def describe_smallest(journal: Journal) -> str:
    """Return in one line what this machine can show; "" before that is known."""
    gain = smallest_gain(journal)
    return "" if gain is None else f"a gain below about {gain:.2g} {journal.metric()} cannot be shown here in one night"


def describe_claim(journal: Journal) -> str:
    """Return in one line what the newest duel says; "" before the first one."""
    baseline, best = journal.baseline(), journal.champion()
    ended = [r.event for r in journal.events(DuelEnded) if baseline is not None and r.event.rival_id == baseline.id]
    if not ended:
        return ""
    event = next((one for one in reversed(ended) if best is not None and one.champion_id == best.id), ended[-1])
    since = "" if best is None or best.id == event.champion_id else f"; experiment {best.id} is the best since"
    return f"{describe_duel(event, 'the baseline', journal.metric())}{since}"


def describe_duel(event: DuelEnded, rival: str, metric: str) -> str:
    """Return in one line what a duel says."""
    if event.mean is None or event.low is None or event.high is None:
        return f"the duel of experiment {event.champion_id} with {rival} has no result: {event.reason}"
    what = {
        DuelOutcome.SHOWN: f"is better than {rival}",
        DuelOutcome.REFUTED: f"is worse than {rival}",
    }.get(event.outcome, f"is not shown to be better than {rival}")
    interval = f"{event.mean:+.2g} {metric}, 95 % interval {event.low:+.2g} to {event.high:+.2g}"
    return f"experiment {event.champion_id} {what}: a gain of {interval}, by {event.pairs} pairs of new trials"


def duels_of(journal: Journal, experiment_id: int) -> list[str]:
    """Return what each duel of an experiment says, oldest first."""
    ended = [r.event for r in journal.events(DuelEnded) if r.event.champion_id == experiment_id]
    return [describe_duel(event, f"experiment {event.rival_id}", journal.metric()) for event in ended]


def changes_of_best(journal: Journal) -> list[Experiment]:
    """Return the changes that led to the best file, the newest first, without those that were taken out again."""
    best, kept = journal.champion(), {experiment.id: experiment for experiment in journal.history().kept}
    found, one = list[Experiment](), best.experiment if best else None
    while one is not None and one.parent_id is not None:
        found.append(one)
        one = kept.get(one.parent_id)
    removed = {experiment.removes_id for experiment in found}
    return [experiment for experiment in found if experiment.id not in removed]


def find_refuted(journal: Journal) -> dict[int, float]:
    """Return the changes in the best file of which the newest duel found no gain, each with the gain that it found."""
    found = dict[int, float]()
    ended = {(r.event.champion_id, r.event.rival_id): r.event for r in journal.events(DuelEnded) if r.event.pairs}
    for one in changes_of_best(journal) if ended else ():
        event = ended.get((one.id, -1 if one.parent_id is None else one.parent_id))
        if event is not None and event.mean is not None and policy.is_refuted(event.outcome, event.mean):
            found[one.id] = event.mean
    return dict(sorted(found.items()))


def describe_refuted(journal: Journal) -> str:
    """Return in one line in which changes of the best file a duel found no gain, and what became of them."""
    told, best = [], journal.champion()
    for number, mean in find_refuted(journal).items():
        tried = [one for one in journal.removals(number) if one.is_judged]
        then = f"tried without it: {tried[-1].status}, experiment {tried[-1].id}" if tried else "to be tried without it"
        then = "the best itself" if best is not None and best.id == number else then
        told.append(f"experiment {number} ({mean:+.2g} {journal.metric()}; {then})")
    return f"no gain by a duel with the file it was made to: {', '.join(told)}" if told else ""


def find_doubtful(journal: Journal) -> dict[int, float]:
    """Return the changes in the best file that are not sure to be gains, each with the probability that it is one.

    Those in which a duel found no gain are in doubt no more.
    """
    best, known = journal.champion(), journal.history().estimates
    estimates, found = known.get(best.conditions) if best else None, dict[int, float]()
    refuted = find_refuted(journal)
    for one in changes_of_best(journal):
        sure, parent = one.sure, one.parent_id
        if estimates is not None and parent is not None and estimates.knows(one.id) and estimates.knows(parent):
            sure = estimates.gain(one.id, parent).probability
        if sure is not None and not policy.is_sure(sure) and one.id not in refuted:
            found[one.id] = sure
    return dict(sorted(found.items()))


def describe_elsewhere(journal: Journal, here: str = "") -> tuple[str, ...]:
    """Return the best of each class of hardware but one, a line each; by default but the run's own."""
    history, metric = journal.history(), journal.metric()
    own, away = history.champion, history.champions_away()
    left_out = here or (own.conditions.hardware if own else "")
    return tuple(
        f"{one.conditions.hardware}: {one.figure(metric)}, experiment {one.id}"
        for one in (*([own] if own and away else []), *away)
        if one.conditions.hardware != left_out
    )


def describe_classes(journal: Journal) -> str:
    """Return in one line the best of each other class of hardware of the run; "" where there is none."""
    champion, found = journal.champion(), describe_elsewhere(journal)
    if champion is None or not found:
        return ""
    own = champion.conditions.hardware
    return f"scores compare within one class of hardware; the run's own is {own}, best of others: {'; '.join(found)}"


def describe_doubts(journal: Journal) -> str:
    """Return in one line which changes in the best file are in doubt; "" for none."""
    doubts = [f"{number} (a gain with probability {sure:.2f})" for number, sure in find_doubtful(journal).items()]
    return (
        f"in doubt, and may be taken out: experiment{'s' if len(doubts) > 1 else ''} {', '.join(doubts)}"
        if doubts
        else ""
    )


def describe_newest(journal: Journal) -> str:
    """Return in one line what the next proposal begins with where a threshold decides; "" where it is the best."""
    parent = journal.parent()
    if parent is None or journal.threshold() is None:
        return ""
    return f"the newest kept, which the next one follows: experiment {parent.id}, {parent.value:.6g} {journal.metric()}"


def describe(journal: Journal) -> tuple[str, ...]:
    """Return what every view leads with, a line each: the newest duel, what is in doubt, what can be shown here."""
    tellers = (
        describe_newest, describe_claim, describe_refuted, describe_doubts, describe_smallest, describe_classes,
    )  # fmt: skip
    return tuple(line for tell in tellers if (line := tell(journal)))
