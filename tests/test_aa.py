"""`make aa` in short: null patches change nothing but their fingerprint, and what the loop kept of them is counted."""

import os
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import patch
from orchestrator.loop import run_session
from orchestrator.types import MachineLoad, Trial
from tests.soak import aa
from tests.soak.aa import Counts, Gain, Patches
from tests.support import fakes, sessions
from tests.support.waiting import within
from tests.trust.test_calibrate import slot

SHIPPED = (Path(__file__).parents[1] / "mutable" / "train.py").read_text()
SMALL = '''"""A program."""

import math

RATE = 0.1  # too small


def area(radius):
    """Of a circle."""
    square = radius * radius
    return [math.pi * square for square in [square]][0]


if __name__ == "__main__":
    print(area(2.0), RATE)
'''
GAIN = Gain(constant="RATE", worse="0.01", shipped="0.1", worth=0.1)


def printed(source: str) -> str:
    """What a program prints."""
    return subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("number", range(4))
def test_a_null_patch_changes_nothing_but_the_fingerprint(number: int) -> None:
    """Whatever its way; also when it is made of one of its own kind."""
    _, once = aa.null_patch(SMALL, number)
    _, twice = aa.null_patch(once, number + 4)

    assert 3 == len({patch.fingerprint(source) for source in (SMALL, once, twice)})
    assert printed(SMALL) == printed(once) == printed(twice)


def test_each_way_fits_the_shipped_train_py() -> None:
    """It still is what the contract asks for."""
    sources = [aa.null_patch(SHIPPED, number)[1] for number in range(4)]

    assert 5 == len({patch.fingerprint(source) for source in (SHIPPED, *sources)})
    for source in sources:
        patch.check(source, (), contract=True)


def test_a_planted_gain_puts_a_constant_right() -> None:
    """Where it is set first, its comment left alone; one that is not there is a mistake."""
    for gain in aa.GAINS:
        worse = aa.set_constant(SHIPPED, gain.constant, gain.worse)
        assert SHIPPED != worse
        assert (f"{gain.constant} = {gain.shipped}", SHIPPED) == aa.plant(worse, gain)

    assert "RATE = 0.01  # too small\n" in aa.set_constant(SMALL, "RATE", "0.01")
    with pytest.raises(AssertionError, match="OTHER is not set"):
        aa.set_constant(SMALL, "OTHER", "1")


def test_planted_gains_come_anywhere() -> None:
    """Each once, among all null patches."""
    plan = aa.plan_patches(5, [GAIN], random.Random(1))  # noqa: S311  # no secret

    assert 6 == len(plan)
    assert 5 == plan.count(None)


def test_what_was_kept_is_counted(tmp_path: Path) -> None:
    """The gain is found, and no null patch; both halves are summed in the last line."""
    config = sessions.task(tmp_path, 0)
    gain = Gain(constant="LEARNING_RATE", worse="0.5", shipped="0.05", worth=0.45)
    config.mutable_path.write_text(aa.set_constant(config.mutable_path.read_text(), gain.constant, gain.worse))

    def score(source: str) -> Trial:
        return fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.05), load=MachineLoad(waited_s=1.0, cpu_s=9.0))

    session, _, _ = sessions.session(config, score, [])
    patches = Patches(plan=[None, None, gain, None])
    with session.journal as journal:
        run_session(replace(session, proposals=replace(session.proposals, proposer=patches)))
        leased = slot(tmp_path, iter(()))
        leased.make = lambda _: fakes.ArithmeticRunner(score)
        aa.duel_kept(journal, leased, session.rules, 4)
        counts = aa.count(journal)

    assert (3, 0, 0) == (counts.nulls, counts.kept, counts.claimed)
    assert (1, 1, 1) == (counts.planted, counts.found, counts.shown)
    assert 5 == len(counts.waited)
    both = str(counts + Counts(nulls=30, kept=2, claimed=1, waited=(0.3,) * len(counts.waited)))
    assert "33 null patches, 2 kept, 1 claimed; 1 planted, 1 kept; waited 20.0 %" == both


def test_the_second_process_ends_with_its_block() -> None:
    """And with everything that it started: one for each processor."""
    with aa.second_process(seed=1) as group:
        assert within(10, lambda: len(members(group)) == len(os.sched_getaffinity(0)))

    assert within(10, lambda: members(group) == [])


def members(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
            found += [stat.parent.name] if int(pgrp) == group and state != "Z" else []
    return found
