"""How good is every source, by all trials of a run? Pure: numbers in, numbers out.

A score is the level of its source plus the machine's drift plus what other users of the processors cost plus seed
noise. A child's level is its parent's less its gain, and gains have a usual size. All of that is one linear-Gaussian
model, so a Kalman filter has the exact answer, trial by trial: every trial of any source says something of the drift,
and so of every other source. What the filter cannot know beforehand (the size of gains, of drift and its duration) it
takes from a small grid of models, each weighted by how well it foretold the scores so far (Magill 1965); the scale of
the noise has a conjugate prior, so that after one trial already there is an answer, though a vague one.

Arrays have a first axis of runs: one in the product, thousands in benchmarks/keep_rules.py, which so runs this
very code. The next axis is the model's. The last ones are the state: the usual gain, the drift, the effect of others,
then a level for each slot; a slot holds a source. Variances are in units of the variance of one trial.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from orchestrator.types import Gain

Array = NDArray[np.float64]
Slots = NDArray[np.int64]
Mask = NDArray[np.bool_]

GAIN, DRIFT, OTHERS, LEVELS = 0, 1, 2, 3  # places in the state
KEPT_SLOTS = 8  # kept sources that may come back; the next slot is the challenger's
CHALLENGER = KEPT_SLOTS
GAIN_SDS = (0.1, 0.4, 1.2, 3.6)  # of ideas, in units of seed noise
DRIFTS = ((0.0, 0.0), (0.7, 0.5), (0.7, 0.93), (2.0, 0.5), (2.0, 0.93))  # sd, correlation from trial to trial
MODELS = tuple(product(GAIN_SDS, DRIFTS))
USUAL_GAIN_SD = 0.5  # of the mean of all gains, in units of the gains' own
OTHERS_SD = 40.0  # of what a share of 1 of the processors, used by others, costs in units of seed noise
FIRST_SD = 0.0001  # of the first score: seed noise, before there is a second trial
FIRST_TRIALS = 0.25  # how many trials that guess counts as, halved
REPORTED_TRIALS = 1.0  # the same for a guess of the task's own scorer: one ten times too small still misleads little
MEMORY = 0.97  # of a model's merits, from trial to trial: a run changes its character
HOPELESS = 2.5  # standard deviations worse than expected: broken, and no measure of anything else
WORTH_KEEPING = 0.1  # of seed noise: a smaller gain is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """What is known of runs side by side."""

    mean: Array  # (runs, models, state)
    cov: Array  # (runs, models, state, state), in units of the variance of one trial
    log_weight: Array  # (runs, models)
    shape: Array  # (runs,) and
    rate: Array  # (runs, models): the inverse gamma distribution of the variance of one trial

    @property
    def weight(self) -> Array:
        """Return the probability of each model, (runs, models)."""
        weight = np.exp(self.log_weight - self.log_weight.max(axis=1, keepdims=True))
        normalised: Array = weight / weight.sum(axis=1, keepdims=True)
        return normalised

    @property
    def variance(self) -> Array:
        """Return the variance of one trial by each model, (runs, models)."""
        return self.rate / self.shape[:, None]

    @property
    def trial_sd(self) -> Array:
        """Return the standard deviation of one trial, drift and others apart, (runs,)."""
        return np.asarray(np.sqrt(self._mix(self.variance)))

    @property
    def levels(self) -> Array:
        """Return the expected score of the source in each slot where nothing disturbs it, (runs, slots)."""
        expected: Array = (self.weight[:, :, None] * self.mean[:, :, LEVELS:]).sum(axis=1)
        return expected

    @property
    def level_sds(self) -> Array:
        """Return the standard deviation of each level, (runs, slots)."""
        own = np.diagonal(self.cov, axis1=2, axis2=3)[:, :, LEVELS:] * self.variance[:, :, None]
        apart = (self.mean[:, :, LEVELS:] - self.levels[:, None, :]) ** 2
        return np.asarray(np.sqrt((self.weight[:, :, None] * (own + apart)).sum(axis=1)))

    @property
    def pair_sd(self) -> Array:
        """Return the standard deviation of the difference of two trials in a row, (runs,)."""
        drifts = np.array([sd**2 * (1 - rho) for _, (sd, rho) in MODELS])
        return np.asarray(np.sqrt(self._mix(2 * (1 + drifts) * self.variance)))

    def _mix(self, values: Array) -> Array:
        mixed: Array = (self.weight * values).sum(axis=1)
        return mixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """By how much one source is better than another, of runs side by side; each (runs,)."""

    mean: Array
    sd: Array
    probability: Array  # that it is better by more than WORTH_KEEPING
    worth: Array  # of one more trial: by how much it is expected to better the choice between the two


def begin(value: Array, others: Array, noise: Array | None = None) -> Beliefs:
    """Return what the first trials of runs say, their sources in slot 0.

    `noise` is the standard deviation of one trial as a scorer reports it, 0 for unknown: a first guess that trials
    overrule, and that is never smaller than the guess without it.
    """
    runs, models, size = len(value), len(MODELS), LEVELS + KEPT_SLOTS + 1
    gain_sd = np.array([model[0] for model in MODELS])
    drift_sd = np.array([model[1][0] for model in MODELS])
    mean, cov = np.zeros((runs, models, size)), np.zeros((runs, models, size, size))
    cov[:, :, GAIN, GAIN] = (USUAL_GAIN_SD * gain_sd) ** 2
    cov[:, :, DRIFT, DRIFT] = drift_sd**2
    cov[:, :, OTHERS, OTHERS] = OTHERS_SD**2
    mean[:, :, LEVELS] = value[:, None]
    shared = -cov[:, :, DRIFT, :] - others[:, None, None] * cov[:, :, OTHERS, :]
    cov[:, :, LEVELS, :] = shared
    cov[:, :, :, LEVELS] = shared
    cov[:, :, LEVELS, LEVELS] = 1 + drift_sd**2 + (others[:, None] * OTHERS_SD) ** 2
    reported = np.zeros(runs) if noise is None else noise
    guess = np.maximum(FIRST_SD * np.maximum(np.abs(value), 1e-9), reported) ** 2
    shape = np.where(reported > 0, REPORTED_TRIALS, FIRST_TRIALS)
    rate = np.repeat((shape * guess)[:, None], models, axis=1)
    return Beliefs(mean=mean, cov=cov, log_weight=np.zeros((runs, models)), shape=shape, rate=rate)


def branch(beliefs: Beliefs, parent: Slots, where: Mask) -> Beliefs:
    """Return the beliefs with a new child of each parent in the challenger's slot."""
    gain_sd = np.array([model[0] for model in MODELS])
    run, at, new = np.arange(len(parent)), LEVELS + parent, LEVELS + CHALLENGER
    row = beliefs.cov[run, :, at, :] - beliefs.cov[:, :, GAIN, :]
    own = row[run, :, at] - row[:, :, GAIN] + gain_sd**2
    mean, cov = beliefs.mean.copy(), beliefs.cov.copy()
    chosen = where[:, None]
    level = mean[run, :, at] - mean[:, :, GAIN]
    mean[:, :, new] = np.where(chosen, level, mean[:, :, new])
    cov[:, :, new, :] = np.where(chosen[:, :, None], row, cov[:, :, new, :])
    cov[:, :, :, new] = np.where(chosen[:, :, None], row, cov[:, :, :, new])
    cov[:, :, new, new] = np.where(chosen, own, cov[:, :, new, new])
    return replace(beliefs, mean=mean, cov=cov)


