"""Estimates of sources from all trials of a run: a Kalman filter over levels, drift and the usual gain."""

import math
import random
from statistics import NormalDist

import numpy as np
import pytest

from orchestrator import estimates
from orchestrator.estimates import CHALLENGER, KEPT_SLOTS, Estimates
from orchestrator.policy import SURE
from orchestrator.policy import is_sure as is_sure_of

ONE = np.array([True])


def test_one_trial_already_gives_an_estimate() -> None:
    """Its level is its score; how sure that is nobody knows yet."""
    begun = Estimates.begin(0, 2.0)
    level, sd = begun.level(0)

    assert 2.0 == pytest.approx(level)
    assert 0 < sd < 0.1
    assert 0 == begun.best()


def test_the_filter_is_the_regression_it_stands_for() -> None:
    """Its levels and drift are those of one generalised least-squares fit of all trials at once, model by model."""
    scores, others = [2.0, 2.02, 1.97, 2.1, 1.99], [0.0, 0.1, 0.05, 0.3, 0.0]
    beliefs = estimates.begin(np.array(scores[:1]), np.array(others[:1]))
    for score, share in zip(scores[1:], others[1:], strict=True):
        beliefs, _ = estimates.observe(beliefs, np.array([0]), np.array([score]), np.array([share]), ONE)

    for number, (_, (sd, rho)) in enumerate(estimates.MODELS):
        n, x = len(scores), np.array(others)
        drift = sd**2 * rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        noise = np.eye(n) + drift + (estimates.OTHERS_SD**2) * np.outer(x, x)
        inverse = np.linalg.inv(noise)
        level = (inverse @ np.array(scores)).sum() / inverse.sum()
        assert level == pytest.approx(beliefs.mean[0, number, estimates.LEVELS], abs=1e-9)
        assert 1 / inverse.sum() == pytest.approx(beliefs.cov[0, number, estimates.LEVELS, estimates.LEVELS], rel=1e-6)


def test_a_source_with_more_trials_is_known_better() -> None:
    """And trials of others tell of the drift alone."""
    chance, known = random.Random(1), Estimates.begin(0, 2.0)  # noqa: S311 - no secret
    for _ in range(10):
        known = known.repeat(0, 2.0 + chance.gauss(0, 0.01))
    before = known.level(0)[1]
    for _ in range(20):
        known = known.repeat(0, 2.0 + chance.gauss(0, 0.01))

    assert known.level(0)[1] < before
    assert 0.005 < known.trial_sd < 0.02
    assert 2.0 == pytest.approx(known.level(0)[0], abs=0.01)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_scale_of_the_scores_does_not_matter(scale: float) -> None:
    """Whatever the metric's unit: the same probabilities after a few trials."""
    known = Estimates.begin(0, 2.0 * scale)
    for swing in (1, -1, -1, 1, 1, -1):
        known = known.repeat(0, (2.0 + 0.01 * swing) * scale)

    _, gain = known.challenge(0, 0, ((1.95 * scale, 0.0),))
    assert 0.8 < gain.probability < 1
    assert 0.05 == pytest.approx(gain.mean / scale, rel=0.5)


def test_a_broken_challenger_teaches_nothing_of_the_machine() -> None:
    """However bad its score, the estimates are those from before, a trial later."""
    known = Estimates.begin(0, 2.0)
    for swing in (1, -1, -1, 1, 1, -1, 1, -1):
        known = known.repeat(0, 2.0 + 0.01 * swing)
    after, gain = known.challenge(0, 0, ((9.0, 0.0),))

    assert gain.is_broken
    assert known.trial_sd == pytest.approx(after.trial_sd)
    assert known.level(0)[0] == pytest.approx(after.level(0)[0])


