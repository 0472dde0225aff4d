"""The devices of a session: what is wrong is said at once, and nothing is held that is not used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import compose, preflight
from orchestrator.config import Config
from orchestrator.devices.lease import Lease, LeasePolicy
from orchestrator.devices.schedule import StartGate, pause, resume
from orchestrator.errors import ConfigError, LeaseUnavailable
from orchestrator.events import Event, LoopWaiting
from orchestrator.execution.slot import Slot
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from tests.devices.test_gpu_slot import free
from tests.support import fakes
from tests.support.fake_nvml import Machine
from tests.test_parallel import config_for


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine with two idle GPUs and an engine that makes no container."""
    made = Machine(tmp_path)
    made.gpu("GPU-1")
    made.gpu("GPU-2")
    monkeypatch.setattr(compose, "build_lease_policy", lambda _: policy(made))
    monkeypatch.setattr(compose, "build_leased_context", lambda _config, _engine, leased: leased)
    monkeypatch.setattr(compose, "add_compile_cache", lambda context, _branch, _on_wait: context)
    monkeypatch.setattr(compose, "ContainerRunner", runner)
    monkeypatch.setattr(compose, "StartGate", partial(StartGate, poll_s=0.01))
    return made


def policy(machine: Machine, **changes: object) -> LeasePolicy:
    """Return a policy by which both may be leased."""
    return LeasePolicy(
        profile="gpu", reserve_gpus=0, samples=1, poll_s=0.01, sysfs=machine.sysfs, proc=machine.proc, **changes
    )  # type: ignore[arg-type]


def runner(place: Lease, **_: object) -> fakes.ArithmeticRunner:
    """Return a runner that runs nothing."""
    return fakes.ArithmeticRunner(lambda _: fakes.scored(1.0), hardware=place.hardware)


def config_of(tmp_path: Path, parallel: int) -> Config:
    """Return a configuration that waits a fifth of a second for a device."""
    return config_for(tmp_path, 1, parallel, profile_name="gpu", **{"gpu.wait_hours": 0.2 / 3600})


@contextmanager
def slots(config: Config, on_wait: Callable[[str], object] = str) -> Iterator[tuple[Slot, ...]]:
    """Lease as a session does."""

    def hear(recorded: Recorded[Event]) -> None:
        if isinstance(recorded.event, LoopWaiting):
            on_wait(recorded.event.reason)

    with Journal.open(config.run_path) as journal:
        journal.subscribe(hear)
        branch = ResultBranch(path=config.mutable_path, tag=config.tag)
        with compose.open_slots(config, cast("Any", None), journal, lambda *_: None, branch) as leased:
            yield leased


def test_nothing_is_leased_while_nothing_may_start(machine: Machine, tmp_path: Path) -> None:
    """A session that begins paused, or in quiet hours, says so and leaves every device to others."""
    config, seen = config_of(tmp_path, 2), list[tuple[str, bool]]()

    def on_wait(reason: str) -> None:
        seen.append((reason.partition(";")[0], free(policy(machine)) and free(policy(machine, exclude=("GPU-1",)))))
        resume(config.run_path)

    config.run_path.mkdir(parents=True)
    pause(config.run_path)
    with slots(config, on_wait) as leased:
        assert [("paused", True)] == seen
        assert not leased[0].ready()


def test_more_than_there_can_be_is_said_before_any_wait(machine: Machine, tmp_path: Path) -> None:
    """Of devices of one kind, too, as soon as one is leased."""
    with pytest.raises(ConfigError, match="--parallel 3: only 2 can be leased here"):
        preflight.require_devices(compose.build_lease_policy(config_of(tmp_path, 3)), 3)
    machine.gpu("GPU-2", name="NVIDIA_A100")
    both = config_of(tmp_path, 2)
    with pytest.raises(ConfigError, match="--parallel 2: only 1 of NVIDIA"), slots(both):
        pass


def test_further_devices_are_leased_when_they_are_used(machine: Machine, tmp_path: Path) -> None:
    """One that is taken holds up nothing; all are free when the session ends."""
    with slots(config_of(tmp_path, 2)) as (first, second):
        assert free(policy(machine))
        machine.gpu("GPU-1", util=99)
        machine.gpu("GPU-2", util=99)

        assert not first.ready()
        with pytest.raises(LeaseUnavailable, match="nothing could be leased"):
            second.ready()
        machine.gpu("GPU-1", util=0)
        machine.gpu("GPU-2", util=0)

        assert second.ready()
        assert not free(policy(machine))
    for uuid in ("GPU-1", "GPU-2"):
        assert free(policy(machine, allow=(uuid,)))


def test_a_bad_gpu_is_left_out_by_all(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not found out once by each; that the others are fewer than was asked for ends nothing."""

    def check(_config: object, _engine: object, leased: Lease) -> Lease:
        if leased.name == "GPU-1":
            machine.gpu("GPU-2", util=0)
            raise LeaseUnavailable("torch in a container cannot use GPU-1")
        return leased

    monkeypatch.setattr(compose, "build_leased_context", check)
    machine.gpu("GPU-2", util=99)
    with slots(config_of(tmp_path, 2)) as (first, second):
        assert not free(policy(machine, exclude=("GPU-1",)))
        assert ("GPU-1",) == first.policy.exclude == second.policy.exclude


@pytest.mark.usefixtures("machine")
def test_what_runs_outside_a_loop_says_on_the_screen_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check`, `confirm`, `claim` and `calibrate` log to a file; whoever started them sees nothing else for hours."""
    monkeypatch.setattr(compose, "connect_engine", lambda _: SimpleNamespace(reap=lambda: None))
    compose.make_single_slot(config_of(tmp_path, 1)).on_wait("GPU-1 is taken")

    assert capsys.readouterr().err.endswith("\nGPU-1 is taken\n")
