"""How the killer inside says that a program ended."""

import os
import signal
from pathlib import Path

import guard
import pytest

from orchestrator.walls.container import BY_ITSELF, OUT_OF_MEMORY

COUNTED = "low 0\nhigh 0\nmax 39\noom 1\noom_kill {}\noom_group_kill 0\n"


def ended(code: int) -> int:
    """What the guard makes of a child that ends so; a negative code is a signal."""
    child = os.fork()
    if child == 0:
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code)
    try:
        return guard.child_exit(60, child)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize(
    ("code", "events", "told"),
    [
        (0, COUNTED.format(0), 0),
        (1, COUNTED.format(0), 1),
        (-signal.SIGKILL, COUNTED.format(0), BY_ITSELF),
        (-signal.SIGTERM, COUNTED.format(0), 128 + signal.SIGTERM),
        (-signal.SIGKILL, COUNTED.format(1), OUT_OF_MEMORY),
        (1, COUNTED.format(2), OUT_OF_MEMORY),  # a worker was killed, and the program ended by that
        (0, COUNTED.format(1), 0),
        (-signal.SIGKILL, "", BY_ITSELF),
        (-signal.SIGKILL, "not what it was\nat all\n", BY_ITSELF),
    ],
)
def test_a_program_killed_for_its_memory_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, events: str, told: int
) -> None:
    """By the kernel's own count; the rest as a shell would say it."""
    (tmp_path / "memory.events").write_text(events)
    monkeypatch.setattr(guard, "EVENTS", tmp_path / "memory.events")

    assert told == ended(code)


def test_without_a_count_nothing_is_said_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under cgroup v1 the engine tells it."""
    monkeypatch.setattr(guard, "EVENTS", tmp_path / "absent")

    assert BY_ITSELF == ended(-signal.SIGKILL)
