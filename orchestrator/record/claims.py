"""What is on record of duels, what is in doubt, and what this machine can show: what every view leads with."""

from orchestrator import duels, policy
from orchestrator.events import DuelEnded
from orchestrator.record.journal import Journal
from orchestrator.types import DuelOutcome
from orchestrator.units import SECONDS_PER_HOUR

NIGHT_HOURS = 8.0


def smallest_gain(journal: Journal) -> float | None:
    """Return the gain that the duels of one night can show on this machine; None before two trials have a score."""
    champion, baseline = journal.champion(), journal.baseline()
    known = journal.history().estimates.get(champion.conditions) if champion else None
    if known is None or baseline is None or known.trials < 2:  # noqa: PLR2004
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
    if event.mean is None or event.low is None or event.high is None:
        return f"the duel of experiment {event.champion_id} with the baseline has no result: {event.reason}{since}"
    what = {
        DuelOutcome.SHOWN: "is better than the baseline",
        DuelOutcome.REFUTED: "is worse than the baseline",
    }.get(event.outcome, "is not shown to be better than the baseline")
    interval = f"{event.mean:+.2g} {journal.metric()}, 95 % interval {event.low:+.2g} to {event.high:+.2g}"
    return f"experiment {event.champion_id} {what}: a gain of {interval}, by {event.pairs} pairs of new trials{since}"


def find_doubtful(journal: Journal) -> dict[int, float]:
    """Return the changes in the best file that are not sure to be gains, each with the probability that it is one."""
    best, known = journal.champion(), journal.history().estimates
    kept = {experiment.id: experiment for experiment in journal.kept()}
    estimates, found = known.get(best.conditions) if best else None, dict[int, float]()
    one = best.experiment if best else None
    while one is not None and one.parent_id is not None:
        sure, parent = one.sure, one.parent_id
        if estimates is not None and estimates.knows(one.id) and estimates.knows(parent):
            sure = estimates.gain(one.id, parent).probability
        if sure is not None and not policy.is_sure(sure):
            found[one.id] = sure
        one = kept.get(parent)
    return dict(sorted(found.items()))


def describe_doubts(journal: Journal) -> str:
    """Return in one line which changes in the best file are in doubt; "" for none."""
    doubts = [f"{number} (a gain with {sure:.2f})" for number, sure in find_doubtful(journal).items()]
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
    lines = (describe_newest(journal), describe_claim(journal), describe_doubts(journal), describe_smallest(journal))
    return tuple(line for line in lines if line)
