"""Every limit, proved by exceeding it."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.units import MIB
from orchestrator.walls.engine import Engine
from orchestrator.walls.spec import ContainerSpec
from tests.support.boxes import SMALL, Boxes

pytestmark = pytest.mark.engine


def test_too_much_memory(boxes: Boxes) -> None:
    """Past the limit it is killed, and the record says for what."""
    result = boxes.run("held = []\nwhile True: held.append(bytearray(16 << 20))")

    assert result.oom_killed
    assert result.exit_code in (128 + 9, 0, None)
    assert result.peak_memory_bytes is not None
    assert result.peak_memory_bytes <= SMALL.memory


def test_processes(boxes: Boxes) -> None:
    """A fork bomb meets the limit and nothing else does."""
    source = """
        import os, time
        count = 0
        try:
            while count < 1000:
                if os.fork() == 0: time.sleep(30)
                count += 1
        except BlockingIOError: pass
        print('forked', count)
    """
    result = boxes.run(source)

    assert 0 == result.exit_code
    assert "forked 62" in result.log_tail  # the guard and the program are two


def test_threads(boxes: Boxes) -> None:
    """Threads are processes to the limit."""
    source = """
        import threading, time
        count = 0
        try:
            while count < 1000:
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
                count += 1
        except RuntimeError: pass
        print('threads', count, flush=True)
        import os; os._exit(0)
    """

    assert "threads 62" in boxes.run(source).log_tail


@pytest.mark.parametrize("place", ["/tmp", "/cache", "/dev/shm"])
def test_memory_file_systems(boxes: Boxes, place: str) -> None:
    """Each holds its size and not more."""
    source = f"""
        written = 0
        try:
            with open('{place}/a', 'wb', buffering=0) as file:
                while written < 64: written += file.write(bytes(1 << 20)) / (1 << 20)
        except OSError as error: print(error.strerror)
        print('MiB', int(written))
    """
    tail = boxes.run(source).log_tail

    assert "No space left on device" in tail
    assert "MiB 16" in tail


def test_open_files(boxes: Boxes) -> None:
    """A descriptor bomb meets its limit."""
    tail = boxes.run(
        "held = []\ntry:\n  while True: held.append(open('/dev/null'))\n"
        "except OSError as error: print(error.strerror, len(held))"
    ).log_tail

    assert "Too many open files 253" in tail


@pytest.mark.parametrize("by_engine", [True, False], ids=["engine and guard", "guard alone"])
def test_limits_of_every_process(boxes: Boxes, by_engine: bool) -> None:
    """None comes from whoever started the engine; the guard sets them where an engine ignores them, as Podman does."""
    source = """
        import json, resource
        names = [name.removeprefix('RLIMIT_').lower() for name in dir(resource) if name.startswith('RLIMIT_')]
        print(json.dumps({name: resource.getrlimit(getattr(resource, f'RLIMIT_{name.upper()}')) for name in names}))
    """
    there = boxes if by_engine else replace(boxes, engine=WithoutUlimits(boxes.engine._api, boxes.engine.describe()))
    found = json.loads(there.run(source).log_tail)
    wanted = SMALL.of_process

    assert {"core", "fsize", "memlock", "msgqueue", "nice", "nofile", "rtprio", "sigpending"} == set(wanted)
    assert {name: [value, value] for name, value in wanted.items()} == {name: found[name] for name in wanted}


def test_message_queues(boxes: Boxes) -> None:
    """There is a file system of them in every container, of no size: not one can be made."""
    source = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        print('made', libc.mq_open(b'/queue', os.O_CREAT | os.O_RDWR, 0o600, None), os.strerror(ctypes.get_errno()))
        try: print(os.open('/dev/mqueue/queue', os.O_CREAT | os.O_RDWR))
        except OSError as error: print('file', error.strerror)
    """
    tail = boxes.run(source).log_tail

    assert "made -1 Too many open files" in tail  # the kernel's word for it
    assert "file Too many open files" in tail


def test_queued_signals(boxes: Boxes) -> None:
    """The kernel keeps each of them; a flood ends at the limit."""
    source = """
        import ctypes, os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
        libc, count = ctypes.CDLL(None), 0
        while count < 5000 and libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None) == 0: count += 1
        print('queued', count)
    """

    assert "queued 4096" in boxes.run(source).log_tail


class WithoutUlimits(Engine):
    """An engine that takes limits of processes and forgets them."""

    def _create(self, spec: ContainerSpec, config: dict[str, Any], folder: Path) -> str:
        return super()._create(spec, {**config, "HostConfig": {**config["HostConfig"], "Ulimits": []}}, folder)

    def _read_back(self, container_id: str, spec: ContainerSpec, config: dict[str, Any], folder: Path) -> None:
        forgotten = {**config, "HostConfig": {**config["HostConfig"], "Ulimits": []}}
        super()._read_back(container_id, spec, forgotten, folder)


def test_processors(boxes: Boxes) -> None:
    """Half a processor's quota is half a processor's time, however many threads spin."""
    half = SMALL.__class__(memory=256 * MIB, cpus=0.5, pids=256, tmp=MIB, cache=MIB, shm=MIB)
    source = """
        import os, time
        for _ in range(3): os.fork()
        end = time.monotonic() + 3
        while time.monotonic() < end: pass
        time.sleep(0.2)
    """
    result = boxes.run(source, resources=half)

    assert result.cpu_s is not None
    assert 0.3 < result.cpu_s < 0.5 * result.duration_s + 0.4


def test_stdout(boxes: Boxes) -> None:
    """A flood is drained at once and kept in part; a line of 200 MB too."""
    source = """
        import os
        left = 200 << 20
        while left: left -= os.write(1, b'x' * min(left, 1 << 20))  # a pipe may take less than it was given
        print(); print('the end')
    """
    result = boxes.run(source)

    assert 0 == result.exit_code
    assert result.stdout_bytes > 200 * MIB
    assert result.dropped_bytes > 190 * MIB
    assert result.log_tail.endswith("the end")
    assert (boxes.folder / "trainer.log").stat().st_size < 8 * MIB


def test_a_closed_stdout_is_not_the_end(boxes: Boxes) -> None:
    """A program that closes its output runs on, and is watched."""
    started = time.monotonic()
    result = boxes.run("import os, time\nos.close(1); os.close(2); time.sleep(1.5); os._exit(7)")

    assert 7 == result.exit_code
    assert time.monotonic() - started > 1.5
