"""Untrusted text made harmless: what a program printed is shown, never obeyed. Pure."""

import re
import unicodedata

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|[\x1b\x9b]\[?[0-?]*[ -/]*[@-~]"  # CSI and two-character escapes
)
_KEPT = {"\n", "\t"}


def counted(number: int, noun: str) -> str:
    """Format a count with its noun: `1 experiment`, `2 experiments`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def describe_metric(metric: str, unit: str, direction: str) -> str:
    """Return what a score is called, in what it is, and which scores are better."""
    return f"{metric}{f' in {unit}' if unit else ''}, {direction} is better"


def sanitise(text: str, limit: int | None = None) -> str:
    """Drop escape sequences, control, bidi and invisible characters; cut to `limit` characters with a mark."""
    clean = _ESCAPES.sub(
        "", text if limit is None else text[: 4 * limit]
    )  # text far beyond the limit is dropped unread
    if not clean.isprintable():  # most lines are
        clean = "".join(
            c for c in clean if c in _KEPT or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        )
    return clean if limit is None or len(clean) <= limit else clean[: limit - 1] + "…"
