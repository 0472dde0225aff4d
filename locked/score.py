"""The scorer: the only program that sees the validation data with its targets, and the only one that is believed.

Runs only our code, never torch, never anything an experiment wrote. It collects claims from predictor A, says their
hash, waits until the host has destroyed A and handed over the audit seed, audits secret positions with predictor B,
and prints exactly one `val_bpb:` line or one `refused:` line. Each predictor first answers a rehearsal on random
tokens, so that what an honest mistake prints there can be shown to anyone: no validation text was out yet.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import estimator
import frames
import numpy as np
import prepare
import protocol

SEED_NAME, SEED_SIZE = "seed", 32
REHEARSED = "rehearsed: "  # the host shows nothing of a predictor's output to the LLM after this line
NOWHERE = np.zeros(0, np.int32)
ROUNDING = 1e-5  # of log(1) in float32
UNSTEADY = "unsteady: "  # the same random rows got other answers beside other rows; the audit goes on, and decides


class Refused(Exception):  # a verdict, not an error of ours
    """The score cannot be believed: why, in words that hold nothing a predictor chose, for the LLM reads them."""


@dataclass(slots=True, kw_only=True)
class Predictor:
    """One predictor's pair of volumes, and how many questions it was asked."""

    name: str
    ask: Path
    answer: Path
    until: float  # monotonic
    asked: int = field(default=0)

    def begin(self) -> None:
        """Say that the trainer is gone."""
        frames.write(self.ask, protocol.BEGIN, b"")

    def hash(self) -> None:
        """Say that nobody is left who could change the checkpoint."""
        frames.write(self.ask, protocol.HASH, b"")

    def hello(self) -> protocol.Hello:
        """What the predictor found, said before it ran untrusted code."""
        frames.wait(self.answer, protocol.HELLO, until=self.until)
        return protocol.Hello.decode(frames.read(self.answer, protocol.HELLO, protocol.HELLO_SIZE))

    def rehearse(self, batch: int) -> None:
        """Have the model loaded and tried on random tokens; B must not load it before A is gone."""
        tokens = _random_tokens(batch, prepare.MAX_SEQ_LEN)
        positions = np.full(batch, prepare.MAX_SEQ_LEN - 1)
        self.request(
            protocol.Ask(kind=protocol.PREFIX, tokens=tokens, positions=positions), (batch, prepare.VOCAB_SIZE)
        )
        print(f"{REHEARSED}{self.name}", flush=True)

    def rehearse_twice(self, batch: int, cap_nats: float) -> None:
        """The same for claims, then half of the rows once more, each at another place beside other rows.

        Says so where those claims differ by more than `cap_nats`: then an honest mistake is likely, and the mend known.
        """
        first, other = _random_tokens(batch, prepare.MAX_SEQ_LEN + 1), _random_tokens(batch, prepare.MAX_SEQ_LEN + 1, 1)
        half = batch // 2
        second = np.concatenate([other[half:], first[:half]])
        claims, again = (
            self.request(
                protocol.Ask(kind=protocol.CLAIMS, tokens=tokens, positions=NOWHERE), (batch, first.shape[1] - 1)
            )
            for tokens in (first, second)
        )
        counted = first[:half, 1:] != prepare.BOS_TOKEN_ID
        difference = np.abs(claims[:half] - again[batch - half :])[counted]
        if (worst := float(difference.max(initial=0.0))) > cap_nats:
            print(f"{UNSTEADY}{worst:.4f} nat")
        print(f"{REHEARSED}{self.name}", flush=True)

    def request(self, ask: protocol.Ask, shape: tuple[int, ...]) -> np.ndarray:
        """Ask for a float32 array of `shape`; raises FrameError for anything else."""
        number, self.asked = self.asked, self.asked + 1
        frames.write(self.ask, protocol.ask_name(number), ask.encode())
        name = protocol.answer_name(number)
        frames.wait(self.answer, name, until=self.until)
        data = frames.read(self.answer, name, 4 * int(np.prod(shape)))
        (self.ask / protocol.ask_name(number)).unlink()
        return frames.to_array(data, shape, "<f4")


