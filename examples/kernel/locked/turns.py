"""Asks candidate and reference in turns, with the scorer's stopwatch. Standard library, numpy and the frames.

Every question is new and drawn from a secret seed; every answer is checked, those that are timed as all others.
"""

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import frames
import numpy as np
import problem
import timing

POLL_S = 0.0002  # short beside the time of an answer
REHEARSAL_SEED = 0  # of the first questions, which contain nothing secret
ALONE = 16  # questions to the reference alone: before any code of the candidate runs, and when it is gone
WARM_UP = 2  # pairs that are not timed
TIGHT = 0.015  # standard error of the ratio, as a share of it, at which there are pairs enough
BETWEEN_LOOKS = 8  # pairs


class WrongAnswer(Exception):
    """An answer of the candidate is not the reference's; says nothing that the candidate chose."""


@dataclass(slots=True)
class Program:
    """One program that answers: the candidate, or the reference."""

    name: str
    root: Path
    until: float  # monotonic
    asked: int = field(default=0)
    answers: "hashlib._Hash" = field(default_factory=hashlib.sha256)  # of all answers so far

    def ask(self, question: problem.Question) -> tuple[bytes, float]:
        """Return the answer's bytes, and the seconds from the question to the answer read. Raises FrameError."""
        number, self.asked = self.asked, self.asked + 1
        data, answers = problem.encode(question), self.root / f"answer-{self.name}"
        if os.path.lexists(answers / f"{number}.answer"):
            raise frames.FrameError(f"frame {number}.answer was there before the question")
        started = time.perf_counter()
        frames.write(self.root / f"ask-{self.name}", f"{number}.ask", data)
        frames.wait(answers, f"{number}.answer", until=self.until, poll_s=POLL_S)
        answer = frames.read(answers, f"{number}.answer", question.answer_bytes)
        seconds = time.perf_counter() - started
        self.answers.update(answer)
        return answer, seconds


def rehearse(program: Program) -> None:
    """Ask about each kind of input once, with a seed that is no secret; what it prints there can be shown to anyone."""
    for number, kind in enumerate(problem.KINDS):
        program.ask(problem.draw(np.random.default_rng([REHEARSAL_SEED, number]), kind))


def time_alone(reference: Program, chance: np.random.Generator) -> list[float]:
    """Return times of the reference while no code of a candidate runs."""
    return [reference.ask(problem.draw(chance))[1] for _ in range(ALONE)]


def check_all_kinds(candidate: Program, reference: Program, chance: np.random.Generator) -> None:
    """Ask both about every kind of input. Raises WrongAnswer."""
    for kind in problem.KINDS:
        _ask_both(candidate, reference, problem.draw(chance, kind), candidate_first=True)


def take_turns(
    candidate: Program, reference: Program, pairs: tuple[int, int], chance: np.random.Generator, until: float
) -> tuple[list[float], list[float]]:
    """Return the times of candidate and reference for new questions. Raises WrongAnswer.

    At least as many pairs as the first number says; then more, until their ratio is certain enough, there are as many
    as the second number says, or the monotonic time `until` has come.
    """
    least, most = pairs
    seed = chance.integers(1 << 32, size=4).tolist()
    times: list[tuple[float, float]] = []
    for number in range(-WARM_UP, most):
        pair = _ask_both(candidate, reference, problem.draw(chance), candidate_first=bool(chance.integers(2)))
        if number < 0:
            continue
        times.append(pair)
        is_look = len(times) >= least and (len(times) - least) % BETWEEN_LOOKS == 0
        if is_look and (time.monotonic() > until or timing.relative_error(*zip(*times, strict=True), seed) < TIGHT):
            break
    return [one for one, _ in times], [other for _, other in times]


def _ask_both(
    candidate: Program, reference: Program, question: problem.Question, *, candidate_first: bool
) -> tuple[float, float]:
    """Return both times in seconds. Raises WrongAnswer."""
    order = (candidate, reference) if candidate_first else (reference, candidate)
    found = {program.name: program.ask(question) for program in order}
    (answer, seconds), (expected, reference_seconds) = found[candidate.name], found[reference.name]
    if fault := problem.find_fault(answer, expected):
        raise WrongAnswer(fault)
    return seconds, reference_seconds
