"""The routine that is made faster: what it is asked, how questions and answers look as bytes, what is a right answer.

For each of Q queries, the distance to the nearest of N points in D dimensions, all float64. Used by the scorer, and by
the programs that hold the reference and the candidate.
"""

import struct
from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-9  # of an answer; coordinates are of size 1, and no query is nearer to a point than 1e-4
POINTS, QUERIES, DIMENSIONS = (1200, 1600), (250, 350), (6, 10)  # from, up to
KINDS = ("uniform", "clustered", "line", "sorted", "near", "few")
HEADER = struct.Struct("<III")


@dataclass(frozen=True)
class Question:
    """Points float64 [N, D] and queries float64 [Q, D], both read-only."""

    points: np.ndarray
    queries: np.ndarray

    @property
    def answer_bytes(self) -> int:
        """Return the size of an answer: float64 [Q]."""
        return 8 * len(self.queries)


def draw(chance: np.random.Generator, kind: str = "uniform") -> Question:
    """Return a new question of a kind; `few` has one to five points, the sizes of the others vary by a third."""
    count, queries, dimensions = (int(chance.integers(*bounds)) for bounds in (POINTS, QUERIES, DIMENSIONS))
    if kind == "few":
        count = int(chance.integers(1, 6))
    points = chance.uniform(-1, 1, (count, dimensions))
    asked = chance.uniform(-1, 1, (queries, dimensions))
    if kind == "clustered":
        points = points[:8][chance.integers(8, size=count)] + chance.normal(0, 0.01, points.shape)
    if kind == "line":
        points = points[:1] * np.linspace(-1, 1, count)[:, None]
    if kind == "sorted":
        points = points[np.argsort(points[:, 0])]
    if kind == "near":
        away = chance.normal(0, 1, asked.shape)
        away *= 10 ** chance.uniform(-3, -2, (queries, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
        asked = points[chance.integers(count, size=queries)] + away
    points.flags.writeable = asked.flags.writeable = False
    return Question(points=points, queries=asked)


def encode(question: Question) -> bytes:
    """Return a question as bytes: N, Q and D, then points and queries."""
    (count, dimensions), queries = question.points.shape, len(question.queries)
    values = (question.points.astype("<f8").tobytes(), question.queries.astype("<f8").tobytes())
    return b"".join((HEADER.pack(count, queries, dimensions), *values))


def decode(data: bytes) -> Question:
    """Return the question in bytes that `encode` made; its arrays are read-only."""
    count, queries, dimensions = HEADER.unpack_from(data)
    values = np.frombuffer(data, "<f8", offset=HEADER.size)
    split = count * dimensions
    return Question(
        points=values[:split].reshape(count, dimensions), queries=values[split:].reshape(queries, dimensions)
    )


def find_fault(answer: bytes, expected: bytes) -> str:
    """Return what is wrong with an answer beside the reference's, without a value of it; "" if nothing."""
    got, wanted = np.frombuffer(answer, "<f8"), np.frombuffer(expected, "<f8")
    if not np.isfinite(got).all():
        return "a distance is not a finite number"
    return f"a distance is off by more than {TOLERANCE:g}" if (np.abs(got - wanted) > TOLERANCE).any() else ""
