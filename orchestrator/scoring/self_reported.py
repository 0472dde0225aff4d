"""What a train.py says of its own run: recorded and shown as its own words, never believed, never judged by. Pure.

The exception is level L0, where an unmodified upstream script is asked for nothing else than its own number.
"""

import math
import re
from collections.abc import Mapping

from orchestrator.types import Level, Score

UNITS = {
    "startup_seconds": "s of start-up", "compile_seconds": "s of compiling", "training_seconds": "s of training",
    "tokens_per_second": "tokens/s", "mfu_percent": "% MFU", "peak_vram_mb": "MB of GPU memory",
}  # fmt: skip
_LINE = re.compile(r"^(\w+): +(\d{1,15}(?:\.\d{0,15})?)$", re.MULTILINE)

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def parse_reported(output: str, metric: str) -> Score | None:
    """Return the number that a script says it reached, at L0: its last `metric: number` line, as upstream prints it."""
    values = re.findall(rf"^{re.escape(metric)}:[ \t]+(\S+)[ \t]*$", output, re.MULTILINE)
    if not values or not _NUMBER.fullmatch(values[-1]):
        return None
    number = float(values[-1])
    return Score(value=number, level=Level.L0) if 0 < number < math.inf else None


def parse_figures(output: str) -> dict[str, float]:
    """Parse the figures of UNITS in the summary at the end of the output, the last of each."""
    return {name: float(text) for name, text in _LINE.findall(output) if name in UNITS}


def describe_figures(figures: Mapping[str, object]) -> str:
    """Format the figures in one line; "" if none. Values of a damaged record that are not numbers are left out."""
    known = [(figures.get(name), unit) for name, unit in UNITS.items()]
    return ", ".join(f"{value:,.10g} {unit}" for value, unit in known if isinstance(value, (int, float)))
