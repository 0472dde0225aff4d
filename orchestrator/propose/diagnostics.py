"""What a program printed about its own training, as numbers for the prompt. Pure but for reading one log.

Only numbers are taken from it, in the forms that train.py and most training scripts print: `step 120 | loss 3.41`, and
`name: number` lines at the end. They are the program's own words, never judged by.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.scoring.self_reported import parse_figures

READ_BYTES = 32_768  # of the start and of the end of a log
CURVE_POINTS = 10
_STAMP = re.compile(r"^\[ *\d+\.\d+ out\] ", re.MULTILINE)
_STEP = re.compile(
    r"^step\s+(\d{1,9})\b.*?\bloss[ :=]+(-?\d{1,9}(?:\.\d{1,9})?|nan|inf)\b", re.MULTILINE | re.IGNORECASE
)
_STEPS = re.compile(r"^num_steps: +(\d{1,9})$", re.MULTILINE)
_FINAL = re.compile(r"^train_\w{1,20}: +(-?\d{1,9}(?:\.\d{1,9})?|nan|inf)$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """What is known; None where the program did not print it."""

    steps: int | None = None
    tokens_per_second: float | None = None
    startup_s: float | None = None
    curve: tuple[str, ...] = ()  # training loss at evenly spaced printed steps, the last one included
    final: str = ""  # training loss at the end

    def line(self) -> str:
        """Return it as a few words, "" where nothing is known."""
        parts = [
            f"{self.steps:,} steps" if self.steps is not None else "",
            f"{self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second is not None else "",
            f"{self.startup_s:.1f} s start-up" if self.startup_s is not None else "",
            f"train loss {self.curve[-1]}" if self.curve else f"train {self.final}" if self.final else "",
        ]
        return ", ".join(part for part in parts if part)

    def curve_line(self) -> str:
        """Return the curve, "" where there are less than three points."""
        return f"train loss {' → '.join(self.curve)}" if len(self.curve) > 2 else ""  # noqa: PLR2004


@functools.lru_cache(maxsize=1024)
def read_diagnostics(log: Path) -> Diagnostics:
    """Return what the log of a finished training says; nothing where it was cleaned up."""
    try:
        with log.open("rb") as file:
            text = file.read(READ_BYTES)
            if (rest := log.stat().st_size - READ_BYTES) > 0:
                file.seek(max(READ_BYTES, rest))
                text += b"\n" + file.read(READ_BYTES)
    except OSError:
        return Diagnostics()
    return parse_diagnostics(text.decode("utf-8", "replace"))


def parse_diagnostics(text: str) -> Diagnostics:
    """Return the numbers in a log, with or without its time stamps."""
    text = _STAMP.sub("", text)
    figures = parse_figures(text)
    printed = _STEP.findall(text)
    steps = _STEPS.findall(text)
    last = int(steps[-1]) if steps else int(printed[-1][0]) if printed else None
    final = _FINAL.findall(text)
    return Diagnostics(
        steps=last,
        tokens_per_second=figures.get("tokens_per_second"),
        startup_s=figures.get("startup_seconds"),
        curve=tuple(_short(loss) for loss in _spread([loss for _, loss in printed])),
        final=_short(final[-1]) if final else "",
    )


def _spread(values: list[str]) -> list[str]:
    """Return at most CURVE_POINTS of them, evenly spaced, the first and the last among them."""
    if len(values) <= CURVE_POINTS:
        return values
    return [values[round(i * (len(values) - 1) / (CURVE_POINTS - 1))] for i in range(CURVE_POINTS)]


def _short(number: str) -> str:
    value = float(number)
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
