"""Experiments side by side: one writer owns the best, nothing is lost, and one runner is the plain loop."""

import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import Config, load
from orchestrator.devices.lease import LeasePolicy
from orchestrator.errors import ConfigError, EngineUnavailable, LeaseUnavailable
from orchestrator.loop import run_session
from orchestrator.preflight import require_devices
from orchestrator.protocols import Runner
from orchestrator.scoring.noise import is_inside, spread
from orchestrator.session import Session
from orchestrator.types import Candidate, Experiment, Plan, Spent, Status, Trial
from tests.support import fakes, sessions
from tests.support.fake_nvml import Machine

RATES = [f"{0.07 * 2.5**power:.7f}" for power in range(-8, 12)]  # far enough apart to be different questions
SCORES = st.integers(180, 200).map(lambda n: n / 100)  # no jump that would be doubted


def config_for(tmp_path: Path, experiments: int, parallel: int, **flags: object) -> Config:
    """A task for so many runners."""
    sessions.task(tmp_path)
    usual = {"tag": "t", "runs": tmp_path / "runs", "limits.experiments": experiments, "parallel": parallel}
    return load(tmp_path, {**usual, "noise.baseline_runs": 1, "noise.remeasure_every": 0, **flags})


@dataclass(slots=True)
class Watcher(fakes.SilentView):
    """Calls a test back."""

    begins: Callable[[int], object] = lambda _: None
    ends: Callable[[int], object] = lambda _: None

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """Tell."""
        self.begins(experiment_id)

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """Tell."""
        self.ends(experiment.id)


def crowd(
    config: Config, score: Callable[[str], Trial], rates: list[str], **changes: object
) -> tuple[Session, list[fakes.ArithmeticRunner]]:
    """A session with as many runners as its configuration says."""
    loop, _, runner = sessions.session(config, score, rates)
    more = [fakes.ArithmeticRunner(score) for _ in range(config.parallel - 1)]
    return replace(loop, runners=(runner, *more), **changes), [runner, *more]  # type: ignore[arg-type]


def plain(baseline: list[float], ideas: list[list[float]]) -> list[tuple[str, int]]:
    """What the plain loop decides, in a few lines of its own: the status and the number of runs of each."""
    best, best_runs, groups = sum(baseline) / 3, 3, [baseline]
    told = [("keep", 3)]
    for runs in ideas:
        known, took = spread(groups) or 0.0, 1
        mean = runs[0]
        while mean < best and took < 3 and is_inside(best - mean, known, took, best_runs):
            took += 1
            mean = sum(runs[:took]) / took
        better = mean < best and (took == 1 or sum(runs[1:took]) / (took - 1) < best)
        groups += [runs[:took]] if took > 1 else []
        if better:
            best, best_runs = mean, took
        told.append(("keep" if better else "discard", took))
    return told


@settings(max_examples=6)
@given(st.lists(SCORES, min_size=3, max_size=3), st.lists(st.lists(SCORES, min_size=3, max_size=3), max_size=3))
def test_one_runner_decides_as_the_plain_loop_does(baseline: list[float], ideas: list[list[float]]) -> None:
    """`--parallel 1 --prefetch 0`: same candidates, runs and verdicts in the same order, whatever they score."""
    with tempfile.TemporaryDirectory() as folder:
        shipped = {"noise.baseline_runs": 3, "prefetch": 0}
        config = config_for(Path(folder), max(1, len(ideas)), 1, **shipped)
        ideas = ideas or [[9.0, 9.0, 9.0]]
        left = {0.02: iter(baseline), **{float(rate): iter(runs) for rate, runs in zip(RATES, ideas, strict=False)}}
        loop, _ = crowd(config, lambda s: fakes.scored(next(left[fakes.rate_of(s)])), RATES)
        with loop.journal:
            run_session(loop)
            found = [(e.status.value, len(e.runs)) for e in loop.journal.experiments()]

    assert plain(baseline, ideas) == found


