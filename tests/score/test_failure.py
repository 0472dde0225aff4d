"""How a container that did not end well failed, and what is said of it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.execution.experiment import _Turn, explain, failure_of
from orchestrator.types import Role, Status
from tests.support import fakes

FULL = (
    'Traceback (most recent call last):\n  File "/mutable/train.py", line 349, in train\n'
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of 79.11 GiB\n"
)  # fmt: skip
ADVICE = (
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be"
    " incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable"
    " device-side assertions.\n\n"
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"log_tail": FULL}, None),
        ({"exit_code": 1}, Status.CRASH),
        ({"exit_code": 1, "log_tail": FULL}, Status.OOM),
        ({"exit_code": 1, "log_tail": FULL.replace("torch.", "torch.cuda.")}, Status.OOM),
        ({"exit_code": 1, "log_tail": FULL + "\n".join(["then", "another", "error"] * 4)}, Status.CRASH),
        ({"exit_code": 137, "oom_killed": True}, Status.OOM),
        ({"exit_code": None, "timed_out": True, "log_tail": FULL}, Status.TIMEOUT),
    ],
)
def test_a_failure_has_one_name(facts: dict[str, object], expected: Status | None) -> None:
    """A GPU that was full is told by the last words of the traceback, and only of a program that failed."""
    assert expected is failure_of(fakes.execution(**facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("AcceleratorError: CUDA error: out of memory", Status.OOM),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Status.OOM),
        ("torch._inductor.exc.InductorError: OutOfMemoryError: CUDA out of memory.", Status.OOM),
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", Status.INFRA),
        ("RuntimeError: CUDA error: uncorrectable NVLink error detected during the execution", Status.INFRA),
        ("RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", Status.INFRA),
        ("NVMLError_GpuIsLost: GPU is lost", Status.INFRA),
        ("torch.AcceleratorError: CUDA error: unspecified launch failure", Status.CRASH),
        ("torch.AcceleratorError: CUDA error: device-side assert triggered", Status.CRASH),
    ],
)
def test_what_cuda_says_is_known_in_every_form(said: str, expected: Status) -> None:
    """With CUDA's advice behind it, and only of a program that failed; a broken GPU is not the patch's fault."""
    ended = fakes.execution(exit_code=1, log_tail=f"Traceback (most recent call last):\n{said}\n{ADVICE}")

    assert expected is failure_of(ended)
    assert failure_of(fakes.execution(log_tail=said)) is None


def test_a_broken_gpu_is_not_called_killed() -> None:
    """Nor is the engine blamed."""
    said = explain(Status.INFRA, "train.py", fakes.execution(exit_code=1, log_tail="uncorrectable ECC error"))

    assert said.startswith(
        "train.py could not use its GPU, which is broken or somebody else's: see `autoresearch doctor`\n"
    )
    assert "was killed from outside" in explain(Status.INFRA, "train.py", fakes.execution(killed_by="something"))


def test_a_full_gpu_is_not_called_killed() -> None:
    """The fix is for the memory that was short."""
    said = explain(Status.OOM, "train.py", fakes.execution(exit_code=1, log_tail=FULL))

    assert said.startswith("train.py ran out of GPU memory: make the model or its batches smaller\nTraceback")
    assert "was killed for memory" in explain(Status.OOM, "train.py", fakes.execution(exit_code=137, oom_killed=True))


@pytest.mark.parametrize(("said", "expected"), [("", Status.INFRA), ("rehearsed: b", Status.CRASH)])
def test_a_predictor_talks_itself_into_no_second_audit(said: str, expected: Status) -> None:
    """Before it has seen validation text its GPU may be broken; later a liar that is about to be caught says so too."""
    died = fakes.execution(Role.PREDICTOR_B, exit_code=1, log_tail="CUDA error: uncorrectable ECC error encountered")
    turn = _Turn(box=cast("Any", None), view=fakes.SilentView(), plan=cast("Any", None), best=None, said=[said])
    running = cast("Any", SimpleNamespace(wait=lambda: died, kill=lambda _: None))

    assert expected is turn.predictor_died(running, running).failure
