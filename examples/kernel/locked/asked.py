"""Answers the scorer's questions with one function: the candidate's, or the reference. Runs in both containers.

With the candidate's code in it this process is untrusted, and an answer no more than a claim: the scorer has its own
copy of every question, and compares.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import frames
import numpy as np
import problem

POLL_S = 0.0002  # short beside the time of an answer
FOREVER = float("inf")  # the guard and the host end this container in time


def answer_questions(
    ask: Path, answer: Path, load: Callable[[], Callable[[np.ndarray, np.ndarray], np.ndarray]]
) -> None:
    """Answer one question after the other until the host ends this container; `load` is called at the first one."""
    frames.wait(ask, "begin", until=FOREVER, poll_s=frames.WAITING_POLL_S)
    frames.wait(ask, "0.ask", until=FOREVER)
    function = load()
    number = 0
    while True:
        frames.wait(ask, f"{number}.ask", until=FOREVER, poll_s=POLL_S)
        question = problem.decode((ask / f"{number}.ask").read_bytes())
        found = function(question.points, question.queries)
        check_form(found, len(question.queries))
        frames.write(answer, f"{number}.answer", found.tobytes())
        number += 1


def check_form(found: object, queries: int) -> None:
    """Exit with what to fix unless an answer is a plain float64 array [Q]."""
    if type(found) is not np.ndarray or found.dtype != np.float64 or found.shape != (queries,):
        shape = list(getattr(found, "shape", []))
        got = f"{type(found).__name__} {getattr(found, 'dtype', '')} {shape}"
        sys.exit(f"error: nearest(points, queries) must return a plain numpy array float64 [{queries}], got {got}")
