"""What the programs that drive a peer share: the candidates, and how they report. Standard library only."""

import json
import os
import sys
import time
from pathlib import Path


def work() -> Path:
    """Return the folder of this peer's run."""
    return Path(os.environ["PEER_WORK"])


def candidates() -> list[tuple[str, str]]:
    """Return name and source of each candidate in order: the baseline, the null patches, the cheat."""
    return [(path.stem, path.read_text(encoding="utf-8")) for path in sorted(Path(work(), "candidates").glob("*.py"))]


def validation() -> tuple[list[float], list[float]]:
    """Return x and y of the validation points."""
    points = json.loads(Path(os.environ["POINTS"]).read_text(encoding="utf-8"))
    return [x for x, _ in points], [y for _, y in points]


class Report:
    """Prints what happened, as one JSON object at the end."""

    def __init__(self) -> None:
        self.cycles: list[dict[str, object]] = []
        self.notes: list[str] = []
        self.began: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Note when a candidate's cycle began."""
        self.began[name] = time.time()

    def end(self, name: str, score: float | None, *, kept: bool | None, seconds: float | None = None) -> None:
        """Note what came of a candidate; `kept` is None where the peer has no such rule."""
        taken = time.time() - self.began[name] if name in self.began else seconds
        self.cycles.append({"name": name, "score": score, "kept": kept, "seconds": taken})

    def finish(self) -> None:
        """Print it."""
        sys.stdout.flush()
        print("\nREPORT " + json.dumps({"cycles": self.cycles, "notes": self.notes}), flush=True)
