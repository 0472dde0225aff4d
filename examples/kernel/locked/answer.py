"""Answers the scorer's questions with `nearest` of one file: the candidate's or the reference's, in its container.

With the candidate's code in it this process is untrusted, and an answer no more than a claim: the scorer has its own
copy of every question, and compares.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import frames
import numpy as np
import problem

POLL_S = 0.0002  # short beside the time of an answer
FOREVER = float("inf")  # the guard and the host end this container in time


def load(path: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the function of a file; exits if it has none."""
    spec = importlib.util.spec_from_file_location("kernel", path)
    if spec is None or spec.loader is None:
        sys.exit(f"error: {path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel"] = module
    spec.loader.exec_module(module)
    found = getattr(module, "nearest", None)
    if not callable(found):
        sys.exit(f"error: {path.name} must define nearest(points, queries)")
    return found


def answer_questions(path: Path, ask: Path, answer: Path) -> None:
    """Answer one question after the other until the host ends this container; the file is run at the first one."""
    frames.wait(ask, "0.ask", until=FOREVER, poll_s=frames.WAITING_POLL_S)
    function = load(path)
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


if __name__ == "__main__":
    answer_questions(Path(sys.argv[1]), Path("/ask"), Path("/answer"))
