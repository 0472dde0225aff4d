"""Experiments side by side: one writer owns the champion, nothing is lost, and one runner is the plain loop."""

import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import Config, load
from orchestrator.devices.lease import LeasePolicy
from orchestrator.errors import ConfigError, EngineUnavailable, LeaseUnavailable
from orchestrator.events import Event, ExperimentBegun, ExperimentFinished, ReplyRejected, experiment_id_of
from orchestrator.loop import run_session
from orchestrator.preflight import require_devices
from orchestrator.record.record_file import Recorded
from orchestrator.session import Session
from orchestrator.types import Status, Trial
from tests.support import fakes, sessions
from tests.support.fake_nvml import Machine
from tests.test_policy import decide_by_policy

RATES = [f"{0.07 * 2.5**power:.7f}" for power in range(-8, 12)]  # far enough apart to be different questions


def config_for(tmp_path: Path, experiments: int, parallel: int, **flags: object) -> Config:
    """A task for so many runners."""
    sessions.task(tmp_path)
    usual = {"tag": "t", "runs": tmp_path / "runs", "limits.experiments": experiments, "parallel": parallel}
    return load(tmp_path, {**usual, "noise.rule": "lowest", **flags})


def crowd(
    config: Config, score: Callable[[str], Trial], rates: list[str], runner: type[fakes.ArithmeticRunner] | None = None
) -> tuple[Session, list[fakes.ArithmeticRunner]]:
    """Return a session with as many runners as its configuration says."""
    runners = [(runner or fakes.ArithmeticRunner)(score) for _ in range(config.parallel)]
    return sessions.open_session(config, fakes.ScriptedProposer(rates), *runners), runners


def on(kind: type[Event], session: Session, call: Callable[[int | None], None]) -> None:
    """Call a test with the experiment of every event of a kind."""

    def hear(recorded: Recorded[Event]) -> None:
        if isinstance(recorded.event, kind):
            call(experiment_id_of(recorded.event))

    session.journal.subscribe(hear)


def signal(event: threading.Event, wanted: int) -> Callable[[int | None], None]:
    """Return what sets an event for one experiment."""
    return lambda number: event.set() if number == wanted else None


SEVERAL = st.lists(st.integers(180, 200).map(lambda n: n / 100), min_size=6, max_size=6)


@settings(max_examples=6)
@given(SEVERAL, st.lists(SEVERAL, max_size=3))
def test_one_runner_decides_as_the_policy_alone_does(baseline: list[float], ideas: list[list[float]]) -> None:
    """`--parallel 1 --prefetch 0`: same candidates, trials and verdicts in the same order, whatever they score."""
    with tempfile.TemporaryDirectory() as folder:
        ideas = ideas or [[9.0] * 6]
        shipped = {"noise.rule": "estimate", "noise.claim_hours": 0, "prefetch": 0}
        config = config_for(Path(folder), len(ideas), 1, **shipped)
        left = {0.02: iter(baseline), **{float(rate): iter(runs) for rate, runs in zip(RATES, ideas, strict=False)}}
        loop, _ = crowd(config, lambda s: fakes.scored(next(left[fakes.rate_of(s)])), RATES)
        with loop.journal:
            run_session(loop)
            found = [(e.status.value, len(e.scores)) for e in loop.journal.experiments()]

    assert decide_by_policy(baseline, ideas) == found


@pytest.mark.parametrize(("first", "second", "status"), [("0.05", "0.04", "keep"), ("0.04", "0.05", "discard")])
def test_a_stale_childs_whole_file_wins_only_if_it_beats_the_champion_of_now(
    first: str, second: str, status: str, tmp_path: Path
) -> None:
    """Both have the baseline as parent, and beat it; the first ends last, and is kept as measured or discarded."""
    config = config_for(tmp_path, 2, 2)
    ended = threading.Event()

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == float(first):
            ended.wait(20)
        return sessions.parabola(source)

    loop, _ = crowd(config, run, [first, second])
    on(ExperimentFinished, loop, signal(ended, 2))
    with loop.journal:
        run_session(loop)
        told = [(e.id, e.status.value, e.parent_id) for e in loop.journal.experiments()]

    assert [(0, "keep", None), (1, status, 0), (2, "keep", 0)] == told
    assert fakes.TRAIN_PY.replace("0.02", "0.05") == config.mutable_path.read_text()
    on_branch = sessions.git(config, "show", "autoresearch/t:mutable/train.py")
    assert fakes.TRAIN_PY.replace("0.02", "0.05").strip() == on_branch


