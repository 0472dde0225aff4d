"""Leases of fake GPUs and of processors: who gets what, who waits and why."""

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.devices.lease import Lease, LeasePolicy, count_leasable, lease
from orchestrator.errors import ConfigError, LeaseUnavailable
from tests.support.fake_nvml import Machine


def policy(machine: Machine, **changes: object) -> LeasePolicy:
    """Quick looks at a fake machine."""
    fast = LeasePolicy(
        profile="gpu", samples=3, interval_s=0.01, poll_s=0.01, reserve_gpus=0, sysfs=machine.sysfs, proc=machine.proc
    )
    return replace(fast, **changes)  # type: ignore[arg-type]


def with_gpus(tmp_path: Path, *uuids: str) -> Machine:
    """A machine with idle GPUs."""
    machine = Machine(tmp_path)
    for uuid in uuids:
        machine.gpu(uuid)
    return machine


def refused(asked: LeasePolicy) -> str:
    """Why nothing can be leased right now."""
    with pytest.raises(LeaseUnavailable) as caught, lease(asked, wait_s=0):
        pass
    return str(caught.value)


def test_an_idle_gpu_is_leased_by_its_uuid(tmp_path: Path) -> None:
    """With the class of hardware that scores belong to."""
    with lease(policy(with_gpus(tmp_path, "GPU-1")), wait_s=0) as got:
        assert ("GPU-1", "") == (got.name, got.cpuset)
        assert "H100" in got.hardware


def test_a_leased_gpu_is_not_leased_again_until_its_block_ends(tmp_path: Path) -> None:
    """And the one who waits is told for whom: here, ourselves, by the kernel's list of locks."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.proc.joinpath("locks").symlink_to("/proc/locks")
    machine.process(os.getpid(), "python -m pytest")
    asked = policy(machine)
    with lease(asked, wait_s=0):
        reason = refused(asked)
    with lease(asked, wait_s=0) as again:
        assert "GPU-1" == again.name

    assert f"GPU-1 is taken: root's python -m pytest (pid {os.getpid()})" in reason or "'s python -m pytest" in reason


def test_several_loops_get_several_gpus(tmp_path: Path) -> None:
    """Each its own."""
    asked = policy(with_gpus(tmp_path, "GPU-1", "GPU-2"))
    with lease(asked, wait_s=0) as one, lease(asked, wait_s=0) as two:
        assert {"GPU-1", "GPU-2"} == {one.name, two.name}
        refused(asked)


def test_somebody_elses_process_keeps_us_off(tmp_path: Path) -> None:
    """They never heard of our locks; NVML shows them, and we say who they are."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.process(4242, "python their_training.py --lr 3")
    machine.runs("GPU-1", 4242)

    assert "python their_training.py --lr 3 (pid 4242)" in refused(policy(machine))


def test_what_others_named_their_process_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    """A command line is untrusted text."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.process(4242, "evil\x1b]0;title\x07\n" + "x" * 500)
    machine.runs("GPU-1", 4242)
    reason = refused(policy(machine))

    assert reason.isprintable()
    assert "x" * 100 not in reason


@pytest.mark.parametrize("changes", [{"used": 5000}, {"util": 40}])
def test_a_gpu_in_use_without_a_process_is_not_idle(tmp_path: Path, changes: dict[str, object]) -> None:
    """As happens when processes are hidden from us."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.gpu("GPU-1", **changes)

    assert "GPU-1 is taken" in refused(policy(machine))


def test_idle_means_idle_over_all_samples(tmp_path: Path) -> None:
    """A GPU that works between two batches is not idle because one look was lucky."""
    machine = with_gpus(tmp_path, "GPU-1")
    wakes = threading.Timer(0.15, machine.gpu, ("GPU-1",), {"util": 90})
    wakes.start()
    reason = refused(policy(machine, interval_s=0.2))
    wakes.join()

    assert "it is 90 % busy" in reason
    machine.gpu("GPU-1", util=0)
    with lease(policy(machine), wait_s=0):
        pass


def test_waiting_ends_with_a_lease_when_the_gpu_becomes_free(tmp_path: Path) -> None:
    """And says for whom, once and not at every look."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.process(4242, "python their_training.py")
    machine.runs("GPU-1", 4242)
    told: list[str] = []
    threading.Timer(0.2, machine.runs, ("GPU-1",)).start()
    with lease(policy(machine), wait_s=20, on_wait=told.append) as got:
        assert "GPU-1" == got.name

    assert 1 == len(told)
    assert "their_training.py" in told[0]


def test_a_load_that_goes_up_and_down_is_told_once(tmp_path: Path) -> None:
    """Not at each look, all night long; another reason is news."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.process(4242, "python their_training.py")
    told: list[str] = []

    def changes() -> None:
        for load in range(60, 90):
            machine.gpu("GPU-1", util=load)
            time.sleep(0.02)
        machine.runs("GPU-1", 4242)

    machine.gpu("GPU-1", util=99)
    thread = threading.Thread(target=changes)
    thread.start()
    with pytest.raises(LeaseUnavailable), lease(policy(machine), wait_s=1.5, on_wait=told.append):
        pass
    thread.join()

    assert 2 == len(told)
    assert "% busy" in told[0]
    assert "their_training.py" in told[1]


