"""Candidates that play against the rule of keeping: conditions, order and seed of a trial gain them nothing.

Those that act inside a container are attacks/scores/zoo/51 to 55; here is what the rule makes of them.
"""

import random
from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from orchestrator import duels, patch, policy
from orchestrator.estimates import Estimates
from orchestrator.types import Conditions, MachineLoad
from tests.support import fakes
from tests.support.journals import kept
from tests.test_policy import attempt, champion

SEEN = MachineLoad(
    started_unix_s=1e9, duration_s=25.0, cpus=2, waited_s=1.2, pressure_s=1.0, cpu_s=40.0, others_cpu_s=1.0,
    steal_s=0.1, clock_mhz=2600.0, pace_before=400.0, pace_after=400.0, gpu_clock_mhz=1755.0, gpu_throttled_s=0.0,
    gpu_power_w=300.0, gpu_temperature_c=60.0,
)  # fmt: skip
SHARE_OF = ("duration_s", "cpus")  # the time that others' use is a share of
ITS_OWN = [field.name for field in fields(MachineLoad) if field.name not in (*MachineLoad.OUTSIDE, *SHARE_OF)]
DUELS, PAIRS = 400, 12


def run_with_neighbours() -> Estimates:
    """Return a run that has learnt what busy neighbours cost."""
    busy = replace(SEEN, others_cpu_s=20.0)
    estimates = policy.learn(None, kept(2.0, loads=(SEEN,)))
    for n in range(1, 9):
        load, score = (busy, 2.2) if n % 2 else (SEEN, 2.0)
        again = kept(score + 0.005 * (n % 3), id=n, remeasures_id=0, loads=(load,))
        estimates = policy.learn(estimates, again)
    assert estimates is not None
    return estimates


@pytest.mark.parametrize("name", ITS_OWN)
def test_51_what_a_candidate_does_to_itself_makes_its_estimate_no_better(name: str) -> None:
    """It starves its threads, heats its processors or its GPU: the gain is estimated as if it had not."""
    value = getattr(SEEN, name)
    worse = replace(SEEN, **{name: ("heat",) if isinstance(value, tuple) else 100.0 * (value + 1.0)})
    best, estimates = replace(champion(2.0), conditions=Conditions()), run_with_neighbours()
    gains = [
        policy.estimate_gain(estimates, attempt(one), best, (one,))
        for one in (fakes.scored(2.05, load=SEEN), fakes.scored(2.05, load=worse))
    ]

    assert gains[0] is not None
    assert gains[0] == gains[1]


def shown(difference: Callable[[random.Random], float]) -> float:
    """Return in which share of duels a gain is shown, whose pairs differ like this."""
    chance, count = random.Random(3), 0  # noqa: S311  # no secret
    for _ in range(DUELS):
        pairs: list[float] = []
        while (found := duels.conclude(pairs, PAIRS)) is None:
            pairs.append(difference(chance))
        count += found.is_shown
    return count / DUELS


def test_52_a_place_in_the_pair_that_is_drawn_gives_no_claim() -> None:
    """Quick where it goes first, slow where second: the order is drawn, so it cancels. Nor is a null claimed."""
    by_order = shown(lambda chance: chance.choice((1, -1)) * 0.05 + chance.gauss(0, 0.02))
    null = shown(lambda chance: chance.gauss(0, 0.02))
    real = shown(lambda chance: 0.05 + chance.gauss(0, 0.02))

    assert by_order < 0.05
    assert null < 0.05
    assert real > 0.95


def test_52_what_was_quick_in_the_screen_only_is_refuted() -> None:
    """A duel has trials of its own: the score that it was chosen by is none of them."""
    chance = random.Random(3)  # noqa: S311  # no secret
    found = duels.conclude([-0.05 + chance.gauss(0, 0.02) for _ in range(PAIRS)], PAIRS)

    assert found is not None
    assert found.is_refuted


def test_54_a_null_patch_in_other_words_is_the_same_patch() -> None:
    """Comments, docstrings and layout make no other fingerprint, so it is refused as a repeat."""
    words = fakes.TRAIN_PY.replace("LEARNING_RATE = 0.02", "# tuned\nLEARNING_RATE = (\n    0.02  # by hand\n)")

    assert patch.fingerprint(fakes.TRAIN_PY) == patch.fingerprint(words)


def test_55_a_seed_that_was_searched_for_is_worth_no_more_than_with_a_fresh_one() -> None:
    """Its first trial flatters it; with seeds of the host's choice it is what it is."""
    best, estimates = replace(champion(2.0), conditions=Conditions()), run_with_neighbours()
    first, *fresh = (fakes.scored(value, load=SEEN) for value in (1.98, 2.01, 2.02, 2.01))
    lucky = policy.estimate_gain(estimates, attempt(first), best, (first,))
    known = policy.estimate_gain(estimates, attempt(first, *fresh), best, (first, *fresh))

    assert lucky is not None
    assert known is not None
    assert known.probability < 0.5 < lucky.probability