def observe(beliefs: Beliefs, slot: Slots, value: Array, others: Array, where: Mask) -> tuple[Beliefs, Mask]:
    """Return what one more trial of the source in each slot says, and whether a challenger is broken."""
    beliefs = _pass_time(beliefs)
    run, at = np.arange(len(slot)), LEVELS + slot
    shared = (
        beliefs.cov[run, :, at, :] + beliefs.cov[:, :, DRIFT, :]
        + others[:, None, None] * beliefs.cov[:, :, OTHERS, :]
    )  # fmt: skip
    spread = shared[run, :, at] + shared[:, :, DRIFT] + others[:, None] * shared[:, :, OTHERS] + 1
    expected = beliefs.mean[run, :, at] + beliefs.mean[:, :, DRIFT] + others[:, None] * beliefs.mean[:, :, OTHERS]
    error, variance, weight = value[:, None] - expected, beliefs.variance, beliefs.weight
    centre = (weight * expected).sum(axis=1)
    width = (weight * (spread * variance + (expected - centre[:, None]) ** 2)).sum(axis=1)
    shape = beliefs.shape
    hopeless = HOPELESS * (1 + 2 / shape)  # little is known of the noise at first
    broken = where & (slot == CHALLENGER) & (value - centre > hopeless * np.sqrt(width))
    used = (where & ~broken)[:, None]
    density = (
        _t_log_constant(shape)[:, None]
        - 0.5 * np.log(spread * variance)
        - (shape[:, None] + 0.5) * np.log1p(error**2 / (2 * beliefs.rate * spread))
    )
    step = np.where(used[:, :, None], shared / spread[:, :, None], 0.0)
    return Beliefs(
        mean=beliefs.mean + step * error[:, :, None],
        cov=beliefs.cov - step[:, :, :, None] * shared[:, :, None, :],
        log_weight=np.where(used, beliefs.log_weight * MEMORY + density, beliefs.log_weight),
        shape=np.where(used[:, 0], shape + 0.5, shape),
        rate=np.where(used, beliefs.rate + 0.5 * error**2 / spread, beliefs.rate),
    ), broken  # fmt: skip


