"""A slot: leased when needed, watched while it runs, given back when it may not be used."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.compose import ready
from orchestrator.devices.contention import GpuLook, Ours, Sampler
from orchestrator.devices.lease import Lease, LeasePolicy, lease
from orchestrator.devices.quiet import Gate, pause, resume
from orchestrator.errors import LeaseUnavailable
from orchestrator.executors.slot import Slot, container_ids
from orchestrator.types import Candidate, Plan, Proposal, Reply, Trial
from tests import fakes
from tests.fake_nvml import Machine

PLAN = Plan(train_seed=1, audit_seed=b"")
CANDIDATE = Candidate(
    proposal=Proposal(hypothesis="h"), source="", parent_id=None, parent_source="",
    reply=Reply(proposer="p", model="", prompt="", text=""),
)  # fmt: skip


def one_gpu(tmp_path: Path) -> tuple[Machine, LeasePolicy]:
    """A machine with one idle GPU, and quick looks at it."""
    machine = Machine(tmp_path)
    machine.gpu("GPU-1")
    return machine, LeasePolicy(profile="gpu", samples=1, poll_s=0.01, sysfs=machine.sysfs, proc=machine.proc)


def slot(policy: LeasePolicy, during: Callable[[], Trial], told: list[str] | None = None) -> Slot:
    """A slot whose experiments do what a test wants."""

    def watch(leased: Lease, ours: Ours) -> Sampler:
        assert leased.device is not None
        look = GpuLook(device=leased.device, ours=ours, proc=policy.proc, confirm_s=0.001)
        return Sampler(look, device=leased.device, interval_s=0.01, used_by=look.used_by)

    return Slot(
        policy=policy, wait_s=0.2, make=lambda _: fakes.ArithmeticRunner(lambda _: during()),
        waiting=([] if told is None else told).append, watch=watch, back_off_s=0.01,
    )  # fmt: skip


def run(leased: Slot, folder: Path) -> Trial:
    """One experiment."""
    folder.mkdir(exist_ok=True)
    return leased.run(CANDIDATE, PLAN, experiment_id=1, folder=folder, best=None)


def free(policy: LeasePolicy) -> bool:
    """Whether somebody else could have the GPU now."""
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


def test_a_strangers_process_makes_the_experiment_contended(tmp_path: Path) -> None:
    """Our own container beside it does not; afterwards the slot waits and takes an idle device anew."""
    machine, policy = one_gpu(tmp_path)
    ours, told = "f" * 64, list[str]()
    sampled = iter([False, True])

    def during() -> Trial:
        (tmp_path / "0001").joinpath("trainer.created.json").write_text(json.dumps({"Id": ours}))
        machine.process(42, "python3 /mutable/train.py", container=ours)
        machine.process(43, "python their_training.py")
        machine.runs("GPU-1", 42, *([43] if next(sampled) else []))
        time.sleep(0.1)
        machine.runs("GPU-1")
        return fakes.scored(1.0)

    with slot(policy, during, told) as leased:
        alone, shared = run(leased, tmp_path / "0001"), run(leased, tmp_path / "0001")

        assert "" == alone.contended_by
        assert "their_training.py (pid 43)" in shared.contended_by
        assert leased.ready()
        assert not leased.ready()
        assert "trying again" in told[0]


@pytest.mark.parametrize("used", [True, False])
def test_a_training_that_never_used_the_gpu_is_known(tmp_path: Path, used: bool) -> None:
    """A predictor on it afterwards is no training."""
    machine, policy = one_gpu(tmp_path)
    trainer, predictor = "a" * 64, "b" * 64
    folder = tmp_path / "0001"

    def during() -> Trial:
        for pid, role, name in ((42, "trainer", trainer), (43, "predictor-a", predictor)):
            (folder / f"{role}.created.json").write_text(json.dumps({"Id": name}))
            machine.process(pid, "python3", container=name)
        machine.runs("GPU-1", 43, *([42] if used else []))
        time.sleep(0.1)
        machine.runs("GPU-1")
        return Trial(
            executions=(fakes.execution(container_id=trainer),), score=None, failure=None, message=""
        )  # fmt: skip

    with slot(policy, during) as leased:
        trial = run(leased, folder)

    assert used is trial.gpu_used
    assert "" == trial.contended_by


def test_a_gpu_that_is_lost_in_mid_run_spoils_no_result(tmp_path: Path) -> None:
    """It is an error of ours, whatever the program did about it."""
    machine, policy = one_gpu(tmp_path)

    def during() -> Trial:
        machine.gpu("GPU-1", error=15)
        time.sleep(0.1)
        return fakes.scored(0.5)

    with slot(policy, during) as leased, pytest.raises(LeaseUnavailable, match="fell off the bus"):
        run(leased, tmp_path / "0001")


def test_a_gpu_that_is_of_no_use_is_given_back(tmp_path: Path) -> None:
    """One that no container can use: others may have it, and the next look leases anew."""
    _, policy = one_gpu(tmp_path)
    leased = slot(policy, lambda: fakes.scored(1.0))

    def make(_: Lease) -> fakes.ArithmeticRunner:
        message = "torch sees no GPU"
        raise LeaseUnavailable(message)

    leased.make = make
    for _ in range(2):
        with pytest.raises(LeaseUnavailable, match="torch sees no GPU"):
            leased.ready()

        assert free(policy)


def test_paused_means_that_others_may_have_the_device(tmp_path: Path) -> None:
    """It is given back for as long as nothing may start, and leased again afterwards."""
    _, policy = one_gpu(tmp_path)
    gate = Gate(run=tmp_path, poll_s=0.01)
    seen: list[bool] = []

    class View(fakes.SilentView):
        def waiting(self, reason: str) -> None:
            seen.append(free(policy))
            resume(tmp_path)

    with slot(policy, lambda: fakes.scored(1.0)) as leased:
        pause(tmp_path)

        assert ready(gate, leased, View())
        assert [True] == seen
        assert ready(gate, leased, View())
        assert not ready(gate, leased, View())
        assert not free(policy)


def test_a_record_that_is_being_written_names_no_container(tmp_path: Path) -> None:
    """Those that are complete do."""
    (tmp_path / "trainer.created.json").write_text('{"Id": "abc"}')
    (tmp_path / "scorer.created.json").write_text('{"Id": ')

    assert ["abc"] == container_ids(tmp_path)
