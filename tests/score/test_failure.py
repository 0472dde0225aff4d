"""How a container that did not end well failed, and what is said of it."""

import pytest

from orchestrator.experiment import explain, failure_of
from orchestrator.types import Status
from tests import fakes

FULL = (
    'Traceback (most recent call last):\n  File "/mutable/train.py", line 349, in train\n'
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of 79.11 GiB\n"
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"log_tail": FULL}, None),
        ({"exit_code": 1}, Status.CRASH),
        ({"exit_code": 1, "log_tail": FULL}, Status.OOM),
        ({"exit_code": 1, "log_tail": FULL.replace("torch.", "torch.cuda.")}, Status.OOM),
        ({"exit_code": 1, "log_tail": FULL + "\n".join(["then", "another", "error"] * 2)}, Status.CRASH),
        ({"exit_code": 137, "oom_killed": True}, Status.OOM),
        ({"exit_code": None, "timed_out": True, "log_tail": FULL}, Status.TIMEOUT),
    ],
)
def test_a_failure_has_one_name(facts: dict[str, object], expected: Status | None) -> None:
    """A GPU that was full is told by the last words of the traceback, and only of a program that failed."""
    assert expected is failure_of(fakes.execution(**facts))  # type: ignore[arg-type]


def test_a_full_gpu_is_not_called_killed() -> None:
    """The mend is for the memory that was short."""
    said = explain(Status.OOM, "train.py", fakes.execution(exit_code=1, log_tail=FULL))

    assert said.startswith("train.py ran out of GPU memory: make the model or its batches smaller\nTraceback")
    assert "was killed for memory" in explain(Status.OOM, "train.py", fakes.execution(exit_code=137, oom_killed=True))