@pytest.mark.parametrize("seed", range(2))
def test_whatever_ends_first_the_record_adds_up(tmp_path: Path, seed: int) -> None:
    """Never more at once than runners, as many experiments as asked for, every keep below all before it."""
    config, chance = config_for(tmp_path, 8, 3), random.Random(seed)  # noqa: S311 - no secret
    at_once, most, baseline_alone, guard = 0, 0, True, threading.Lock()

    def run(source: str) -> Trial:
        nonlocal at_once, most, baseline_alone
        with guard:
            at_once += 1
            most = max(most, at_once)
            baseline_alone &= fakes.rate_of(source) != 0.02 or at_once == 1
            wait_s = chance.uniform(0.0, 0.1)
        time.sleep(wait_s)
        with guard:
            at_once -= 1
        return sessions.parabola(source)

    loop, runners = crowd(config, run, chance.sample(RATES, 20))
    with loop.journal:
        reason = run_session(loop)
        ended = [recorded.event.experiment for recorded in loop.journal.events(ExperimentFinished)]
        best = loop.journal.champion()

    kept = [e.value for e in ended if e.status is Status.KEEP and e.value is not None]
    assert "8 experiments done" == reason
    assert 9 == len(ended) == sum(len(runner.ran) for runner in runners)
    assert most <= 3
    assert baseline_alone
    assert kept == sorted(kept, reverse=True)
    assert min(e.value or 9.0 for e in ended) == kept[-1] == getattr(best, "value", None)
    assert 1.0 + abs(fakes.rate_of(config.mutable_path.read_text()) - 0.05) == pytest.approx(kept[-1])


def test_an_interrupt_ends_all_that_run_and_each_runs_again(tmp_path: Path) -> None:
    """Every runner is stopped, every record closed; the next session runs each again, once."""
    config = config_for(tmp_path, 3, 3)
    begun = threading.Semaphore(0)
    interrupted = threading.Event()

    def run(source: str) -> Trial:
        if fakes.rate_of(source) != 0.02 and not interrupted.is_set():
            begun.release()
            if fakes.rate_of(source) == 0.05:
                for _ in range(3):
                    begun.acquire(timeout=20)
                interrupted.set()
                raise KeyboardInterrupt
            interrupted.wait(20)
            time.sleep(0.3)
        return sessions.parabola(source)

    rates = ["0.03", "0.04", "0.05"]
    loop, runners = crowd(config, run, rates)
    with loop.journal:
        reason = run_session(loop)
        left = loop.journal.unfinished()
    stopped = [runner.stopped for runner in runners]
    loop, runners = crowd(config, run, rates)
    with loop.journal:
        again = run_session(loop)
        attempts = sorted((e.retry_of, e.attempt) for e in loop.journal.experiments() if e.retry_of is not None)

    assert ("interrupted", [], [True] * 3) == (reason, left, stopped)
    assert "3 experiments done" == again
    assert [(1, 2), (2, 2), (3, 2)] == attempts


def test_a_session_killed_with_several_active_experiments_resumes(tmp_path: Path) -> None:
    """Each is closed as infra and attempted again; the count of the limit holds."""
    config = config_for(tmp_path, 3, 2)
    both = threading.Barrier(2)
    dead = threading.Event()

    def run(source: str) -> Trial:
        if fakes.rate_of(source) != 0.02 and not dead.is_set():
            both.wait(20)
            dead.set()
            if fakes.rate_of(source) == 0.03:
                raise SystemExit
            time.sleep(1.0)
        return sessions.parabola(source)

    loop, _ = crowd(config, run, ["0.03", "0.04", "0.9"])
    with loop.journal, pytest.raises(SystemExit):
        run_session(loop)
    loop, runners = crowd(config, run, ["0.9"])
    with loop.journal:
        run_session(loop)
        found = [(e.id, e.status, e.retry_of) for e in loop.journal.experiments()]

    assert {(1, Status.INFRA, None), (2, Status.INFRA, None)} <= set(found)
    assert {1, 2} == {retry_of for _, _, retry_of in found if retry_of is not None}
    assert [0.03, 0.04, 0.9] == sorted(fakes.rate_of(source) for runner in runners for source in runner.ran)


