"""The scorer: the only program that sees the sizes of the validation functions, and the only one that is believed.

Predictor A answers for every function: its claims, hashed. When the host has destroyed it, predictor B, which never saw
them, answers again for functions drawn in secret, in another order and batch. Answers that differ were not made from a
function's own features, and are refused. The error is then computed here.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import channel
import frames
import numpy as np
import prepare

METRIC = "val_rmse"  # as in task.toml


class Refused(Exception):
    """The score cannot be believed: why; the figures are for people."""

    def __init__(self, reason: str, **figures: float) -> None:
        super().__init__(reason)
        self.figures = figures


@dataclass(slots=True)
class Predictor:
    """One predictor's pair of volumes."""

    name: str
    root: Path
    until: float
    asked: int = field(default=0)

    def digest(self) -> bytes:
        """The checkpoint's hash, asked for when nobody is left to change it, before untrusted code runs there."""
        answer = self.root / f"answer-{self.name}"
        frames.write(self.root / f"ask-{self.name}", "hash", b"")
        frames.wait(answer, "hello", until=self.until)
        return frames.read(answer, "hello", 32)

    def request(self, features: np.ndarray) -> np.ndarray:
        """Predictions float32 [B] for features [B, F]."""
        number, self.asked = self.asked, self.asked + 1
        answer = self.root / f"answer-{self.name}"
        frames.write(self.root / f"ask-{self.name}", f"{number}.ask", features.astype("<f4").tobytes())
        frames.wait(answer, f"{number}.answer", until=self.until)
        data = frames.read(answer, f"{number}.answer", 4 * len(features))
        return frames.to_array(data, (len(features),), "<f4").astype(np.float64)

    def all(self, features: np.ndarray, batch: int) -> np.ndarray:
        """The same for any number of them."""
        return np.concatenate([self.request(features[at : at + batch]) for at in range(0, len(features), batch)])

    def rehearse(self) -> None:
        """Random features first: what an honest mistake prints there can be shown to anyone."""
        self.request(np.random.default_rng(0).integers(9, size=(8, len(prepare.FEATURES))))
        channel.send("rehearsed", predictor=self.name)


def score(options: argparse.Namespace) -> None:
    """Run the whole protocol and send the score."""
    features, sizes = prepare.load(options.root / "data/val")
    channel.wait_for_training(options.root / "control")
    until = time.monotonic() + options.seconds
    first, second = (Predictor(name, options.root, until) for name in ("a", "b"))
    for name in ("a", "b"):
        frames.write(options.root / f"ask-{name}", "begin", b"")

    digest = first.digest()
    channel.send("checkpoint", sha256=digest.hex())
    first.rehearse()
    claims = first.all(features, options.batch)
    if not np.isfinite(claims).all():
        raise Refused("a prediction is not a finite number")
    errors = (claims - sizes) ** 2
    rmse = float(np.sqrt(errors.mean()))
    channel.send("claims", sha256=hashlib.sha256(claims.tobytes()).hexdigest(), value=rmse)

    seed = channel.wait_for_seed(options.root / "control", until)
    if second.digest() != digest:
        raise Refused("the checkpoint changed between predictor A and predictor B")
    second.rehearse()
    chance = np.random.default_rng(list(seed))
    k = options.large_k if rmse < options.keep_below else options.small_k
    drawn = chance.permutation(len(features))[:k]
    answers = second.all(features[drawn], options.batch // 3)
    if not np.isfinite(answers).all():
        raise Refused("a prediction is not a finite number")
    difference = answers - claims[drawn]
    worst = float(np.abs(difference).max())
    differences = {"mean_difference": float(difference.mean()), "max_difference": worst}
    if worst > options.cap:
        raise Refused(f"two answers about one function differ by more than {options.cap:g}", **differences)
    channel.send(
        "score",
        metric=METRIC,
        value=rmse,
        level="L2",
        standard_error=float(np.abs(difference).std() / len(difference) ** 0.5),
        audited_positions=len(drawn),
        total_positions=len(features),
        **differences,
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """The host's orders for this one score; those of other tasks are not looked at."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--batch", type=int, required=True, help="functions per question")
    parser.add_argument("--small-k", type=int, required=True, help="functions that B answers again")
    parser.add_argument("--large-k", type=int, required=True, help="the same for a would-be best")
    parser.add_argument("--keep-below", type=float, default=float("inf"), help="below this it would be the best")
    parser.add_argument("--cap", type=float, required=True, help="bits that two answers may differ by")
    parser.add_argument("--seconds", type=float, required=True, help="time for the whole score")
    return parser.parse_known_args(arguments)[0]


def main() -> None:
    """Send a score, or why there is none: `refused` (exit 3) or `no_answer` (exit 4)."""
    try:
        score(parse(sys.argv[1:]))
    except frames.NoAnswer as fault:
        channel.send("no_answer", reason=str(fault))
        sys.exit(4)
    except frames.FrameError as fault:
        reason = "an answer is not the plain file of the agreed size that it must be"
        channel.send("refused", reason=reason, detail=str(fault))
        sys.exit(3)
    except Refused as outcome:
        channel.send("refused", reason=str(outcome), **outcome.figures)
        sys.exit(3)


if __name__ == "__main__":
    main()