def settle(beliefs: Beliefs, slot: Slots, where: Mask) -> Beliefs:
    """Return the beliefs with each challenger moved into a slot of those that are kept."""
    run, to, new = np.flatnonzero(where), LEVELS + slot[where], LEVELS + CHALLENGER
    mean, cov = beliefs.mean.copy(), beliefs.cov.copy()
    mean[run, :, to] = mean[run, :, new]
    cov[run, :, to, :] = beliefs.cov[run, :, new, :]
    cov[run, :, :, to] = beliefs.cov[run, :, new, :]
    cov[run, :, to, to] = beliefs.cov[run, :, new, new]
    return replace(beliefs, mean=mean, cov=cov)


def compare(beliefs: Beliefs, than: Slots, slot: Slots) -> Gains:
    """Return by how much the source in each slot is better than another one."""
    run, other, at = np.arange(len(slot)), LEVELS + than, LEVELS + slot
    cov, weight, variance = beliefs.cov, beliefs.weight, beliefs.variance
    gain = beliefs.mean[run, :, other] - beliefs.mean[run, :, at]
    own = np.maximum(cov[run, :, other, other] + cov[run, :, at, at] - 2 * cov[run, :, other, at], 1e-12)
    shared = cov[run, :, at, :] + cov[:, :, DRIFT, :]
    moved = (shared[run, :, other] - shared[run, :, at]) ** 2 / (shared[run, :, at] + shared[:, :, DRIFT] + 1)
    mean = (weight * gain).sum(axis=1)
    sd = np.sqrt((weight * (own * variance + (gain - mean[:, None]) ** 2)).sum(axis=1))
    least = WORTH_KEEPING * np.sqrt(variance)
    probability = (weight * normal_cdf((gain - least) / np.sqrt(own * variance))).sum(axis=1)
    change = np.sqrt((weight * moved * variance).sum(axis=1))
    return Gains(
        mean=mean, sd=sd, probability=probability,
        worth=expected_excess(-np.abs(mean - WORTH_KEEPING * beliefs.trial_sd), change),
    )  # fmt: skip


