"""The scorer: holds questions, answers and the stopwatch, asks both programs in turns, and sends the ratio of times."""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import channel
import frames

PAIRS, SIZE = 12, 300
A, B = "a", "b"  # the candidate, the reference


class Wrong(Exception):
    """An answer is wrong; says nothing that the candidate chose."""


def ask(root: Path, which: str, number: int, numbers: list[int], until: float) -> float:
    """Return the seconds from a question to its answer. Raises Wrong, or FrameError for what is no answer."""
    data = b"".join(one.to_bytes(4, "little") for one in numbers)
    began = time.perf_counter()
    frames.write(root / f"ask-{which}", f"{number}.ask", data)
    frames.wait(root / f"answer-{which}", f"{number}.answer", until=until)
    took = time.perf_counter() - began
    found = frames.read(root / f"answer-{which}", f"{number}.answer", len(data))
    if found != b"".join(one.to_bytes(4, "little") for one in sorted(numbers)):
        raise Wrong("an answer is not the sorted numbers")
    return took


def score(root: Path, seconds: float) -> None:
    """Run the whole protocol and send the score."""
    until = time.monotonic() + seconds
    chance = random.Random(channel.wait_for_seed(root / "control", until))  # noqa: S311  # drawn by the host for this trial
    for which in (B, A):  # an open question, so that what fails there may be shown
        ask(root, which, 0, list(range(SIZE, 0, -1)), until)
        channel.send("rehearsed", predictor=which)
    ratios = []
    for number in range(1, PAIRS + 1):
        numbers = [chance.randrange(1 << 32) for _ in range(SIZE)]
        order = (A, B) if chance.random() < 0.5 else (B, A)
        took = {which: ask(root, which, number, numbers, until) for which in order}
        ratios.append(took[A] / took[B])
    error = statistics.stdev(ratios) / PAIRS**0.5
    value = statistics.median(ratios)
    channel.send(
        "score",
        metric="time_ratio",
        value=value,
        level="L2",
        standard_error=error,
        noise=error,
        audited_positions=PAIRS,
    )


def main() -> None:
    """Send a score, or why there is none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--seconds", type=float, required=True, help="time for the whole score")
    options = parser.parse_known_args()[0]
    try:
        score(options.root, options.seconds)
    except frames.NoAnswer as fault:
        channel.send("no_answer", reason=str(fault))
        sys.exit(4)
    except Wrong as fault:
        channel.send("failed", reason=str(fault))
    except frames.FrameError as fault:
        channel.send("refused", reason="an answer is not a plain file of the agreed size", detail=str(fault))
        sys.exit(3)


if __name__ == "__main__":
    main()
