"""Text that experiments or models made, turned into harmless data for a prompt. Pure."""

import re
from collections.abc import Iterable

from orchestrator.text import sanitise


def head_and_tail(text: str, limit: int) -> str:
    """Return the text sanitised, at most `limit` characters: its head and its tail."""
    if len(text) > 4 * limit:  # before looking at every character
        text = f"{text[: 2 * limit]}\n{text[-2 * limit :]}"
    text = sanitise(text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def line(text: str, limit: int) -> str:
    """Return the text sanitised, on one line, at most `limit` characters."""
    words = " ".join(head_and_tail(text, 4 * limit).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def fence(text: str, limit: int, language: str = "text") -> str:
    """Return the text sanitised, in a fence longer than any in it, so that the text cannot close it."""
    text = head_and_tail(text, limit)
    marks = fence_for(text)
    return f"{marks}{language}\n{text}\n{marks}"


def join_parts(parts: Iterable[tuple[str, float]]) -> str:
    """Return the parts of a score, each with its name."""
    return ", ".join(f"{name} {value:.6g}" for name, value in parts)


def fence_for(text: str) -> str:
    """Return more backticks in a row than the text contains."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
