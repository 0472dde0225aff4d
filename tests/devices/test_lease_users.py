"""Leases between processes, of two users where the suite runs as root."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.devices.lease import LeasePolicy, lease
from orchestrator.errors import LeaseUnavailable
from tests.support.fake_nvml import Machine

NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Machine]:
    """One idle GPU on a machine that every user can see."""
    with tempfile.TemporaryDirectory(prefix="lease-") as folder:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder))
        machine.gpu("GPU-1")
        yield machine


def asked(machine: Machine) -> LeasePolicy:
    """A quick look; who holds what is read from the real /proc."""
    return LeasePolicy(profile="gpu", samples=1, poll_s=0.01, sysfs=machine.sysfs)


def child(work: Callable[[], None], user: int) -> int:
    """Run `work` in a process of another user and return its pid; it ends when `work` does."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        work()
    except BaseException:  # noqa: BLE001  # whatever it is, this copy of pytest ends here
        os._exit(1)
    os._exit(0)


def hold(machine: Machine, said: int) -> None:
    """Lease, say so, and keep it until killed."""
    with lease(asked(machine), wait_s=20):
        os.write(said, b"held")
        time.sleep(60)


@pytest.mark.parametrize("user", [NOBODY, os.getuid()])
def test_two_processes_cannot_take_the_same_gpu_and_kill_frees_it(shared: Machine, user: int) -> None:
    """Another user's loop holds it, we are told whose it is; after kill -9 it is ours at once."""
    hears, said = os.pipe()
    pid = child(lambda: hold(shared, said), user)
    try:
        held = os.read(hears, 4)
        with pytest.raises(LeaseUnavailable, match=rf"GPU-1 is taken: .*\(pid {pid}\)"), lease(asked(shared), wait_s=0):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(hears)
        os.close(said)

    assert b"held" == held
    with lease(asked(shared), wait_s=0) as got:
        assert "GPU-1" == got.name


def test_a_lease_does_not_pass_to_programs_we_start(shared: Machine) -> None:
    """A helper that outlives us must not keep the GPU; it may for the moment until its program is loaded."""
    with lease(asked(shared), wait_s=0):
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    try:
        with lease(asked(shared), wait_s=20) as got:
            assert "GPU-1" == got.name
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
