"""A slot: leased when needed, watched while it runs, given back when it may not be used."""

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.config import Config
from orchestrator.devices.contention import ContentionMonitor, GpuMonitor, Ours, Then
from orchestrator.devices.lease import Lease, LeasePolicy, lease
from orchestrator.devices.schedule import StartGate, pause, resume
from orchestrator.errors import EngineUnavailable, LeaseUnavailable, SandboxError
from orchestrator.execution.experiment import ContainerRunner, _ExperimentDriver
from orchestrator.execution.slot import Slot
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Plan, Proposal, Reply, Status, Trial
from tests.support import fakes, sessions
from tests.support.fake_nvml import Machine

PLAN = Plan(train_seed=1, audit_seed=b"")
CANDIDATE = Candidate(
    proposal=Proposal(hypothesis="h"), source="", parent_id=None, parent_source="",
    reply=Reply(proposer="p"),
)  # fmt: skip


def one_gpu(tmp_path: Path) -> tuple[Machine, LeasePolicy]:
    """Return a machine with one idle GPU, and a policy that looks at it quickly."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    return machine, LeasePolicy(profile="gpu", samples=1, poll_s=0.01, sysfs=machine.sysfs, proc=machine.proc)


def slot(
    policy: LeasePolicy, during: Callable[[], Trial], told: list[str] | None = None, containers: tuple[str, ...] = ()
) -> Slot:
    """Return a slot whose experiments do what a test wants, in these containers."""

    def watch(leased: Lease, ours: Ours, then: Then) -> ContentionMonitor:
        assert leased.device is not None
        look = GpuMonitor(device=leased.device, ours=ours, proc=policy.proc, confirm_s=0.001)
        return ContentionMonitor(look, device=leased.device, interval_s=0.01, used_by=look.used_by, then=then)

    return Slot(
        policy=policy, wait_s=0.2, make=lambda _: fakes.ArithmeticRunner(lambda _: during(), containers=containers),
        on_wait=([] if told is None else told).append, watch=watch, back_off_s=0.01,
    )  # fmt: skip


def run(leased: Slot, folder: Path) -> Trial:
    """Run one experiment."""
    folder.mkdir(exist_ok=True)
    return leased.run(CANDIDATE, PLAN, experiment_id=1, folder=folder, best=None)


def free(policy: LeasePolicy) -> bool:
    """Return whether somebody else could have the GPU now."""
    try:
        with lease(policy, wait_s=0):
            return True
    except LeaseUnavailable:
        return False


def test_the_device_is_held_between_experiments(tmp_path: Path) -> None:
    """And free when the session ends."""
    _, policy = one_gpu(tmp_path)
    with slot(policy, lambda: fakes.scored(1.0)) as leased:
        trial = run(leased, tmp_path / "0001")

        assert "" == trial.contended_by
        assert not leased.ready()
        assert not free(policy)
    assert free(policy)


def test_a_foreign_process_makes_the_experiment_contended(tmp_path: Path) -> None:
    """Our own container does not; afterwards the slot waits and leases an idle device again."""
    machine, policy = one_gpu(tmp_path)
    ours, told = "f" * 64, list[str]()
    sampled = iter([False, True])

    def during() -> Trial:
        machine.process(42, "python3 /mutable/train.py", container=ours)
        machine.process(43, "python their_training.py")
        machine.runs("GPU-1", 42, *([43] if next(sampled) else []))
        time.sleep(0.1)
        machine.runs("GPU-1")
        return fakes.scored(1.0)

    with slot(policy, during, told, (ours,)) as leased:
        alone, shared = run(leased, tmp_path / "0001"), run(leased, tmp_path / "0001")

        assert "" == alone.contended_by
        assert "their_training.py (pid 43)" in shared.contended_by
        assert leased.ready()
        assert not leased.ready()
        assert "trying again" in told[0]


def test_a_contended_run_ends_early(tmp_path: Path) -> None:
    """Nobody needs the rest of it; what the run leaves then, an error too, is contended, not infra."""
    machine, policy = one_gpu(tmp_path)
    machine.process(43, "python their_training.py")
    leased = slot(policy, lambda: fakes.scored(1.0))

    def during() -> Trial:
        machine.runs("GPU-1", 43)
        ended.append(runner.ended.wait(20))
        machine.runs("GPU-1")
        raise SandboxError("their_training.py used the device too")

    ended, runner = list[bool](), fakes.ArithmeticRunner(lambda _: during())
    leased.make = lambda _: runner
    with leased:
        trial = run(leased, tmp_path / "0001")

        assert [True] == ended
        assert "their_training.py (pid 43)" in trial.contended_by
        assert Status.INFRA == trial.failure
        assert leased.ready()


def test_a_device_that_others_took_meanwhile_is_theirs(tmp_path: Path) -> None:
    """While the LLM was asked, say: it is given back and another one leased; our own containers do not count."""
    machine, policy = one_gpu(tmp_path)
    policy = replace(policy, reserve_gpus=0)
    ours = "f" * 64
    machine.process(42, "python3 /mutable/train.py", container=ours)
    machine.process(43, "python their_training.py")

    with slot(policy, lambda: fakes.scored(1.0), containers=(ours,)) as leased:
        run(leased, tmp_path / "0001")
        machine.runs("GPU-1", 42)

        assert not leased.ready()
        machine.runs("GPU-1", 43)
        with pytest.raises(LeaseUnavailable, match=r"their_training.py \(pid 43\)"):
            leased.ready()
        machine.gpu("GPU-2")

        assert leased.ready()
        assert not leased.ready()
        assert not free(policy)


def test_a_device_that_was_lost_meanwhile_makes_room_for_another(tmp_path: Path) -> None:
    """Noticed before anything runs there."""
    machine, policy = one_gpu(tmp_path)
    machine.gpu("GPU-2", util=99)
    with slot(replace(policy, reserve_gpus=0), lambda: fakes.scored(1.0)) as leased:
        machine.gpu("GPU-1", error=15)
        machine.gpu("GPU-2", util=0)

        assert leased.ready()
        assert not leased.ready()


@pytest.mark.parametrize("used", [True, False])
def test_a_training_that_never_used_the_gpu_is_known(tmp_path: Path, used: bool) -> None:
    """A predictor that used it afterwards does not count as training."""
    machine, policy = one_gpu(tmp_path)
    trainer, predictor = "a" * 64, "b" * 64

    def during() -> Trial:
        for pid, name in ((42, trainer), (43, predictor)):
            machine.process(pid, "python3", container=name)
        machine.runs("GPU-1", 43, *([42] if used else []))
        time.sleep(0.1)
        machine.runs("GPU-1")
        return Trial(
            executions=(fakes.execution(container_id=trainer),), score=None, failure=None, message=""
        )  # fmt: skip

    with slot(policy, during, containers=(trainer, predictor)) as leased:
        trial = run(leased, tmp_path / "0001")

    assert used is trial.gpu_used
    assert "" == trial.contended_by


def test_where_no_process_is_ever_listed_nobody_knows_who_used_the_gpu(tmp_path: Path) -> None:
    """Its memory was in use, so it is no sign of a training without it."""
    machine, policy = one_gpu(tmp_path)

    def during() -> Trial:
        machine.gpu("GPU-1", used=40000, util=99)
        time.sleep(0.1)
        machine.gpu("GPU-1", used=4, util=0)
        return fakes.scored(1.0)

    with slot(policy, during) as leased:
        trial = run(leased, tmp_path / "0001")

    assert trial.gpu_used is None


def test_a_gpu_that_is_lost_in_mid_run_spoils_no_result(tmp_path: Path) -> None:
    """It is an error of ours, whatever the program did about it."""
    machine, policy = one_gpu(tmp_path)

    def during() -> Trial:
        machine.gpu("GPU-1", error=15)
        time.sleep(0.1)
        return fakes.scored(0.5)

    with slot(policy, during) as leased, pytest.raises(LeaseUnavailable, match="fell off the bus"):
        run(leased, tmp_path / "0001")


def test_a_cheat_stays_one_when_the_gpu_is_lost_as_well(tmp_path: Path) -> None:
    """Code that broke out may have taken it along: its trial is not thrown away, and the GPU is given back."""
    machine, policy = one_gpu(tmp_path)

    def during() -> Trial:
        machine.gpu("GPU-1", error=15)
        time.sleep(0.1)
        return fakes.broken(Status.CHEAT)

    with slot(policy, during) as leased:
        trial = run(leased, tmp_path / "0001")

        assert Status.CHEAT is trial.failure
        machine.gpu("GPU-1", error=0)
        assert leased.ready()


def test_a_gpu_that_is_of_no_use_is_given_back(tmp_path: Path) -> None:
    """One that no container can use: others may have it, and the next look leases again."""
    _, policy = one_gpu(tmp_path)
    leased = slot(policy, lambda: fakes.scored(1.0))

    def make(_: Lease) -> fakes.ArithmeticRunner:
        raise LeaseUnavailable("torch sees no GPU")

    leased.make = make
    for _ in range(2):
        with pytest.raises(LeaseUnavailable, match="torch sees no GPU"):
            leased.ready()

        assert free(policy)


def picky(policy: LeasePolicy, *faults: Exception | None, bad: str = "", told: list[str] | None = None) -> Slot:
    """Return a slot that meets these faults in turn where it would use what it leased; a bad GPU always."""
    ahead = iter(faults)

    def make(leased: Lease) -> fakes.ArithmeticRunner:
        if leased.name == bad:
            raise LeaseUnavailable("torch sees no GPU")
        if fault := next(ahead, None):
            raise fault
        return fakes.ArithmeticRunner(lambda _: fakes.scored(1.0), hardware=leased.name)

    found = slot(policy, lambda: fakes.scored(1.0), told)
    found.make = make
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_gpu_that_is_of_no_use_makes_room_for_another(tmp_path: Path, seed: int) -> None:
    """At the start of a session and later; the bad one is never taken again."""
    machine, policy = one_gpu(tmp_path)
    machine.gpu("GPU-2")
    random.seed(seed)
    for begin in (Slot.__enter__, Slot.ready):
        with picky(replace(policy, reserve_gpus=0), bad="GPU-1") as leased:
            for _ in range(4):
                leased.give_back()
                begin(leased)

                assert "GPU-2" == leased.environment().hardware


@pytest.mark.parametrize("seed", range(4))
def test_a_gpu_that_broke_in_mid_run_is_not_leased_again(tmp_path: Path, seed: int) -> None:
    """Though it answers and is idle: another one is; one that is alone is used all the same."""
    machine, policy = one_gpu(tmp_path)
    random.seed(seed)

    def during() -> Trial:
        time.sleep(0.05)
        machine.gpu("GPU-1", xid=48)
        time.sleep(0.1)
        machine.gpu("GPU-1", xid=0)
        return fakes.scored(1.0)

    with slot(replace(policy, reserve_gpus=0), during) as leased:
        with pytest.raises(LeaseUnavailable, match="Xid 48"):
            run(leased, tmp_path / "0001")
        machine.gpu("GPU-2", util=99)

        assert leased.ready()
        with pytest.raises(LeaseUnavailable, match="Xid 48"):
            run(leased, tmp_path / "0002")
        machine.gpu("GPU-2", util=0)

        assert leased.ready()
        assert not free(replace(policy, reserve_gpus=0, allow=("GPU-2",)))


def test_a_hiccup_of_the_engine_is_tried_again(tmp_path: Path) -> None:
    """After a pause, three times in all; at the start of a session it is said at once."""
    _, policy = one_gpu(tmp_path)
    hiccup, told = EngineUnavailable("the engine does not answer"), list[str]()
    with picky(policy, None, hiccup, hiccup, None, hiccup, hiccup, hiccup, told=told) as leased:
        leased.give_back()

        assert leased.ready()
        assert ["the engine does not answer, trying again in 0 s"] * 2 == told
        leased.give_back()
        with pytest.raises(EngineUnavailable):
            leased.ready()
        assert free(policy)
    with pytest.raises(EngineUnavailable), picky(policy, hiccup):
        pass


def night(tmp_path: Path, policy: LeasePolicy, during: Callable[[int], Trial]) -> tuple[Config, list[str]]:
    """Run a session of one idea on such a slot, whose n-th trial does what a test wants; return what it waited for."""
    config, told, runs = sessions.task(tmp_path, experiments=1), list[str](), itertools.count(1)
    with slot(policy, lambda: during(next(runs)), told) as leased:
        loop = sessions.open_session(config, fakes.ScriptedProposer(["0.04"]), leased)
        with loop.journal:
            run_session(loop)
    return config, told


def test_a_contended_experiment_is_not_judged_and_runs_again_after_a_pause(tmp_path: Path) -> None:
    """Its score, good as it is, is neither kept nor discarded: the loop waits, and the same source runs once more."""
    machine, policy = one_gpu(tmp_path)
    machine.process(43, "python their_training.py")

    def during(number: int) -> Trial:
        machine.runs("GPU-1", *([43] if number == 2 else []))
        time.sleep(0.1)
        machine.runs("GPU-1")
        return replace(fakes.scored({1: 1.0, 2: 0.5, 3: 0.9}[number]), executions=())

    config, told = night(tmp_path, policy, during)
    with Journal.read(config.run_path) as journal:
        found = [(e.id, e.status, e.retry_of, e.attempt) for e in journal.experiments()]
        reason, best = journal.experiment(1).reason, journal.champion()

    assert [(0, Status.KEEP, None, 1), (1, Status.CONTENDED, None, 1), (2, Status.KEEP, 1, 2)] == found
    assert "not judged: " in reason
    assert "their_training.py (pid 43) used the device too" in reason
    assert best is not None
    assert 0.9 == best.value
    assert 1 == len([line for line in told if "another process used the device, trying again in" in line])


def test_a_gpu_lost_in_mid_run_is_infra_and_another_one_is_leased(tmp_path: Path) -> None:
    """Never blamed on the patch, which runs again where there is a device."""
    machine, policy = one_gpu(tmp_path)
    machine.gpu("GPU-2", util=99)
    policy = replace(policy, reserve_gpus=0)

    def during(number: int) -> Trial:
        if number == 2:
            machine.gpu("GPU-1", error=15)
            machine.gpu("GPU-2", util=0)
            time.sleep(0.1)
        return replace(fakes.scored({1: 1.0, 2: 0.5, 3: 0.9}[number]), executions=())

    config, _ = night(tmp_path, policy, during)
    with Journal.read(config.run_path) as journal:
        found = [(e.id, e.status, e.retry_of) for e in journal.experiments()]
        message = journal.experiment(1).message

    assert [(0, Status.KEEP, None), (1, Status.INFRA, None), (2, Status.KEEP, 1)] == found
    assert "fell off the bus" in message


def test_paused_means_that_others_may_have_the_device(tmp_path: Path) -> None:
    """It is given back for as long as nothing may start, and leased again afterwards."""
    _, policy = one_gpu(tmp_path)
    gate = StartGate(run=tmp_path, poll_s=0.01)
    seen: list[bool] = []

    def on_wait(_: str) -> None:
        seen.append(free(policy))
        resume(tmp_path)

    with slot(policy, lambda: fakes.scored(1.0)) as leased:
        leased.gate, leased.on_wait = gate, on_wait
        pause(tmp_path)

        assert leased.ready()
        assert [True] == seen
        assert leased.ready()
        assert not leased.ready()
        assert not free(policy)


def test_the_containers_of_a_trial_are_known_as_soon_as_they_run() -> None:
    """None before the first trial; each of the trial that runs, also before the next one has started."""
    box = SimpleNamespace(running=[SimpleNamespace(id="abc")])
    nothing = cast("Any", None)
    runner = ContainerRunner(place=nothing, record=lambda _: None, show=lambda *_: None)
    before = runner.container_ids()
    driver = _ExperimentDriver(
        box=cast("Any", box), record=runner.record, show=runner.show, plan=PLAN, best=None, watch=nothing
    )
    runner._driver = driver  # as `run` does it

    assert () == before
    assert ["abc"] == runner.container_ids()
    box.running.append(SimpleNamespace(id="def"))
    assert ["abc", "def"] == runner.container_ids()