def worth_of_idea(beliefs: Beliefs, champion: Slots) -> Array:
    """Return the gain to expect of one trial of a new idea, (runs,): nothing is lost where it is worse."""
    gain_sd = np.array([model[0] for model in MODELS])
    run, at, cov = np.arange(len(champion)), LEVELS + champion, beliefs.cov
    own = cov[:, :, GAIN, GAIN] + gain_sd**2
    shared = cov[run, :, at, GAIN] - own + cov[:, :, DRIFT, GAIN]
    spread = (
        cov[run, :, at, at] + own + cov[:, :, DRIFT, DRIFT] + 1
        + 2 * (cov[run, :, at, DRIFT] - cov[run, :, at, GAIN] - cov[:, :, GAIN, DRIFT])
    )  # fmt: skip
    change = np.abs(shared) / np.sqrt(spread) * np.sqrt(beliefs.variance)
    worth: Array = (beliefs.weight * expected_excess(beliefs.mean[:, :, GAIN], change)).sum(axis=1)
    return worth


def expected_excess(mean: Array, sd: Array) -> Array:
    """Return the mean of the part above 0 of a normal distribution."""
    z = np.clip(mean / np.maximum(sd, 1e-300), -38, 38)
    return sd * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) + mean * normal_cdf(z)


def normal_cdf(z: Array) -> Array:
    """Return the probability below z, within 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    x = np.abs(z) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * x)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail: Array = 0.5 * poly * np.exp(-np.minimum(x * x, 700))
    return np.where(z > 0, 1 - tail, tail)


def _pass_time(beliefs: Beliefs) -> Beliefs:
    """Return the beliefs one trial later: the drift has moved."""
    sd = np.array([model[1][0] for model in MODELS])
    rho = np.array([model[1][1] for model in MODELS])
    mean, cov = beliefs.mean.copy(), beliefs.cov.copy()
    mean[:, :, DRIFT] *= rho
    cov[:, :, DRIFT, :] *= rho[:, None]
    cov[:, :, :, DRIFT] *= rho[:, None]
    cov[:, :, DRIFT, DRIFT] += (1 - rho**2) * sd**2
    return replace(beliefs, mean=mean, cov=cov)


def _t_log_constant(shape: Array) -> Array:
    """Return the constant of the log density of Student's t with twice `shape` degrees of freedom."""
    known = {a: math.lgamma(a + 0.5) - math.lgamma(a) - 0.5 * math.log(2 * math.pi * a) for a in set(shape.tolist())}
    return np.array([known[a] for a in shape.tolist()])


