"""A reaper takes what nobody owns any more, and never what somebody may still need."""

import os
import subprocess
import sys
import time

import pytest

from orchestrator.walls import container_labels
from orchestrator.walls.spec import LABEL

ELSEWHERE = "00000000-0000-0000-0000-000000000000"


def labels(dies_in_s: float = 60, /, **changed: str) -> dict[str, str]:
    """What a container of ours carries, with changes by the last word of a label."""
    found = container_labels.owner_labels(tag="test", experiment_id=1, attempt=1, role="trainer", dies_in_s=dies_in_s)
    return found | {f"{LABEL}.{name}": value for name, value in changed.items()}


def dead_owner() -> str:
    """The label of a process that has ended, with our namespace."""
    code = "from orchestrator.walls.container_labels import owner_labels as of\n"
    code += "print(of(tag='a', experiment_id=1, attempt=1, role='a', dies_in_s=60)['autoresearch.owner'])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("step_s", [-1e6, 1e6])
def test_a_clock_that_is_set_reaps_nothing(step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither forwards nor backwards."""
    living = labels()
    wall = time.time() + step_s
    monkeypatch.setattr(time, "time", lambda: wall)

    assert not container_labels.is_orphaned(living)


def test_a_dead_owner_is_gone() -> None:
    """Long before the deadline."""
    assert container_labels.is_orphaned(labels(owner=dead_owner()))


def test_a_number_used_again_is_another_process() -> None:
    """By its start."""
    boot, pid, _ = labels()[f"{LABEL}.owner"].split(":")

    assert container_labels.is_orphaned(labels(owner=f"{boot}:{pid}:1"))


def test_a_pid_of_another_namespace_says_nothing() -> None:
    """The owner may live in a container beside ours: then only the deadline counts."""
    other = {"owner": dead_owner(), "namespace": "1"}

    assert not container_labels.is_orphaned(labels(**other))
    assert container_labels.is_orphaned(labels(-61, **other))


def test_another_boot_is_judged_by_its_deadline_alone() -> None:
    """It may be another machine, with a living owner; our monotonic clock says nothing about theirs."""
    other = dead_owner().partition(":")[2]

    assert not container_labels.is_orphaned(labels(owner=f"{ELSEWHERE}:{other}", monotonic="0"))
    assert container_labels.is_orphaned(labels(-61, owner=f"{ELSEWHERE}:{other}", monotonic="1e9"))


def test_a_deadline_is_late_by_a_minute_before_it_counts() -> None:
    """The owner itself has time to see to it."""
    assert not container_labels.is_orphaned(labels(-50))
    assert container_labels.is_orphaned(labels(-70))


def test_what_others_own_is_theirs() -> None:
    """Another user's, and what is none of ours, at any time."""
    assert not container_labels.is_orphaned(labels(-1e6, uid=str(os.getuid() + 1)))
    assert not container_labels.is_orphaned({})


def test_a_session_is_named_by_its_owner_alone() -> None:
    """Not another session of the same process number, nor one of another user, nor a container that is not ours."""
    mine, owner = labels(), labels()[f"{LABEL}.owner"]

    assert container_labels.belongs_to(owner, mine)
    assert not container_labels.belongs_to(owner.rpartition(":")[0] + ":1", mine)
    assert not container_labels.belongs_to(owner, labels(uid="12345"))
    assert not container_labels.belongs_to(owner, {f"{LABEL}.owner": owner, f"{LABEL}.uid": str(os.getuid())})
