"""Duels: pairs, looks, the interval."""

import random

import pytest

from orchestrator import duels


@pytest.mark.parametrize(("most", "expected"), [(4, (4,)), (7, (7,)), (8, (4, 8)), (24, (12, 24))])
def test_a_duel_is_judged_at_most_twice(most: int, expected: tuple[int, ...]) -> None:
    """After half of its pairs, where that is enough for an interval, and after all."""
    assert expected == duels.looks(most)
    assert 0.05 == pytest.approx(sum(duels.spent(pairs, most) for pairs in expected))


def test_a_duel_goes_on_until_it_is_decided() -> None:
    """A clear one ends after half of its pairs, an unclear one with the last."""
    clear, unclear = [0.5, 0.49, 0.51, 0.5], [0.5, -0.5, 0.4, -0.6]

    assert duels.conclude(clear[:3], 8) is None
    found = duels.conclude(clear, 8)
    assert found is not None
    assert (True, False, 4) == (found.is_shown, found.is_refuted, found.pairs)
    assert duels.conclude(unclear, 8) is None
    last = duels.conclude(unclear * 2, 8)
    assert last is not None
    assert not last.is_shown
    worse = duels.conclude([-value for value in clear], 8)
    assert worse is not None
    assert worse.is_refuted


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Also of duels that end early: 93 to 97 of 100, whatever the true gain."""
    chance, held = random.Random(5), [0, 0]  # noqa: S311 - no secret
    for trial in range(4000):
        gain, differences = 0.6 * (trial % 3), list[float]()
        while (found := duels.conclude(differences, 12)) is None:
            differences.append(chance.gauss(gain, 1.0))
        held[found.low <= gain <= found.high] += 1

    assert 0.93 < held[True] / sum(held) < 0.975


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.95, 10, 1.8125), (0.975, 23, 2.0687), (0.5, 3, 0.0)],
)
def test_students_t_is_as_tables_have_it(probability: float, degrees: int, expected: float) -> None:
    """Of odd and even degrees of freedom."""
    assert expected == pytest.approx(duels.t_quantile(probability, degrees), abs=1e-4)


def test_duels_take_a_tenth_of_the_device_time() -> None:
    """Of all of it, duels included; no more than `claim_hours`, and never more pairs than are of use."""
    assert 5 == duels.affordable_pairs(90 * 30.0, 30.0, 2.0)
    assert 1 == duels.affordable_pairs(90 * 30.0, 30.0, 0.02)
    assert 0 == duels.affordable_pairs(90 * 30.0, 30.0, 0.0)
    assert duels.MOST_PAIRS == duels.affordable_pairs(1e6, 30.0, 2.0)


def test_the_smallest_gain_is_shown_four_times_in_five() -> None:
    """By duels of so many pairs."""
    chance, shown = random.Random(6), 0  # noqa: S311 - no secret
    gain = duels.smallest_gain(1.0, 12)
    for _ in range(2000):
        differences = list[float]()
        while (found := duels.conclude(differences, 12)) is None:
            differences.append(chance.gauss(gain, 1.0))
        shown += found.is_shown

    assert 0.75 < shown / 2000 < 0.87