def test_the_oldest_kept_source_makes_room_but_never_the_champion() -> None:
    """There are so many slots; a source without one is unknown."""
    known = Estimates.begin(0, 1.0)
    for number in range(1, KEPT_SLOTS + 3):
        learnt, _ = known.challenge(0, known.best(), ((1.0 + number, 0.0),))
        known = learnt.keep(number)

    assert known.knows(0)
    assert not known.knows(1)
    assert known.knows(KEPT_SLOTS + 2)
    assert KEPT_SLOTS == len(known.sources) == CHALLENGER


@pytest.mark.parametrize("z", [-9.0, -2.0, 0.0, 0.5, 3.0])
def test_the_normal_distribution_is_as_the_library_has_it(z: float) -> None:
    """Within 2e-7."""
    assert NormalDist().cdf(z) == pytest.approx(float(estimates.normal_cdf(np.array(z))), abs=2e-7)


def test_the_expected_excess_is_the_mean_of_what_is_above_zero() -> None:
    """As a simulation finds it; nothing where it cannot be above 0."""
    chance = random.Random(3)  # noqa: S311 - no secret
    drawn = sum(max(0.0, chance.gauss(-0.3, 0.8)) for _ in range(200_000)) / 200_000

    assert drawn == pytest.approx(float(estimates.expected_excess(np.array(-0.3), np.array(0.8))), abs=0.005)
    assert math.isclose(0.0, float(estimates.expected_excess(np.array(-1.0), np.array(0.0))), abs_tol=1e-12)


def test_an_estimate_is_for_the_usual_load_of_the_run() -> None:
    """Where others always work, it says nothing of an idle machine: it lies among what was measured."""
    known = Estimates.begin(0, 2.0, others=0.8)
    for value, others in ((2.1, 0.9), (1.9, 0.7), (2.02, 0.82), (1.98, 0.78)):
        known = known.repeat(0, value, others)
    level, sd = known.level(0)

    assert 2.0 == pytest.approx(level, abs=0.05)
    assert sd < 0.2


CLEAR = ((0.5, 0.0), (0.51, 0.0))  # two trials of a challenger, half of the champion's score


@pytest.mark.parametrize(("noise", "is_sure"), [(0.0, False), (0.02, True)])
def test_a_reported_noise_settles_a_gain_far_beyond_it(noise: float, is_sure: bool) -> None:
    """Without it one trial of the baseline leaves open that all of the difference is noise."""
    _, gain = Estimates.begin(0, 1.0, noise=noise).challenge(0, 0, CLEAR)

    assert is_sure is bool(is_sure_of(gain.probability))


def test_a_reported_noise_that_is_ten_times_too_small_makes_no_chance_sure() -> None:
    """Of changes that change nothing no more are called sure than that word allows."""
    runs, chance = 2000, np.random.default_rng(5)
    one, nobody = np.ones(runs, dtype=bool), np.zeros(runs)
    first, challenger = np.zeros(runs, dtype=np.int64), np.full(runs, CHALLENGER)
    beliefs = estimates.begin(1 + 0.1 * chance.normal(size=runs), nobody, np.full(runs, 0.01))
    beliefs, sure = estimates.branch(beliefs, first, one), []
    for _ in range(2):
        beliefs, _ = estimates.observe(beliefs, challenger, 1 + 0.1 * chance.normal(size=runs), nobody, one)
        sure.append(is_sure_of(estimates.compare(beliefs, first, challenger).probability).mean())

    assert max(sure) < 1 - SURE


def test_trials_overrule_a_reported_noise() -> None:
    """And one of nothing is no smaller than any run's first guess."""
    known = Estimates.begin(0, 1.0, noise=0.001)
    for swing in (1, -1, -1, 1, 1, -1, 1, -1, 1, 1, -1, -1):
        known = known.repeat(0, 1.0 + 0.05 * swing)

    assert known.trial_sd == pytest.approx(0.05, rel=0.2)
    assert Estimates.begin(0, 1.0).trial_sd == pytest.approx(Estimates.begin(0, 1.0, noise=1e-12).trial_sd)
