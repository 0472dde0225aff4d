"""The arithmetic of an L2 score: which positions are audited, what they say, when claims are refused. Pure numpy.

Claims are log-probabilities in nats, one per target. Audited values are the same quantity computed by the scorer itself
from a logit vector that was answered to the prefix alone. The score is the difference estimator
`sum(claims) + M * mean(audited - claimed)`: its expectation is the audited truth whatever was claimed.
See docs/scoring.md for the argument.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

UNSEEN = 0.05  # how likely a lie may be overlooked that is told as one that could hide
SIGMAS = 4.0  # a mean difference beyond this many standard errors is no accident


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What honest arithmetic may differ by, in nats, per hardware class (`autoresearch calibrate`)."""

    cap_nats: float  # any single |audited - claimed|
    floor_nats: float  # the mean, on top of SIGMAS standard errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`bpb` and its errors in bits per byte; differences in nats (audited - claimed)."""

    bpb: float
    standard_error: float
    unseen: float  # the largest lie that this audit would have overlooked with the chance UNSEEN
    mean_difference: float
    max_difference: float


def log_softmax_at(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the log-probability in nats, float64 [N], of `targets` [N] under `logits` [N, V]."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(wide, targets[:, None].astype(np.int64), axis=1)[:, 0]
    return chosen - np.log(np.exp(wide).sum(axis=1))


def draw(counted: np.ndarray, k: int, seed: bytes) -> np.ndarray:
    """Draw `k` of the counted positions (bool [N, T]) without replacement: int64 [k, 2] of (row, position)."""
    flat = np.flatnonzero(counted)
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    chosen = generator.choice(flat, size=min(k, flat.size), replace=False)
    return np.stack(np.unravel_index(chosen, counted.shape), axis=1).astype(np.int64)


def rounds(positions: np.ndarray) -> Iterator[np.ndarray]:
    """Order an audit so that no round holds a row twice and each row's prefixes only ever grow.

    A longer prefix would tell the answer to a shorter one of the same row.
    """
    ordered = positions[np.lexsort((positions[:, 1], positions[:, 0]))]
    first_of_row = np.searchsorted(ordered[:, 0], ordered[:, 0])
    turn = np.arange(len(ordered)) - first_of_row
    for number in range(int(turn.max(initial=-1)) + 1):
        yield ordered[turn == number]


def prefix_rows(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Build inputs [n, T] that hold each row up to and with its position, then that prefix repeated.

    The filler is the row's own past: it keeps the shape and cannot tell anything about another row.
    """
    width = rows.shape[1] - 1
    index = np.arange(width)[None, :] % (positions[:, 1] + 1)[:, None]
    return rows[positions[:, 0][:, None], index]


def bits_per_byte(log_probs: np.ndarray, total_bytes: int) -> float:
    """Return bits per byte of raw text from the natural log-probabilities of all its tokens."""
    return float(-log_probs.sum(dtype=np.float64) / math.log(2) / total_bytes)


def refusal(claimed: np.ndarray, audited: np.ndarray, thresholds: Thresholds) -> str:
    """Return why these claims [K] are not credible given the audited values [K]; "" if they are.

    In words without figures: a model that sees validation text could write it into them, for the LLM to read.
    """
    if not np.isfinite(audited).all():
        return "an audited answer is not a finite number"
    difference = audited - claimed
    worst = float(np.abs(difference).max(initial=0.0))
    if worst > thresholds.cap_nats:
        return f"a claim differs from its audit by more than {thresholds.cap_nats:g} nat"
    bound = SIGMAS * _standard_error(difference) + thresholds.floor_nats
    if abs(float(difference.mean())) > bound:
        return f"the claims are more nat off on average than {SIGMAS:g} standard errors and {thresholds.floor_nats:g}"
    return ""


def estimate(
    claims: np.ndarray, counted: np.ndarray, positions: np.ndarray, audited: np.ndarray, total_bytes: int
) -> Estimate:
    """Correct all claims [N, T] by what the audited ones [K] were off on average."""
    per_byte = counted.sum() / math.log(2) / total_bytes
    difference = audited - claims[positions[:, 0], positions[:, 1]].astype(np.float64)
    claimed = bits_per_byte(claims[counted], total_bytes)
    return Estimate(
        bpb=claimed - float(difference.mean()) * per_byte,
        standard_error=_standard_error(difference) * per_byte,
        unseen=_unseen_tokens(len(positions) / counted.sum())
        * max(0.0, -float(audited.min()))
        / math.log(2)
        / total_bytes,
        mean_difference=float(difference.mean()),
        max_difference=float(np.abs(difference).max(initial=0.0)),
    )


def _unseen_tokens(share: float) -> float:
    """Return how many tokens an audit of this share misses with the chance UNSEEN; 3 / share where that is small."""
    return math.floor(math.log(UNSEEN) / math.log1p(-share)) if share < 1 else 0.0


def _standard_error(difference: np.ndarray) -> float:
    return float(difference.std(ddof=1) / math.sqrt(difference.size)) if difference.size > 1 else math.inf
