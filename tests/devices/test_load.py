"""From samples of the machine to what it was like while a trainer ran."""

import os
import time

import pytest

from orchestrator.devices.load import Sample, Watched, load_of, measure_pace, with_load
from orchestrator.types import Role, Trial
from tests.support import fakes


def watched(*others: float | None) -> Watched:
    """Samples of ten seconds each, from second 0 on, with what others used in each."""
    samples = [
        Sample(from_s=10.0 * n, to_s=10.0 * (n + 1), others_cpu_s=seconds, steal_s=1.0, clock_mhz=2000.0 + n)
        for n, seconds in enumerate(others)
    ]
    return Watched(samples=samples, cpus=2, pace_before=400.0, pace_after=390.0)


def test_only_what_happened_while_the_trainer_ran_counts() -> None:
    """Half of the first sample, half of the last; the clock is the mean of those it touches."""
    trainer = fakes.execution(started_s=15.0, duration_s=20.0, cpu_s=30.0, waited_s=3.0)
    load = load_of(trainer, watched(90.0, 4.0, 10.0, 2.0, 90.0))

    assert 2.0 + 10.0 + 1.0 == load.others_cpu_s
    assert 2.0 == load.steal_s
    assert 2002.0 == load.clock_mhz
    assert (30.0, 3.0, 20.0, 2) == (load.cpu_s, load.waited_s, load.duration_s, load.cpus)
    assert (400.0, 390.0) == (load.pace_before, load.pace_after)


def test_a_sample_that_could_not_tell_is_stood_for_by_the_others() -> None:
    """Where none could, nothing is said; ticks that are a little off make no negative work."""
    trainer = fakes.execution(started_s=0.0, duration_s=20.0)

    assert 8.0 == load_of(trainer, watched(4.0, None)).others_cpu_s
    assert load_of(trainer, watched(None, None)).others_cpu_s is None
    assert load_of(trainer, Watched()).others_cpu_s is None
    assert 0.0 == load_of(trainer, watched(-0.5, 0.2)).others_cpu_s


def test_the_start_is_told_in_the_time_of_day() -> None:
    """The monotonic clock begins anew at each boot."""
    trainer = fakes.execution(started_s=time.monotonic() - 100.0)

    assert 900.0 == pytest.approx(load_of(trainer, Watched(), now=lambda: 1000.0).started_unix_s, abs=1.0)


def test_only_the_trainer_gets_a_load() -> None:
    """And a trial in which none ran has none."""
    trial = Trial(executions=(fakes.execution(), fakes.execution(Role.SCORER)), score=None, failure=None, message="")
    trainer, scorer = with_load(trial, watched(4.0, 4.0)).executions

    assert trainer.load is not None
    assert scorer.load is None
    assert with_load(Trial.infra("the engine is gone"), watched()).load is None


def test_the_pace_is_that_of_the_leased_processors_and_leaves_no_trace() -> None:
    """This thread runs where it ran before; processors that are not ours have no pace."""
    before = os.sched_getaffinity(0)
    pace = measure_pace(before)

    assert pace is not None
    assert pace > 0
    assert measure_pace([4095]) is None
    assert measure_pace([]) is None
    assert before == os.sched_getaffinity(0)
