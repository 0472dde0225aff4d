"""What a train.py says of its own run: recorded and shown as its own words, never believed, never judged by. Pure."""

import re
from collections.abc import Mapping

UNITS = {
    "startup_seconds": "s of start-up", "compile_seconds": "s of compiling", "training_seconds": "s of training",
    "tokens_per_second": "tokens/s", "mfu_percent": "% MFU", "peak_vram_mb": "MB of GPU memory",
}  # fmt: skip
_LINE = re.compile(r"^(\w+): +(\d{1,15}(?:\.\d{0,15})?)$", re.MULTILINE)


def parse_figures(output: str) -> dict[str, float]:
    """The figures of UNITS in the summary at the end of its output, the last of each."""
    return {name: float(text) for name, text in _LINE.findall(output) if name in UNITS}


def describe_figures(figures: Mapping[str, object]) -> str:
    """In one line; "" if it said nothing. What a damaged record has instead of a number is left out."""
    known = [(figures.get(name), unit) for name, unit in UNITS.items()]
    return ", ".join(f"{value:,.10g} {unit}" for value, unit in known if isinstance(value, (int, float)))