def test_what_runs_right_now_is_not_proposed_again(tmp_path: Path) -> None:
    """A twin is refused with the number of the one that runs."""
    config = config_for(tmp_path, 2, 2)
    other = threading.Event()

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == 0.03:
            other.wait(20)
        return sessions.parabola(source)

    loop, runners = crowd(config, run, ["0.03", "0.03", "0.3"])
    on(ExperimentBegun, loop, signal(other, 2))
    with loop.journal:
        run_session(loop)
        why = [recorded.event.reason for recorded in loop.journal.events(ReplyRejected)]

    assert ["this repeats experiment 1, which is running now"] == why
    assert [0.02, 0.03, 0.3] == sorted(fakes.rate_of(source) for runner in runners for source in runner.ran)


def test_what_ends_during_the_wait_for_a_device_is_recorded_at_once(tmp_path: Path) -> None:
    """A pause, or a device that others use, holds up nothing but what would start."""
    config = config_for(tmp_path, 2, 2)
    recorded = threading.Event()
    waits: list[bool] = []

    def wait() -> bool:
        if not waits:
            waits.append(recorded.wait(20))
        return False

    loop, runners = crowd(config, sessions.parabola, ["0.03", "0.04"])
    runners[1].wait = wait
    on(ExperimentFinished, loop, signal(recorded, 1))
    with loop.journal:
        run_session(loop)

    assert recorded.is_set()
    assert 3 == len(sessions.statuses(config)) == sum(len(runner.ran) for runner in runners)


def test_a_device_that_cannot_be_leased_again_ends_the_session_loudly(tmp_path: Path) -> None:
    """Where it is the last; what a thread raises is raised where it is seen."""
    config = config_for(tmp_path, 2, 2)

    def wait() -> bool:
        raise LeaseUnavailable("nothing could be leased")

    loop, runners = crowd(config, sessions.parabola, ["0.03"])
    for runner in runners:
        runner.wait = wait
    with loop.journal, pytest.raises(LeaseUnavailable, match="nothing could be leased"):
        run_session(loop)


def test_a_device_that_nothing_can_use_yet_is_not_asked_for(tmp_path: Path) -> None:
    """While the baseline runs there is nothing to run beside it, and others may have the second GPU."""
    config = config_for(tmp_path, 3, 2)
    asked: list[int] = []  # how often the first had run

    def wait() -> bool:
        asked.append(len(first.ran))
        return False

    loop, (first, second) = crowd(config, sessions.parabola, ["0.03", "0.04", "0.05"])
    second.wait = wait
    with loop.journal:
        run_session(loop)

    assert 1 <= min(asked)
    assert second.ran


@pytest.mark.parametrize("kind", [LeaseUnavailable, EngineUnavailable])
@pytest.mark.parametrize("gone", [0, 1])
def test_a_device_that_is_gone_is_done_without(tmp_path: Path, kind: type[Exception], gone: int) -> None:
    """The others go on, and every experiment is run; the reason is said once."""
    config = config_for(tmp_path, 3, 2)

    def wait() -> bool:
        raise kind("it fell off the bus")

    loop, runners = crowd(config, sessions.parabola, ["0.03", "0.04", "0.05"])
    runners[gone].wait = wait
    with loop.journal, structlog.testing.capture_logs() as logs:
        run_session(loop)

    assert (4, 0) == (len(runners[1 - gone].ran), len(runners[gone].ran))
    assert [("it fell off the bus", 1)] == [
        (event["reason"], event["left"]) for event in logs if event["event"] == "device.given_up"
    ]


def test_more_than_can_ever_be_leased_is_refused_at_once(tmp_path: Path) -> None:
    """With what there is, what stands against it, and what to lower; GPUs of another class do not count."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    machine.gpu("GPU-2")
    machine.gpu("GPU-3")
    policy = LeasePolicy(profile="gpu", sysfs=machine.sysfs, proc=machine.proc)
    require_devices(policy, 2)
    with pytest.raises(ConfigError, match=r"--parallel 3: only 2 can be leased here, with .* reserve_gpus = 1"):
        require_devices(policy, 3)
    with pytest.raises(ConfigError, match="leave none of 3 GPUs"):
        require_devices(replace(policy, hardware="another kind"), 2)
    with pytest.raises(ConfigError, match=r"--parallel 99: .* cpus = 1 each"):
        require_devices(LeasePolicy(profile="cpu"), 99)