def test_waiting_is_bounded(tmp_path: Path) -> None:
    """A lease that never comes is an error of ours, not a hang."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.gpu("GPU-1", util=99)
    began = time.monotonic()
    with pytest.raises(LeaseUnavailable, match="wait_hours"), lease(policy(machine), wait_s=0.3):
        pass

    assert time.monotonic() - began < 5


def test_one_gpu_is_left_to_others_on_a_host_with_several(tmp_path: Path) -> None:
    """Also against a second loop of ours; a host with one GPU has none to leave."""
    asked = policy(with_gpus(tmp_path, "GPU-1", "GPU-2"), reserve_gpus=1)
    with lease(asked, wait_s=0):
        assert "reserve_gpus = 1" in refused(asked)
        with lease(replace(asked, reserve_gpus=0), wait_s=0):
            pass
    (tmp_path / "one").mkdir()
    with lease(policy(with_gpus(tmp_path / "one", "GPU-1"), reserve_gpus=1), wait_s=0):
        pass


def test_allow_and_exclude_are_honoured(tmp_path: Path) -> None:
    """By UUID; what is excluded is not taken even if it is the only idle one."""
    machine = with_gpus(tmp_path, "GPU-1", "GPU-2", "GPU-3")
    with lease(policy(machine, allow=("GPU-2",)), wait_s=0) as got:
        assert "GPU-2" == got.name
        assert "GPU-2 is taken" in refused(policy(machine, allow=("GPU-2",)))
    for _ in range(8):
        with lease(policy(machine, exclude=("GPU-1", "GPU-3")), wait_s=0) as got:
            assert "GPU-2" == got.name


@pytest.mark.parametrize("key", ["allow", "exclude"])
def test_an_unknown_uuid_is_named_with_those_there_are(tmp_path: Path, key: str) -> None:
    """At once, not after a wait of hours."""
    machine = with_gpus(tmp_path, "GPU-1")
    with pytest.raises(ConfigError, match=rf"\[gpu\] {key} names 'GPU-9', but this machine has GPU-1"):
        count_leasable(policy(machine, **{key: ("GPU-9",)}))


@pytest.mark.parametrize("lists", [{"allow": ("GPU-1", "GPU-2")}, {"exclude": ("GPU-2",)}])
def test_a_gpu_that_is_lost_makes_no_list_wrong(tmp_path: Path, lists: dict[str, object]) -> None:
    """Those that are left are leased: its UUID, which it does not tell any more, may be the unknown one."""
    machine = with_gpus(tmp_path, "GPU-1", "GPU-2")
    machine.gpu("GPU-2", error=15)
    with lease(policy(machine, **lists), wait_s=0) as got:
        assert "GPU-1" == got.name


def test_the_only_allowed_gpu_that_is_lost_is_said_so(tmp_path: Path) -> None:
    """No list is to be fixed: at the start, and when it is to be leased anew in mid-run."""
    machine = with_gpus(tmp_path, "GPU-1", "GPU-2")
    asked = policy(machine, allow=("GPU-2",))
    with lease(asked, wait_s=0):
        machine.gpu("GPU-2", error=15)

    assert "fell off the bus" in refused(asked)
    with pytest.raises(LeaseUnavailable, match=r"none of the 1 GPUs that answer: .* fell off the bus"):
        count_leasable(asked)


def test_a_gpu_that_is_set_up_anew_whenever_it_is_opened_can_be_leased(tmp_path: Path) -> None:
    """Without persistence mode it seems busy at the first look: NVML stays open, so the next ones are right."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.cold = True
    machine.write()
    with lease(policy(machine), wait_s=10) as got:
        assert "GPU-1" == got.name


def test_a_policy_that_allows_nothing_is_refused_at_once(tmp_path: Path) -> None:
    """Everything excluded, or more left free than there are."""
    machine = with_gpus(tmp_path, "GPU-1", "GPU-2")
    for changes in ({"exclude": ("GPU-1", "GPU-2")}, {"reserve_gpus": 2}):
        with pytest.raises(ConfigError, match="leave none of 2 GPUs"), lease(policy(machine, **changes), wait_s=60):
            pass