def _random_tokens(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(prepare.VOCAB_SIZE, size=(rows, width))


def collect_claims(predictor: Predictor, rows: np.ndarray, counted: np.ndarray, batch: int) -> np.ndarray:
    """Claims float32 [N, T] for all rows; refuses what no probability can be, where it counts."""
    parts = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ask = protocol.Ask(kind=protocol.CLAIMS, tokens=part, positions=NOWHERE)
        parts.append(predictor.request(ask, (len(part), part.shape[1] - 1)))
    claims = np.concatenate(parts)
    if not np.isfinite(claims[counted]).all():
        message = "a claim is not a finite number"
        raise Refused(message)
    if (highest := claims[counted].max()) > ROUNDING:
        print(f"highest_claim: {highest:.4f}")
        message = "a claim is a log-probability above 0"
        raise Refused(message)
    return claims


def audit(predictor: Predictor, rows: np.ndarray, positions: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Ask for the prefixes of `positions` [K, 2]: the positions in the order asked, and their log-probabilities [K]."""
    asked, values = [], []
    for turn in estimator.rounds(positions):
        for start in range(0, len(turn), batch):
            part = turn[start : start + batch]
            padded = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])  # one shape for compilers
            ask = protocol.Ask(kind=protocol.PREFIX, tokens=estimator.prefix_rows(rows, padded), positions=padded[:, 1])
            logits = predictor.request(ask, (batch, prepare.VOCAB_SIZE))[: len(part)]
            targets = rows[part[:, 0], part[:, 1] + 1]
            asked.append(part)
            values.append(estimator.log_softmax_at(logits, targets))
    return np.concatenate(asked), np.concatenate(values)


def wait_for_seed(control: Path, until: float) -> bytes:
    """The audit seed, which the host writes only after predictor A is gone."""
    frames.wait(control, SEED_NAME, until=until, poll_s=0.005)
    return frames.read(control, SEED_NAME, SEED_SIZE)


def score(options: argparse.Namespace) -> None:
    """Run the whole protocol and print its outcome."""
    until = time.monotonic() + options.seconds
    first, second = (
        Predictor(name=name, ask=options.root / f"ask-{name}", answer=options.root / f"answer-{name}", until=until)
        for name in ("a", "b")
    )
    first.begin()
    second.begin()
    first.hash()
    rows, row_bytes = prepare.load_rows(options.root / "data/val")
    counted = rows[:, 1:] != prepare.BOS_TOKEN_ID
    total_bytes = int(row_bytes.sum())

    found = first.hello()
    if not found.fresh:
        sys.exit("error: a checkpoint was there before the training: this is a bug, please report it")
    print(f"checkpoint_sha256: {found.digest.hex()}")
    print(f"checkpoint_bytes: {found.size}", flush=True)
    first.rehearse_twice(options.batch, options.cap)
    claims = collect_claims(first, rows, counted, options.batch)
    claimed_bpb = estimator.bits_per_byte(claims[counted], total_bytes)
    print(f"claimed_bpb: {claimed_bpb:.6f}")
    print(f"claims_sha256: {hashlib.sha256(claims.tobytes()).hexdigest()}", flush=True)

    seed = wait_for_seed(options.root / "control", until)
    second.hash()
    if second.hello().digest != found.digest:
        message = "the checkpoint changed between predictor A and predictor B"
        raise Refused(message)
    second.rehearse(options.batch)
    k = options.large_k if claimed_bpb < options.keep_below else options.small_k
    positions, audited = audit(second, rows, estimator.draw(counted, k, seed), options.batch)
    thresholds = estimator.Thresholds(cap_nats=options.cap, floor_nats=options.floor)
    claimed = claims[positions[:, 0], positions[:, 1]].astype(np.float64)
    result = estimator.estimate(claims, counted, positions, audited, total_bytes)
    print(f"mean_difference_nats: {result.mean_difference:.3e}")
    print(f"max_difference_nats: {result.max_difference:.3e}")
    if reason := estimator.refusal(claimed, audited, thresholds):
        raise Refused(reason)
    print("---")
    print(f"val_bpb: {result.bpb:.6f}")
    print(f"standard_error: {result.standard_error:.2e}")
    print("level: L2")
    print(f"audited_positions: {len(positions)}")
    print(f"tokens: {int(counted.sum())}")
    print(f"bytes: {total_bytes}", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The host's orders for this one score."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"), help="where data/val, control and the frames are")
    parser.add_argument("--batch", type=int, required=True, help="rows per frame")
    parser.add_argument("--small-k", type=int, required=True, help="audited positions of every experiment")
    parser.add_argument("--large-k", type=int, required=True, help="audited positions of a would-be best")
    parser.add_argument("--keep-below", type=float, default=float("inf"), help="claims below this need the large audit")
    parser.add_argument("--cap", type=float, required=True, help="nats that a single claim may be off")
    parser.add_argument("--floor", type=float, required=True, help="nats that claims may be off on average")
    parser.add_argument("--seconds", type=float, required=True, help="time for the whole score")
    return parser.parse_args(arguments)


def main() -> None:
    """Print a score, `refused: reason` (exit 3) or `no_answer: reason` (exit 4)."""
    try:
        score(parse(sys.argv[1:]))
    except frames.NoAnswer as fault:
        print(f"no_answer: {fault}", flush=True)
        sys.exit(4)
    except frames.FrameError as fault:
        print(f"broken_frame: {fault}")
        print("refused: an answer is not the plain file of the agreed size that it must be", flush=True)
        sys.exit(3)
    except Refused as verdict:
        print(f"refused: {verdict}", flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
