"""Candidate and reference of examples/kernel asked in turns, as programs of their own but without containers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import frames
import numpy as np
import problem
import pytest
import reference
import timing
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


def measure(tmp_path: Path, candidate: Path) -> timing.Ratio:
    with (
        program(tmp_path, "a", candidate) as asked,
        program(tmp_path, "b", KERNEL / "locked" / "reference.py") as other,
    ):
        chance = np.random.default_rng(list(SEED))
        turns.rehearse(other)
        before = turns.time_alone(other, chance)
        turns.rehearse(asked)
        turns.check_all_kinds(asked, other, chance)
        times = turns.take_turns(asked, other, (4, 4), chance, asked.until)
        return timing.compare(*times, before, before, list(SEED))


def test_a_right_program_gets_a_ratio(tmp_path: Path) -> None:
    """With an interval around it."""
    found = measure(tmp_path, KERNEL / "drafts" / "05-as-a-product.py")

    assert 0 < found.low <= found.value <= found.high


@dataclass
class Clockwork:
    """Answers rightly, and says how long it took: by a script, again and again."""

    name: str
    seconds: list[float]
    asked: int = 0

    def ask(self, question: problem.Question) -> tuple[bytes, float]:
        """The right answer, and the next time of the script."""
        took = self.seconds[self.asked % len(self.seconds)]
        self.asked += 1
        return reference.nearest(question.points, question.queries).tobytes(), took


@pytest.mark.parametrize(
    ("seconds", "until", "expected"),
    [([0.05], float("inf"), 3), ([0.05, 0.5, 0.02], float("inf"), 12), ([0.05, 0.5, 0.02], 0.0, 3)],
    ids=["even", "uneven", "late"],
)
def test_there_are_pairs_until_the_ratio_is_certain(seconds: list[float], until: float, expected: int) -> None:
    """As few as must be where times are even, as many as may be where they are not, and none when time is up."""
    candidate, other = Clockwork("a", seconds), Clockwork("b", [0.1])
    times = turns.take_turns(candidate, other, (3, 12), np.random.default_rng(1), until)  # type: ignore[arg-type]

    assert [expected, expected] == [len(each) for each in times]


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