def test_the_most_that_can_be_leased_is_known(tmp_path: Path) -> None:
    """So that a larger --parallel is refused before anything runs."""
    machine = with_gpus(tmp_path, "GPU-1", "GPU-2", "GPU-3")

    assert 2 == count_leasable(policy(machine, reserve_gpus=1))
    assert 1 == count_leasable(policy(machine, allow=("GPU-1",)))
    assert 3 == count_leasable(policy(machine))


def test_mig_instances_of_one_gpu_are_leased_apart(tmp_path: Path) -> None:
    """They share the GPU's directory and lock a file each; naming the GPU means all of its instances."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.mig("MIG-a", "GPU-1")
    machine.mig("MIG-b", "GPU-1")
    asked = policy(machine, allow=("GPU-1",))
    with lease(asked, wait_s=0) as one, lease(asked, wait_s=0) as two:
        assert {"MIG-a", "MIG-b"} == {one.name, two.name}
        refused(asked)


def test_a_gpu_with_an_mps_daemon_is_refused(tmp_path: Path) -> None:
    """It may be shared out to others at any time."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.process(77, "/usr/bin/nvidia-cuda-mps-control -d")

    assert "an MPS daemon shares it" in refused(policy(machine))


def test_a_gpu_lost_while_we_wait_is_told(tmp_path: Path) -> None:
    """Not waited for."""
    machine = with_gpus(tmp_path, "GPU-1")
    machine.gpu("GPU-1", util=99)
    threading.Timer(0.1, machine.gpu, ("GPU-1",), {"error": 15}).start()
    with pytest.raises(LeaseUnavailable, match="fell off the bus"), lease(policy(machine), wait_s=30):
        pass


def test_many_threads_never_share(tmp_path: Path) -> None:
    """Sixteen threads, two GPUs: at no time more than one in a block of the same name."""
    asked = policy(with_gpus(tmp_path, "GPU-1", "GPU-2"), samples=1)
    inside: dict[str, int] = {"GPU-1": 0, "GPU-2": 0}
    doubles: list[str] = []

    def work() -> None:
        with contextlib.suppress(LeaseUnavailable), lease(asked, wait_s=30) as got:
            inside[got.name] += 1
            if inside[got.name] > 1:
                doubles.append(got.name)
            time.sleep(0.005)
            inside[got.name] -= 1

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == doubles


def four_cores(tmp_path: Path) -> LeasePolicy:
    """Two cores with two threads each, numbered as Intel does."""
    root = tmp_path / "sys/devices/system/cpu"
    for cpu in range(4):
        (root / f"cpu{cpu}/topology").mkdir(parents=True)
        (root / f"cpu{cpu}/topology/physical_package_id").write_text("0\n")
        (root / f"cpu{cpu}/topology/core_id").write_text(f"{cpu % 2}\n")
    (root / "online").write_text("0-3\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("model name\t: Test CPU\n")
    return LeasePolicy(
        profile="cpu", cpus=2, poll_s=0.01, sysfs=tmp_path / "sys", proc=tmp_path / "proc", cores=frozenset(range(4))
    )


def test_slots_of_processors_are_disjoint_and_keep_siblings_together(tmp_path: Path) -> None:
    """Two loops of two processors share no core on a machine of four threads."""
    asked = four_cores(tmp_path)
    with lease(asked, wait_s=0) as one, lease(asked, wait_s=0) as two:
        assert ["0,2", "1,3"] == [one.cpuset, two.cpuset]
        assert "cpu0 is taken" in refused(asked)
    with lease(asked, wait_s=0) as again:
        assert Lease(name="cpu 0,2", hardware="Test CPU, 2 of 4 processors", cpuset="0,2") == again


def test_processors_we_may_not_use_are_not_leased(tmp_path: Path) -> None:
    """As inside a container that has only some."""
    asked = replace(four_cores(tmp_path), cores=frozenset({1, 3}))
    with lease(asked, wait_s=0) as got:
        assert "1,3" == got.cpuset
    with pytest.raises(ConfigError, match=r"cpus = 2.5: this machine has 2"):
        count_leasable(replace(asked, cpus=2.5))


@pytest.mark.idle
def test_the_machines_own_processors_can_be_leased() -> None:
    """The real sysfs: its directories take locks and show our model of processor."""
    try:
        with lease(LeasePolicy(profile="cpu", cpus=1), wait_s=20) as got:
            assert got.cpuset.isdigit()
            assert "processors" in got.hardware
    except LeaseUnavailable as busy:
        pytest.fail(f"another loop holds every processor of this machine: {busy}")
