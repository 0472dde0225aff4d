"""Text that experiments or models made, turned into harmless data for a prompt. Pure."""

import re

from orchestrator.text import sanitise


def head_and_tail(text: str, limit: int) -> str:
    """Sanitised, and `limit` characters of it at most."""
    if len(text) > 4 * limit:  # before looking at every character
        text = f"{text[: 2 * limit]}\n{text[-2 * limit :]}"
    text = sanitise(text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def line(text: str, limit: int) -> str:
    """The same, on one line."""
    words = " ".join(head_and_tail(text, 4 * limit).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def fenced(text: str, limit: int, language: str = "text") -> str:
    """Cleaned and in a fence that the text cannot close, because it is longer than any in it."""
    text = head_and_tail(text, limit)
    fence = fence_for(text)
    return f"{fence}{language}\n{text}\n{fence}"


def fence_for(text: str) -> str:
    """Backticks that do not stand in the text."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