@pytest.mark.parametrize(("first", "second", "status"), [("0.05", "0.04", "keep"), ("0.04", "0.05", "discard")])
def test_a_stale_childs_whole_file_wins_only_if_it_beats_the_best_of_now(
    first: str, second: str, status: str, tmp_path: Path
) -> None:
    """Both have the baseline as parent, and beat it; the first ends last, and is kept as measured or discarded."""
    config = config_for(tmp_path, 2, 2)
    ended = threading.Event()

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == float(first):
            ended.wait(20)
        return sessions.parabola(source)

    view = Watcher(ends=lambda number: number == 2 and ended.set())
    loop, _ = crowd(config, run, [first, second], view=view)
    with loop.journal:
        run_session(loop)
        told = [(e.id, e.status.value, e.parent_id) for e in loop.journal.experiments()]

    assert [(0, "keep", None), (1, status, 0), (2, "keep", 0)] == told
    assert fakes.TRAIN_PY.replace("0.02", "0.05") == config.mutable_path.read_text()
    on_branch = sessions.git(config, "show", "autoresearch/t:mutable/train.py")
    assert fakes.TRAIN_PY.replace("0.02", "0.05").strip() == on_branch


FULL = 4096  # large_k of the cpu profile


class Auditor(fakes.ArithmeticRunner):
    """Audits as the scorer does: in full only what would be a new best when it began."""

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Score it."""
        trial = fakes.ArithmeticRunner.run(self, candidate, plan, experiment_id=experiment_id, folder=folder, best=best)
        assert trial.score is not None
        full = best is None or trial.score.value < best
        return replace(trial, score=replace(trial.score, audited_positions=FULL if full else 256))


def test_what_beats_a_best_that_did_not_hold_is_audited_before_it_is_judged(tmp_path: Path) -> None:
    """The best was measured again, and worse, while it ran: it runs once more, audited in full, and is kept."""
    config = config_for(tmp_path, 4, 2, **{"noise.remeasure_every": 1})
    begun, settled = threading.Event(), threading.Event()
    bests = iter([1.80, 1.96])

    def run(source: str) -> Trial:
        rate = fakes.rate_of(source)
        if rate == 0.05:  # the first best, and then what it is worth
            val_bpb = next(bests, 1.88)
            return fakes.scored(val_bpb if val_bpb == 1.80 or begun.wait(20) else 9.0)
        if rate == 0.04:
            begun.set()
            settled.wait(20)
        return fakes.scored({0.02: 2.0, 0.04: 1.85}.get(rate, 1.95))

    def ends(_: int) -> None:
        best = loop.journal.best()
        if best is not None and len(best.runs) > 1:
            settled.set()

    loop, _ = crowd(config, run, ["0.05", "0.9", "0.04", "0.8"], view=Watcher(ends=ends))
    loop = replace(loop, runners=(Auditor(run), Auditor(run)))
    with loop.journal:
        run_session(loop)
        told = [(fakes.rate_of((e.folder / "train.py").read_text()), e) for e in loop.journal.experiments()]

    kept = next(e for rate, e in told if rate == 0.04)
    assert (Status.KEEP, 2) == (kept.status, len(kept.runs)), kept.reason
    assert kept.score is not None
    assert FULL == kept.score.audited_positions


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
        ended = [r.body["experiment"] for r in loop.journal.records("experiment.finished")]
        best = loop.journal.best()

    kept = [e["score"]["value"] for e in ended if e["status"] == "keep"]
    assert "8 experiments done" == reason
    assert 9 == len(ended) == sum(len(runner.ran) for runner in runners)
    assert most <= 3
    assert baseline_alone
    assert kept == sorted(kept, reverse=True)
    assert min(e["score"]["value"] for e in ended) == kept[-1] == getattr(best, "value", None)
    assert 1.0 + abs(fakes.rate_of(config.mutable_path.read_text()) - 0.05) == pytest.approx(kept[-1])


def test_an_interrupt_ends_all_that_run_and_owes_each_another_attempt(tmp_path: Path) -> None:
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


def test_a_session_killed_with_several_at_work_goes_on(tmp_path: Path) -> None:
    """Each is closed as infra and owed another attempt; the count of the limit holds."""
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

    view = Watcher(begins=lambda number: number == 2 and other.set())
    loop, runners = crowd(config, run, ["0.03", "0.03", "0.3"], view=view)
    with loop.journal:
        run_session(loop)
        why = [r.body["reason"] for r in loop.journal.records("reply.rejected")]

    assert ["this is experiment 1 again, which is running right now"] == why
    assert [0.02, 0.03, 0.3] == sorted(fakes.rate_of(source) for runner in runners for source in runner.ran)


def test_what_ends_while_a_device_is_waited_for_is_recorded_at_once(tmp_path: Path) -> None:
    """A pause, or a device that others use, holds up nothing but what would start."""
    config = config_for(tmp_path, 2, 2)
    recorded = threading.Event()
    waits: list[Runner] = []

    def ready(runner: Runner) -> bool:
        if runner is loop.runners[1] and not waits:
            waits.append(runner)
            recorded.wait(20)
        return False

    view = Watcher(ends=lambda number: number == 1 and recorded.set())
    loop, runners = crowd(config, sessions.parabola, ["0.03", "0.04"], view=view, ready=ready)
    with loop.journal:
        run_session(loop)

    assert recorded.is_set()
    assert 3 == len(sessions.statuses(config)) == sum(len(runner.ran) for runner in runners)


def test_a_device_that_cannot_be_leased_again_ends_the_session_loudly(tmp_path: Path) -> None:
    """Where it is the last; what a thread raises is raised where it is seen."""
    config = config_for(tmp_path, 2, 2)

    def ready(_: Runner) -> bool:
        raise LeaseUnavailable("nothing could be leased")

    loop, _ = crowd(config, sessions.parabola, ["0.03"], ready=ready)
    with loop.journal, pytest.raises(LeaseUnavailable, match="nothing could be leased"):
        run_session(loop)


def test_a_device_that_nothing_can_use_yet_is_not_asked_for(tmp_path: Path) -> None:
    """While the baseline runs there is nothing to run beside it, and others may have the second GPU."""
    config = config_for(tmp_path, 3, 2, **{"noise.baseline_runs": 3})
    asked: list[tuple[bool, int]] = []

    def ready(runner: Runner) -> bool:
        asked.append((runner is loop.runners[1], len(first.ran)))
        return False

    loop, (first, second) = crowd(config, sessions.parabola, ["0.03", "0.04", "0.05"], ready=ready)
    with loop.journal:
        run_session(loop)

    assert 3 <= min(runs for beside, runs in asked if beside)
    assert second.ran


@pytest.mark.parametrize("kind", [LeaseUnavailable, EngineUnavailable])
@pytest.mark.parametrize("gone", [0, 1])
def test_a_device_that_is_gone_is_done_without(tmp_path: Path, kind: type[Exception], gone: int) -> None:
    """The others go on, and every experiment is run; the reason is said once."""
    config = config_for(tmp_path, 3, 2)

    def ready(runner: Runner) -> bool:
        if runner is loop.runners[gone]:
            raise kind("it fell off the bus")
        return False

    loop, runners = crowd(config, sessions.parabola, ["0.03", "0.04", "0.05"], ready=ready)
    with loop.journal, structlog.testing.capture_logs() as logs:
        run_session(loop)

    assert (4, 0) == (len(runners[1 - gone].ran), len(runners[gone].ran))
    assert [("it fell off the bus", 1)] == [
        (event["reason"], event["left"]) for event in logs if event["event"] == "device.done_without"
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
