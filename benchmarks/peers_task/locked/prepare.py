"""The points of the task. Standard library only."""

import json
import math
import os
import random
import time
from pathlib import Path

CHECKPOINT = Path(os.environ.get("CHECKPOINT", "/out/checkpoint.pt"))
TRAIN = Path(os.environ.get("TRAIN", "/data/train/points.json"))
VAL = Path(os.environ.get("VAL", "/nowhere"))  # only where the script under test evaluates itself
SIDES = {"train": 1, "val": 2, "holdout": 3}  # the seed of each
STARTED = float(os.environ.get("AUTORESEARCH_STARTED", time.monotonic()))
TIME_BUDGET = float(os.environ.get("AUTORESEARCH_TIME_BUDGET", "2"))
Points = list[tuple[float, float]]


def make(side: str, count: int = 256) -> Points:
    """Return points [N, 2] around y = 3x - 1."""
    chance = random.Random(SIDES[side])  # noqa: S311  # no secret
    return [(x, 3 * x - 1 + chance.gauss(0, 0.3)) for x in (chance.random() for _ in range(count))]


def load(path: Path = TRAIN) -> Points:
    """Return the points of a file."""
    return [(float(x), float(y)) for x, y in json.loads(path.read_text(encoding="utf-8"))]


def evaluate(line: list[float]) -> float:
    """Return the error of slope and intercept on the validation points, where those are given."""
    slope, intercept = line
    points = load(VAL)
    return math.sqrt(sum((slope * x + intercept - y) ** 2 for x, y in points) / len(points))


def time_left() -> float:
    """Return the seconds of the budget that are left."""
    return STARTED + TIME_BUDGET - time.monotonic()
