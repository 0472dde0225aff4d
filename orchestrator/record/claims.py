"""What is on record of duels, and what this machine can show."""

from orchestrator import duels
from orchestrator.record.journal import Journal
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
    return duels.smallest_gain(known.pair_sd, pairs)
