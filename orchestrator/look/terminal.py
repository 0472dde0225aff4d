"""Terminals as people have them: narrow, without UTF-8, without cursor control, or none at all."""

import codecs
import sys
from io import TextIOWrapper

from rich.console import Console

NARROW = 70  # columns; below, tables have fewer columns and text wraps
PLAIN = {
    "→": ">",
    "…": ".",
    "·": "-",
    "─": "-",
    "—": "-",
    "\N{EN DASH}": "-",
    "±": "+",
    "\N{MULTIPLICATION SIGN}": "x",
    "“": '"',
    "”": '"',
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}
PLAIN |= dict(zip("▁▂▃▄▅▆▇█", "__..--==", strict=True))


def is_narrow(console: Console) -> bool:
    """Return whether a console is too narrow for whole tables."""
    return console.width < NARROW


def can_redraw(console: Console) -> bool:
    """Return whether a live view can be drawn: in a terminal whose cursor can be moved."""
    return console.is_terminal and not console.is_dumb_terminal


def make_printable() -> None:
    """Have standard output and error print anything: what their encoding lacks becomes one similar character."""
    codecs.register_error("similar", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="similar")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end
