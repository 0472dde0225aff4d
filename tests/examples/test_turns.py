"""Candidate and reference of examples/kernel asked in turns, as programs of their own but without containers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import frames
import numpy as np
import pytest
import turns

ROOT = Path(__file__).parents[2]
KERNEL = ROOT / "examples" / "kernel"
ZOO = ROOT / "attacks" / "scores" / "zoo" / "kernel"
SEED = bytes(range(32))
RUN = "import sys, answer; from pathlib import Path; answer.answer_questions(*map(Path, sys.argv[1:]))"


@contextmanager
def program(root: Path, name: str, path: Path) -> Iterator[turns.Program]:
    """A program that answers with the function of a file, until the end of the block."""
    for side in ("ask", "answer"):
        (root / f"{side}-{name}").mkdir()
    found = os.pathsep.join(str(folder) for folder in (KERNEL / "locked", ROOT / "orchestrator" / "runtime"))
    environment = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(path), str(root / f"ask-{name}"), str(root / f"answer-{name}")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        asker = turns.Program(name=name, root=root, until=time.monotonic() + 60)
        yield asker
    finally:
        process.kill()
        process.communicate()


def measure(tmp_path: Path, candidate: Path) -> turns.timing.Ratio:
    with (
        program(tmp_path, "a", candidate) as asked,
        program(tmp_path, "b", KERNEL / "locked" / "reference.py") as reference,
    ):
        turns.rehearse(reference)
        quiet = turns.time_quietly(reference, np.random.default_rng(1))
        turns.rehearse(asked)
        return turns.measure(asked, reference, 4, quiet, SEED)


def test_a_right_program_gets_a_ratio(tmp_path: Path) -> None:
    """With an interval around it."""
    found = measure(tmp_path, KERNEL / "drafts" / "05-as-a-product.py")

    assert 0 < found.low <= found.value <= found.high


@pytest.mark.parametrize(
    "name", ["02_special_cases", "04_changes_inputs", "06_answers_too_early", "07_loses_precision"]
)
def test_a_wrong_answer_is_found(tmp_path: Path, name: str) -> None:
    """In whichever question it comes; the reason holds nothing that the program chose."""
    with pytest.raises(turns.WrongAnswer, match=r"^a distance is (off by more than 1e-09|not a finite number)$"):
        measure(tmp_path, ZOO / f"{name}.py")


def test_what_is_no_plain_array_ends_the_program(tmp_path: Path) -> None:
    """A lazy answer never becomes a frame."""
    with program(tmp_path, "a", ZOO / "05_lazy_answer.py") as asked:
        asked.until = time.monotonic() + 3
        with pytest.raises(frames.NoAnswer):
            turns.rehearse(asked)


def test_an_answer_that_is_there_before_its_question_is_found(tmp_path: Path) -> None:
    """Whatever it says."""
    with program(tmp_path, "a", KERNEL / "mutable" / "kernel.py") as asked:
        frames.write(tmp_path / "answer-a", "2.answer", b"12345678")
        with pytest.raises(frames.FrameError, match=r"2\.answer was there before the question"):
            turns.rehearse(asked)
