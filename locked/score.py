"""The scorer: the only program that sees the validation data with its targets, and the only one that is believed.

Runs only our code, never torch, never anything an experiment wrote. It collects claims from predictor A, sends their
hash, waits until the host has destroyed A and handed over the audit seed, audits secret positions with predictor B,
and sends exactly one `score` or `refused` message (docs/tasks.md). It starts while the trainer still lives, and asks
nothing before the host says that the trainer is gone, and how long load_model may take. Each predictor first answers a
rehearsal on random tokens, so that what an honest mistake prints there can be shown to anyone: no validation text was
out yet.
"""

import argparse
import hashlib
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import channel
import estimator
import frames
import numpy as np
import prepare
import protocol

METRIC = "val_bpb"  # as in task.toml
NOISE = 0.001 if prepare.GPU else 0.02  # usual standard deviation of scores of one train.py, bits a byte; a first guess
STALL, STALL_S = 2.0, 0.25  # an answer that takes so many times the usual, and this on top, is late
EARLY = 4  # answers that may be late; a model that changes after these contradicts its own claims
NOWHERE = np.zeros(0, np.int32)
ROUNDING = 1e-5  # of log(1) in float32


class Refused(Exception):  # an outcome, not an error of ours
    """The score cannot be believed: `reason` contains nothing that a predictor chose, for the LLM reads it.

    `detail` and the figures are for people.
    """

    def __init__(self, reason: str, detail: str = "", **figures: float | None) -> None:
        super().__init__(reason)
        self.detail, self.figures = detail, figures


class TooSlow(frames.NoAnswer):
    """A predictor took time that only training is given: how much."""


@dataclass(slots=True, kw_only=True)
class Predictor:
    """One predictor's pair of volumes, and how long its answers took."""

    name: str
    ask: Path
    answer: Path
    until: float  # monotonic
    load_s: float  # for load_model and its first answer, and for answers that are late
    took: list[float] = field(default_factory=list)  # seconds of each answer

    def begin(self) -> None:
        """Signal that the trainer has been removed."""
        frames.write(self.ask, protocol.BEGIN, b"")

    def hash(self) -> None:
        """Signal that nothing is left that could change the checkpoint."""
        frames.write(self.ask, protocol.HASH, b"")

    def hello(self) -> protocol.Hello:
        """Read the predictor's description of the checkpoint, sent before it ran untrusted code."""
        frames.wait(self.answer, protocol.HELLO, until=self.until)
        return protocol.Hello.decode(frames.read(self.answer, protocol.HELLO, protocol.HELLO_SIZE))

    def rehearse(self, batch: int) -> None:
        """Have the model loaded and tried on random tokens; B must not load it before A has ended."""
        tokens = _random_tokens(batch, prepare.MAX_SEQ_LEN)
        positions = np.full(batch, prepare.MAX_SEQ_LEN - 1)
        ask = protocol.Ask(kind=protocol.PREFIX, tokens=tokens, positions=positions)
        self._load(ask, (batch, prepare.VOCAB_SIZE))
        channel.send("rehearsed", predictor=self.name, load_seconds=self.took[0])

    def rehearse_twice(self, batch: int, cap_nats: float) -> None:
        """Rehearse claims, then repeat half of the rows, each at another place next to other rows.

        Says so where those claims differ by more than `cap_nats`: then an honest mistake is likely, and the fix known.
        """
        first, other = _random_tokens(batch, prepare.MAX_SEQ_LEN + 1), _random_tokens(batch, prepare.MAX_SEQ_LEN + 1, 1)
        half, shape = batch // 2, (batch, prepare.MAX_SEQ_LEN)
        second = np.concatenate([other[half:], first[:half]])
        claims = self._load(protocol.Ask(kind=protocol.CLAIMS, tokens=first, positions=NOWHERE), shape)
        again = self.request(protocol.Ask(kind=protocol.CLAIMS, tokens=second, positions=NOWHERE), shape)
        counted = first[:half, 1:] != prepare.BOS_TOKEN_ID
        difference = np.abs(claims[:half] - again[batch - half :])[counted]
        if (worst := float(difference.max(initial=0.0))) > cap_nats:
            channel.send("unsteady", difference=_finite(worst))
        channel.send("rehearsed", predictor=self.name, load_seconds=self.took[0])

    def _load(self, ask: protocol.Ask, shape: tuple[int, ...]) -> np.ndarray:
        """Return the first answer, for which the model is loaded, within its own time limit; raises TooSlow past it."""
        frames.wait(self.answer, protocol.READY, until=self.until)
        left, self.until = self.until - time.monotonic(), time.monotonic() + self.load_s
        try:
            answer = self.request(ask, shape)
        except frames.NoAnswer as fault:
            raise TooSlow(
                f"load_model and the model's first answer took longer than the {self.load_s:.1f} s left for them"
            ) from fault
        self.until = time.monotonic() + left
        return answer

    def request(self, ask: protocol.Ask, shape: tuple[int, ...]) -> np.ndarray:
        """Ask for a float32 array of `shape`; raises FrameError for anything else."""
        number, begun = len(self.took), time.monotonic()
        frames.write(self.ask, protocol.ask_name(number), ask.encode())
        name = protocol.answer_name(number)
        frames.wait(self.answer, name, until=self.until)
        self.took.append(time.monotonic() - begun)
        data = frames.read(self.answer, name, 4 * int(np.prod(shape)))
        (self.ask / protocol.ask_name(number)).unlink()
        return frames.to_array(data, shape, "<f4")

    def check_pace(self) -> None:
        """Raise TooSlow if the first answers were late by more than loading had left: a model may have trained on."""
        loading, *took = self.took
        usual = median(took)
        late = sum(seconds - usual for seconds in took[:EARLY] if seconds > STALL * usual + STALL_S)
        if loading + late > self.load_s:
            message = (
                f"load_model took {loading:.1f} s and the next answers {late:.1f} s more than the usual {usual:.2f} s"
            )
            message += f" each, together more than the {self.load_s:.1f} s left for them"
            raise TooSlow(message)


