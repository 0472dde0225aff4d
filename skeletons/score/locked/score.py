"""The scorer: reads the mutable file as data and sends one score with its parts, or what is wrong with the file."""

import json
import math
import sys
from pathlib import Path

import channel

TARGET = {"x": 1.0, "y": -2.0}


class Unusable(Exception):
    """What the file lacks, for the LLM."""


def read(path: Path) -> dict[str, float]:
    """Return the numbers of the file. Raises Unusable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Unusable("the file is not JSON in UTF-8") from error
    if not isinstance(found, dict) or set(found) != set(TARGET):
        raise Unusable(f"the file must be an object with the keys {', '.join(TARGET)}")
    for name, value in found.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise Unusable(f"{name} must be a finite number")
    return found


def main() -> None:
    """Send a score, or why there is none."""
    try:
        found = read(Path(sys.argv[-1]))  # the mutable file's path is the last argument
    except Unusable as why:
        channel.send("failed", reason=str(why))
        return
    parts = {name: abs(found[name] - TARGET[name]) for name in TARGET}
    reasons = [f"{name} is off by {part:g}" for name, part in parts.items() if part > 0]
    channel.send(
        "score", metric="distance", value=math.hypot(*parts.values()), level="L1", parts=parts, reasons=reasons
    )


if __name__ == "__main__":
    main()
