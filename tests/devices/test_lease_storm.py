"""The short form of `make lease-storm`: twenty rounds instead of two hundred."""

import os
import re
import subprocess

import pytest

from orchestrator.devices.lease import LeasePolicy
from tests.soak.lease_storm import Storm, main


def test_a_storm_of_loops_shares_and_leaks_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Loops of two users on one and on two GPUs, with random kill -9, through the real locks."""
    code = main(rounds=20, seed=3)
    last = capfd.readouterr().out.splitlines()[-1]

    assert 0 == code, last
    assert re.fullmatch(r"leases: 20 rounds, 0 double, 0 leaked, longest wait \d+\.\d s", last)


def test_a_storm_would_see_a_double() -> None:
    """Two spans of one GPU that overlap count, those that follow each other or are of two GPUs do not."""
    storm = Storm(policy=LeasePolicy(profile="gpu"), chance=None)  # type: ignore[arg-type]
    storm.spans = [("GPU-0", 0.0, 1.0), ("GPU-0", 1.0, 2.0), ("GPU-1", 0.5, 3.0)]
    apart = storm.doubles()
    storm.spans.append(("GPU-1", 2.9, 4.0))

    assert (0, 1) == (apart, storm.doubles())


def test_a_killed_loop_that_said_that_it_gave_back_held_nothing_until_its_death() -> None:
    """Its last words may wait in the queue, behind those that led to the kill."""
    storm = Storm(policy=LeasePolicy(profile="gpu"), chance=None)  # type: ignore[arg-type]
    with subprocess.Popen(["/bin/sleep", "60"]) as asleep:
        hears, says = os.pipe()
        storm.hears, storm.loops, storm.holds = hears, {asleep.pid: 0}, {asleep.pid: ("GPU-0", 1.0)}
        storm.unheard += [f"gave {asleep.pid} GPU-0 2.0", "took 7 GPU-0 3.0 0.1", "gave 7 GPU-0 4.0"]
        storm.kill(asleep.pid)
        os.close(hears)
        os.close(says)

    assert [("GPU-0", 1.0, 2.0), ("GPU-0", 3.0, 4.0)] == storm.spans
    assert 0 == storm.doubles()