def _random_tokens(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(prepare.VOCAB_SIZE, size=(rows, width))


def _finite(number: float) -> float | None:
    """Return a number as a message may contain it; None for NaN and infinity."""
    return number if math.isfinite(number) else None


def collect_claims(predictor: Predictor, rows: np.ndarray, counted: np.ndarray, batch: int) -> np.ndarray:
    """Collect claims float32 [N, T] for all rows; refuses impossible probabilities where they count."""
    parts = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ask = protocol.Ask(kind=protocol.CLAIMS, tokens=part, positions=NOWHERE)
        parts.append(predictor.request(ask, (len(part), part.shape[1] - 1)))
    predictor.check_pace()
    claims = np.concatenate(parts)
    if not np.isfinite(claims[counted]).all():
        raise Refused("a claim is not a finite number")
    if (highest := claims[counted].max()) > ROUNDING:
        raise Refused("a claim is a log-probability above 0", detail=f"the highest claim is {highest:.4f} nat")
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
    predictor.check_pace()
    return np.concatenate(asked), np.concatenate(values)


def score(options: argparse.Namespace) -> None:
    """Run the whole protocol and send the score."""
    rows, row_bytes = prepare.load_rows(options.root / "data/val")
    counted = rows[:, 1:] != prepare.BOS_TOKEN_ID
    total_bytes = int(row_bytes.sum())
    print(f"{int(counted.sum())} tokens, {total_bytes} bytes to score on", flush=True)
    load_s = channel.wait_for_training(options.root / "control")
    until = time.monotonic() + options.seconds
    first, second = (
        Predictor(
            name=name,
            ask=options.root / f"ask-{name}",
            answer=options.root / f"answer-{name}",
            until=until,
            load_s=load_s,
        )
        for name in ("a", "b")
    )
    first.begin()
    second.begin()
    first.hash()

    found = first.hello()
    if not found.fresh:
        sys.exit("error: a checkpoint was there before the training: this is a bug, please report it")
    channel.send("checkpoint", sha256=found.digest.hex(), bytes=found.size)
    first.rehearse_twice(options.batch, options.cap)
    claims = collect_claims(first, rows, counted, options.batch)
    claimed_bpb = estimator.bits_per_byte(claims[counted], total_bytes)
    channel.send("claims", sha256=hashlib.sha256(claims.tobytes()).hexdigest(), value=claimed_bpb)

    second.until = first.until
    seed = channel.wait_for_seed(options.root / "control", second.until)
    second.hash()
    if second.hello().digest != found.digest:
        raise Refused("the checkpoint changed between predictor A and predictor B")
    second.rehearse(options.batch)
    k = options.large_k if claimed_bpb < options.keep_below else options.small_k
    positions, audited = audit(second, rows, estimator.draw(counted, k, seed), options.batch)
    thresholds = estimator.Thresholds(cap_nats=options.cap, floor_nats=options.floor)
    claimed = claims[positions[:, 0], positions[:, 1]].astype(np.float64)
    result = estimator.estimate(claims, counted, positions, audited, total_bytes)
    differences = {
        "mean_difference": _finite(result.mean_difference),
        "max_difference": _finite(result.max_difference),
    }
    if reason := estimator.refusal(claimed, audited, thresholds):
        raise Refused(reason, **differences)
    channel.send(
        "score",
        metric=METRIC,
        value=result.bpb,
        level="L2",
        standard_error=result.standard_error,
        noise=NOISE,
        audited_positions=len(positions),
        total_positions=int(counted.sum()),
        undetectable=result.unseen,
        **differences,
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the host's instructions for this one score."""
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
    """Send a score, or why there is none: `refused` (exit 3), `no_answer` or `too_slow` (exit 4)."""
    try:
        score(parse(sys.argv[1:]))
    except TooSlow as fault:
        channel.send("too_slow", reason=str(fault))
        sys.exit(4)
    except frames.NoAnswer as fault:
        channel.send("no_answer", reason=str(fault))
        sys.exit(4)
    except frames.FrameError as fault:
        reason = "an answer is not the plain file of the agreed size that it must be"
        channel.send("refused", reason=reason, detail=str(fault))
        sys.exit(3)
    except Refused as outcome:
        channel.send("refused", reason=str(outcome), detail=outcome.detail, **outcome.figures)
        sys.exit(3)


if __name__ == "__main__":
    main()
