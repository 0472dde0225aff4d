"""Duels: pairs, looks, the interval."""

import random
from dataclasses import replace

import pytest

from orchestrator import duels
from orchestrator.duels import Duel, NextTrial, Result
from orchestrator.types import DuelOutcome, Experiment, Level, Score, Status
from tests.support.journals import kept


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
    """Of all of it, duels included; no more than `claim_hours`."""
    assert 5 == duels.affordable_pairs(90 * 30.0, 30.0, 2.0)
    assert 1 == duels.affordable_pairs(90 * 30.0, 30.0, 0.02)
    assert 0 == duels.affordable_pairs(90 * 30.0, 30.0, 0.0)
    assert 120 == duels.affordable_pairs(1e6, 30.0, 2.0)


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


# ---- trial by trial

DUEL = Duel(champion_id=3, rival_id=0, most=4)


def half(number: int, source: int, value: float | None = 1.0, status: Status = Status.DISCARD) -> Experiment:
    """Return a trial of a duel."""
    score = None if value is None else Score(value=value, level=Level.L2)
    return kept(1.0, id=number, status=status, remeasures_id=source, reason="why", score=score)


def pairs(*differences: float) -> list[Experiment]:
    """Return pairs in which the champion was better by so much, begun by each in turn."""
    both = [((2 * n, 3, 2.0 - d), (2 * n + 1, 0, 2.0)) for n, d in enumerate(differences)]
    return [half(*one) for n, pair in enumerate(both) for one in (pair if n % 2 else pair[::-1])]


def test_the_second_trial_of_a_pair_is_the_other_source_with_the_same_seed() -> None:
    """Which begins is drawn for each pair."""
    assert NextTrial(source_id=None) == duels.next_step(DUEL, [])
    assert NextTrial(source_id=0, seed_of=7) == duels.next_step(DUEL, [half(7, 3)])
    assert NextTrial(source_id=3, seed_of=9) == duels.next_step(DUEL, [*pairs(0.1), half(9, 0)])
    assert NextTrial(source_id=None) == duels.next_step(DUEL, pairs(0.1, 0.2))


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ((0.1, 0.11, 0.09, 0.1), DuelOutcome.SHOWN),
        ((0.1, -0.1, 0.2, -0.1), DuelOutcome.NOT_SHOWN),
        ((-0.1, -0.11, -0.09, -0.1), DuelOutcome.REFUTED),
    ],
)
def test_a_duel_ends_with_its_interval(differences: tuple[float, ...], outcome: DuelOutcome) -> None:
    """A gain is claimed where all of it is above 0."""
    result = duels.next_step(DUEL, pairs(*differences))

    assert isinstance(result, Result)
    assert outcome is result.outcome
    assert result.interval is not None
    assert sum(differences) / 4 == pytest.approx(result.interval.mean)


@pytest.mark.parametrize("status", [Status.CRASH, Status.TIMEOUT, Status.OOM, Status.CHEAT])
def test_a_source_that_fails_in_a_duel_has_no_claim(status: Status) -> None:
    """Neither has one that cheats although it scored; the reason names it."""
    scored = [half(9, 3, 0.1, status)] if status is Status.CHEAT else []
    for last in (half(9, 3, None, status), *scored):
        result = duels.next_step(DUEL, [*pairs(0.1), last])

        assert isinstance(result, Result)
        assert DuelOutcome.FAILED is result.outcome
        assert f"experiment 3 ended as {status}: why" == result.reason


@pytest.mark.parametrize("status", [Status.CONTENDED, Status.INFRA])
def test_a_disturbed_pair_is_drawn_anew(status: Status) -> None:
    """Its other half does not count either; a duel that is disturbed too often ends without a result."""
    spoilt = [half(20, 0, 9.0), half(21, 3, 0.1, status)]
    again = [*pairs(0.1, 0.11), *spoilt, *pairs(0.09, 0.1)]

    assert NextTrial(source_id=None) == duels.next_step(DUEL, [*pairs(0.1), *spoilt])
    result = duels.next_step(DUEL, again)
    assert isinstance(result, Result)
    assert DuelOutcome.SHOWN is result.outcome
    ended = duels.next_step(DUEL, [half(n, 3, None, status) for n in range(4)])
    assert isinstance(ended, Result)
    assert (DuelOutcome.DISTURBED, None) == (ended.outcome, ended.interval)


def test_a_pair_on_two_hosts_is_drawn_anew() -> None:
    """Both trials of a pair run on one host of a cluster, whose slot may be lost in between."""
    first, second = (replace(half(number, source), host=f"host{number}") for number, source in ((7, 3), (8, 0)))

    assert NextTrial(source_id=None) == duels.next_step(DUEL, [first, second])
    assert NextTrial(source_id=0, seed_of=7) == duels.next_step(DUEL, [first])
