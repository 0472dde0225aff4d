"""The scorer: asks predictor A for every point, predictor B for points drawn in secret, and computes the error."""

import argparse
import array
import hashlib
import math
import random
import sys
import time
from pathlib import Path

import channel
import frames
import prepare


class Refused(Exception):
    """The score cannot be believed."""


class Predictor:
    """One predictor's pair of volumes."""

    def __init__(self, name: str, root: Path, until: float) -> None:
        self.name, self.ask, self.answer = name, root / f"ask-{name}", root / f"answer-{name}"
        self.until, self.asked = until, 0

    def digest(self) -> bytes:
        """Return the checkpoint's hash, before untrusted code runs there."""
        frames.write(self.ask, "hash", b"")
        frames.wait(self.answer, "hello", until=self.until)
        return frames.read(self.answer, "hello", 32)

    def request(self, values: list[float]) -> list[float]:
        """Return its predictions for x [B]."""
        number, self.asked = self.asked, self.asked + 1
        frames.write(self.ask, f"{number}.ask", array.array("d", values).tobytes())
        frames.wait(self.answer, f"{number}.answer", until=self.until)
        found = list(array.array("d", frames.read(self.answer, f"{number}.answer", 8 * len(values))))
        if not all(map(math.isfinite, found)):
            raise Refused("a prediction is not a finite number")
        return found

    def rehearse(self) -> None:
        """Ask what is no secret first: what an honest mistake prints there can be shown to anyone."""
        self.request([0.0, 0.5, 1.0])
        channel.send("rehearsed", predictor=self.name)


def rmse(found: list[float], right: list[float]) -> float:
    """Return the root of the mean squared difference."""
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(found, right, strict=True)) / len(right))


def score(options: argparse.Namespace) -> None:
    """Run the whole protocol and send the score. Raises Refused."""
    points = prepare.load(options.root / "data/val/points.json")
    asked, right = [x for x, _ in points], [y for _, y in points]
    channel.wait_for_training(options.root / "control")
    until = time.monotonic() + options.seconds
    first, second = (Predictor(name, options.root, until) for name in ("a", "b"))
    for one in (first, second):
        frames.write(one.ask, "begin", b"")
    digest = first.digest()
    channel.send("checkpoint", sha256=digest.hex())
    first.rehearse()
    claims = first.request(asked)
    channel.send("claims", sha256=hashlib.sha256(repr(claims).encode()).hexdigest(), value=rmse(claims, right))

    seed = channel.wait_for_seed(options.root / "control", until)
    if second.digest() != digest:
        raise Refused("the checkpoint changed between predictor A and predictor B")
    second.rehearse()
    drawn = random.Random(seed).sample(range(len(points)), options.small_k)  # noqa: S311  # the seed is the secret
    answers = second.request([asked[at] for at in drawn])
    worst = max(abs(answer - claims[at]) for answer, at in zip(answers, drawn, strict=True))
    if worst > options.cap:
        raise Refused(f"two answers about one point differ by more than {options.cap:g}")
    channel.send(
        "score",
        metric="val_rmse",
        value=rmse(claims, right),
        level="L2",
        standard_error=0.0,
        audited_positions=len(drawn),
        total_positions=len(points),
    )


def main() -> None:
    """Send a score, or why there is none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--small-k", type=int, required=True)
    parser.add_argument("--cap", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    try:
        score(parser.parse_known_args()[0])
    except frames.NoAnswer as fault:
        channel.send("no_answer", reason=str(fault))
        sys.exit(4)
    except frames.FrameError as fault:
        channel.send("refused", reason="an answer is not the plain file of the agreed size", detail=str(fault))
        sys.exit(3)
    except Refused as why:
        channel.send("refused", reason=str(why))
        sys.exit(3)


if __name__ == "__main__":
    main()