# ---- one run


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """What the trials of one run say of its kept sources."""

    sources: tuple[int, ...]  # by slot, the newest KEPT_SLOTS that are kept and were measured here
    ages: tuple[int, ...]  # by slot: which were kept first
    beliefs: Beliefs
    others: float = 0.0  # in the last trial
    usual_others: float = 0.0  # mean of all trials
    seen: int = 1  # trials, broken ones included

    @classmethod
    def begin(cls, source: int, value: float, others: float = 0.0, noise: float = 0.0) -> "Estimates":
        """Return what the first trial of a run says, and its scorer of the noise; 0 where it says nothing."""
        beliefs = begin(np.array([value]), np.array([others]), np.array([noise]))
        return cls(sources=(source,), ages=(0,), beliefs=beliefs).see(others)

    def knows(self, source: int | None) -> bool:
        """Return whether there is an estimate of a source."""
        return source in self.sources

    def repeat(self, source: int, value: float, others: float = 0.0) -> "Estimates":
        """Return what one more trial of a known source says."""
        slot = np.array([self.sources.index(source)])
        beliefs, _ = observe(self.beliefs, slot, np.array([value]), np.array([others]), np.array([True]))
        return replace(self, beliefs=beliefs, seen=self.seen + 1).see(others)

    def see(self, others: float) -> "Estimates":
        """Return the estimates with the others' share of the newest trial counted."""
        return replace(self, others=others, usual_others=self.usual_others + (others - self.usual_others) / self.seen)

    def challenge(
        self, parent: int, champion: int, trials: tuple[tuple[float, float], ...]
    ) -> tuple["Estimates", Gain]:
        """Return what the trials of a challenger say, each a score and the others' share, and its gain."""
        home = parent if self.knows(parent) else champion
        one, slot = np.array([True]), np.array([CHALLENGER])
        beliefs, broken = branch(self.beliefs, np.array([self.sources.index(home)]), one), False
        for value, others in trials:
            beliefs, hopeless = observe(beliefs, slot, np.array([value]), np.array([others]), one)
            broken = broken or bool(hopeless[0])
        at = np.array([self.sources.index(champion)])
        gains = compare(beliefs, at, slot)
        gain = Gain(
            mean=float(gains.mean[0]), sd=float(gains.sd[0]), probability=float(gains.probability[0]),
            worth=float(gains.worth[0]), worth_of_idea=float(worth_of_idea(beliefs, at)[0]), is_broken=broken,
        )  # fmt: skip
        after = replace(self, beliefs=beliefs)
        for _, others in trials:
            after = replace(after, seen=after.seen + 1).see(others)
        return after, gain

    def keep(self, source: int) -> "Estimates":
        """Return the estimates with the challenger of just now among those that are kept."""
        slot = free_slot(self.ages, self.sources.index(self.best()))
        sources, ages, age = [*self.sources], [*self.ages], max(self.ages) + 1
        if slot == len(sources):
            sources, ages = [*sources, source], [*ages, age]
        else:
            sources[slot], ages[slot] = source, age
        beliefs = settle(self.beliefs, np.array([slot]), np.array([True]))
        return replace(self, sources=tuple(sources), ages=tuple(ages), beliefs=beliefs)

    def best(self) -> int:
        """Return the source with the best estimate."""
        levels = self.beliefs.levels[0, : len(self.sources)]
        return self.sources[int(levels.argmin())]

    def level(self, source: int) -> tuple[float, float]:
        """Return the expected score of a source beside the others' usual share, and its standard deviation.

        Nothing is said of a machine that nobody else uses, if this run has never seen one.
        """
        beliefs, at, usual = self.beliefs, LEVELS + self.sources.index(source), self.usual_others
        expected, weight = beliefs.mean[0, :, at] + usual * beliefs.mean[0, :, OTHERS], beliefs.weight[0]
        cov = beliefs.cov[0]
        own = cov[:, at, at] + 2 * usual * cov[:, at, OTHERS] + usual**2 * cov[:, OTHERS, OTHERS]
        mean = float((weight * expected).sum())
        return mean, math.sqrt(float((weight * (own * beliefs.variance[0] + (expected - mean) ** 2)).sum()))

    def expected_next(self, source: int) -> float:
        """Return the score that is expected of a source now, and half a deviation: what is below may be kept."""
        beliefs = self.beliefs
        level = beliefs.mean[:, :, LEVELS + self.sources.index(source)]
        now = level + beliefs.mean[:, :, DRIFT] + self.others * beliefs.mean[:, :, OTHERS]
        return float((beliefs.weight * now).sum()) + self.trial_sd / 2

    def gain(self, source: int, over: int) -> Gain:
        """Return by how much a kept source is better than another one."""
        at, slot = np.array([self.sources.index(over)]), np.array([self.sources.index(source)])
        gains = compare(self.beliefs, at, slot)
        return Gain(
            mean=float(gains.mean[0]), sd=float(gains.sd[0]), probability=float(gains.probability[0]),
            worth=float(gains.worth[0]), worth_of_idea=float(worth_of_idea(self.beliefs, at)[0]),
        )  # fmt: skip

    @property
    def knows_noise(self) -> bool:
        """Return whether more is known of the noise than any run's first guess."""
        return float(self.beliefs.shape[0]) > FIRST_TRIALS

    @property
    def trial_sd(self) -> float:
        """Return the standard deviation of one trial, drift and others apart."""
        return float(self.beliefs.trial_sd[0])

    @property
    def pair_sd(self) -> float:
        """Return the standard deviation of the difference of two trials in a row."""
        return float(self.beliefs.pair_sd[0])


def free_slot(ages: tuple[int, ...], champion: int) -> int:
    """Return the slot for a newly kept source: the next free one, else the oldest but the champion's and the first.

    The first one is the baseline's, with which every view compares.
    """
    if len(ages) < KEPT_SLOTS:
        return len(ages)
    return min((age, slot) for slot, age in enumerate(ages) if age > 0 and slot != champion)[1]
