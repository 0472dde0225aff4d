"""From pairs of times to one ratio with its interval. Pure.

Candidate and reference are asked the same new question one after the other, in an order that is drawn, so that whatever
the machine does to one it does to the other. The ratio is the median over the pairs; its standard error and interval
come from resampling the pairs. A median, because on a shared machine a few pairs are spoiled by others.

A candidate could gain by slowing the reference down: with threads that burn the processors while it is not asked
itself. So the reference is timed alone too, before any code of the candidate runs and again when the candidate is gone.
Where it is slower beside the candidate than at both of these times, by more than chance explains, the ratio is raised
by as much as is certain. Others who come, or who leave, slow one of these times as well, and raise nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # per cent


@dataclass(frozen=True)
class Ratio:
    """How long the candidate takes, in times of the reference."""

    value: float
    standard_error: float
    low: float
    high: float
    slowdown: float  # of the reference beside the candidate, as much as is certain; 1 for none
    pairs: int


def compare(
    candidate: Sequence[float],
    reference: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
    seed: Sequence[int],
) -> Ratio:
    """Return the ratio for paired times in seconds, and times of the reference alone, before and after them.

    Deterministic for a seed. Raises ValueError for fewer than two times of a kind, or one that is not positive.
    """
    times = [np.asarray(part, dtype=np.float64) for part in (candidate, reference, before, after)]
    if len(candidate) != len(reference) or min(map(len, times)) < 2 or any((part <= 0).any() for part in times):
        raise ValueError("a ratio needs at least two pairs of positive times, and two times of the reference alone")
    beside = np.log(times[1])
    logs = np.log(times[0]) - beside
    chance = np.random.default_rng(list(seed))
    medians = np.median(resample(logs, chance), axis=1)
    slowdown = min(certain_slowdown(beside, np.log(alone), chance) for alone in times[2:])
    low, high = np.exp(np.percentile(medians, INTERVAL)) * slowdown
    value = float(np.exp(np.median(logs)) * slowdown)
    return Ratio(
        value=value, standard_error=value * float(medians.std()), low=float(low), high=float(high),
        slowdown=slowdown, pairs=len(logs),
    )  # fmt: skip


def relative_error(candidate: Sequence[float], reference: Sequence[float], seed: Sequence[int]) -> float:
    """Return the standard error of the ratio as a share of it, for paired times in seconds."""
    logs = np.log(np.asarray(candidate)) - np.log(np.asarray(reference))
    return float(np.median(resample(logs, np.random.default_rng(list(seed))), axis=1).std())


def certain_slowdown(beside: np.ndarray, alone: np.ndarray, chance: np.random.Generator) -> float:
    """Return by which factor the reference is slower beside the candidate than alone, 1 where chance explains it."""
    difference = np.median(resample(beside, chance), axis=1) - np.median(resample(alone, chance), axis=1)
    return max(1.0, float(np.exp(np.percentile(difference, INTERVAL[0]))))


def resample(values: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return RESAMPLES draws of as many values, with replacement: [RESAMPLES, n]."""
    return values[chance.integers(len(values), size=(RESAMPLES, len(values)))]
