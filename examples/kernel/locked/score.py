"""The scorer: holds questions, answers and the stopwatch, and sends the ratio of two times.

Candidate and reference answer in containers of their own. The reference is timed alone first, before the candidate's
code runs; then both answer every kind of question, and take turns on new ones until the ratio is certain enough. At
last the host ends the candidate, and the reference is timed alone once more. All answers are checked.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import channel
import frames
import numpy as np
import timing
import turns

METRIC = "time_ratio"  # as in task.toml
PAIRS = (24, 200)  # at least, and at most
TURNS_SHARE = 0.6  # of the time, after which there are no more pairs


def score(root: Path, seconds: float) -> None:
    """Run the whole protocol and send the ratio. Raises WrongAnswer, and FrameError for the candidate's frames."""
    started = time.monotonic()
    until = started + seconds
    candidate, reference = (turns.Program(name=name, root=root, until=until) for name in ("a", "b"))
    seed = list(os.urandom(32))  # of this scorer alone
    chance = np.random.default_rng(seed)
    turns.rehearse(reference)
    channel.send("rehearsed", predictor="b")
    before = turns.time_alone(reference, chance)
    turns.rehearse(candidate)
    channel.send("rehearsed", predictor="a")
    turns.check_all_kinds(candidate, reference, chance)
    times = turns.take_turns(candidate, reference, PAIRS, chance, started + TURNS_SHARE * seconds)
    channel.send("claims", sha256=candidate.answers.hexdigest())
    channel.wait_for_end(root / "control", until)
    after = turns.time_alone(reference, chance)
    found = timing.compare(*times, before, after, seed)
    channel.send(
        "score",
        metric=METRIC,
        value=found.value,
        level="L1",
        standard_error=found.standard_error,
        noise=found.standard_error,
        parts={"low": found.low, "high": found.high, "slowdown": found.slowdown, "pairs": found.pairs},
    )


def main() -> None:
    """Send a score, or why there is none: `failed`, `refused` (exit 3) or `no_answer` (exit 4)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--seconds", type=float, required=True, help="time for the whole score")
    options = parser.parse_known_args()[0]
    try:
        score(options.root, options.seconds)
    except frames.NoAnswer as fault:
        channel.send("no_answer", reason=str(fault))
        sys.exit(4)
    except frames.FrameError as fault:
        reason = "an answer is not the plain file of the agreed size that it must be, or was there before its question"
        channel.send("refused", reason=reason, detail=str(fault))
        sys.exit(3)
    except turns.WrongAnswer as fault:
        channel.send("failed", reason=str(fault))
        sys.exit(3)


if __name__ == "__main__":
    main()
