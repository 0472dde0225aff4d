"""Duels: two sources in pairs of trials, back to back on one slot, for a claim rather than a choice. Pure.

The champion is chosen by its scores, so they flatter it. A duel draws fresh seeds, one for both trials of a pair, and
which of the two goes first, anew for each pair; every trial is audited in full. The machine's drift is the same for
both halves of a pair, but for the minutes between them, so nothing is adjusted: the mean difference counts.
(An order that alternates makes neighbouring differences depend on each other where a drift returns to its mean: in
benchmarks/keep_rules.py intervals then hold the truth in 90 % of nights, not 95 %.)

The test looks at most twice, after half of the pairs and after all. The first look spends 1/16 of the 5 %, the second
the rest (a power family of alpha spending, Kim and DeMets 1987). The errors of both looks are added, so nothing need be
assumed of how they depend on each other; the interval at the end holds the truth in at least 95 % of duels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev

from orchestrator.types import QUEUED_AGAIN, DuelOutcome, Experiment, Status
from orchestrator.units import SECONDS_PER_HOUR

CONFIDENCE = 0.95  # of the interval; a gain is claimed where all of it is above 0: one-sided 2.5 %
LEAST_PAIRS = 4  # fewer give an interval too wide to be of use
MOST_PAIRS = 24  # of one duel
CLAIM_SHARE = 0.1  # of a session's device time, for duels at its end; those in idle time have as much
SPENDING_POWER = 4
POWER = 0.8  # with which the smallest gain is shown
MOST_DISTURBED = 3  # pairs that are drawn anew because others used the device or the sandbox failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """By how much the first source is better than the second."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def is_shown(self) -> bool:
        """Return whether the first one is better."""
        return self.low > 0

    @property
    def is_refuted(self) -> bool:
        """Return whether the first one is worse."""
        return self.high < 0


def looks(most: int) -> tuple[int, ...]:
    """Return after how many pairs a duel of at most so many is judged."""
    return (most // 2, most) if most // 2 >= LEAST_PAIRS else (most,)


def conclude(differences: Sequence[float], most: int) -> Interval | None:
    """Return the interval where a duel is over, None where another pair is due.

    `differences` are the second source's score less the first one's, pair by pair.
    """
    pairs, due = len(differences), looks(most)
    if pairs not in due:
        return None
    found = interval(differences, spent(pairs, most))
    return found if pairs == most or found.is_shown or found.is_refuted else None


def interval(differences: Sequence[float], error: float) -> Interval:
    """Return the interval of a mean that misses the truth with a probability of `error`."""
    pairs, mean = len(differences), fmean(differences)
    width = t_quantile(1 - error / 2, pairs - 1) * stdev(differences) / math.sqrt(pairs)
    return Interval(mean=mean, low=mean - width, high=mean + width, pairs=pairs)


def spent(pairs: int, most: int) -> float:
    """Return the probability of error that one look has."""
    before = [look for look in looks(most) if look < pairs]
    until = (before[-1] / most) ** SPENDING_POWER if before else 0.0
    return (1 - CONFIDENCE) * ((pairs / most) ** SPENDING_POWER - until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """Two kept experiments, and how many pairs of trials decide between them."""

    champion_id: int
    rival_id: int
    most: int
    idle: bool = False  # it waits where an idea comes, and at the end of the session


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTrial:
    """The trial that is due in a duel."""

    source_id: int | None  # None: draw which of both begins the pair
    seed_of: int | None = None  # the experiment whose training seed it shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a duel ended."""

    outcome: DuelOutcome
    reason: str
    interval: Interval | None = None


def next_step(duel: Duel, trials: Sequence[Experiment]) -> NextTrial | Result:
    """Return what follows from the trials of a duel so far, in order.

    A pair with a trial that others disturbed, or that the sandbox spoiled, is drawn anew, as is one whose second trial
    ran on another host of a cluster than its first. A trial that crashed, was too
    slow or cheated ends the duel: what does not train reliably has no claim.
    """
    pair, differences, disturbed = list[Experiment](), list[float](), 0
    for trial in trials:
        moved = bool(pair) and trial.value is not None and trial.host != pair[0].host  # a slot was lost in between
        if trial.status in QUEUED_AGAIN or moved:
            pair, disturbed = [], disturbed + 1
            if disturbed > MOST_DISTURBED:
                return Result(outcome=DuelOutcome.DISTURBED, reason=f"{disturbed} pairs were disturbed: {trial.reason}")
            continue
        if trial.value is None or trial.status is Status.CHEAT:
            reason = f"experiment {trial.remeasures_id} ended as {trial.status}: {trial.reason}"
            return Result(outcome=DuelOutcome.FAILED, reason=reason)
        pair.append(trial)
        if len(pair) == 2:  # noqa: PLR2004  # a pair
            scores = {one.remeasures_id: one.cost or 0.0 for one in pair}
            differences.append(scores[duel.rival_id] - scores[duel.champion_id])
            pair = []
    if not pair:
        found = conclude(differences, duel.most)
        return NextTrial(source_id=None) if found is None else describe(found)
    other = duel.rival_id if pair[0].remeasures_id == duel.champion_id else duel.champion_id
    return NextTrial(source_id=other, seed_of=pair[0].id)


def describe(found: Interval) -> Result:
    """Return the result of a duel that has an interval."""
    outcome = DuelOutcome.SHOWN if found.is_shown else DuelOutcome.NOT_SHOWN
    outcome = DuelOutcome.REFUTED if found.is_refuted else outcome
    return Result(outcome=outcome, reason=f"{CONFIDENCE:.0%} interval of {found.pairs} pairs", interval=found)


def affordable_pairs(device_s: float, trial_s: float, claim_hours: float) -> int:
    """Return how many pairs the device time of ideas pays for, so that duels are CLAIM_SHARE of all of it."""
    seconds = min(device_s * CLAIM_SHARE / (1 - CLAIM_SHARE), claim_hours * SECONDS_PER_HOUR)
    return int(pairs_within(seconds, trial_s))


def pairs_within(seconds: float, trial_s: float) -> float:
    """Return how many pairs of trials fit into a time; none where a trial's time is not known."""
    return seconds / (2 * trial_s) if trial_s > 0 else 0.0


def smallest_gain(pair_sd: float, pairs: int) -> float:
    """Return the gain that a duel of so many pairs shows with a probability of 80 %."""
    pairs = max(pairs, LEAST_PAIRS)
    quantile = t_quantile(1 - (1 - CONFIDENCE) / 2, pairs - 1)
    return (quantile + NormalDist().inv_cdf(POWER)) * pair_sd / math.sqrt(pairs)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t above 0.5."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, degrees) < probability else (low, middle)
    return high


def t_cdf(t: float, degrees: int) -> float:
    """Return the probability below t >= 0, for whole degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2 == 1
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(3 if odd else 2, degrees, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0)) if odd else sine * total
    return 0.5 + inside / 2
