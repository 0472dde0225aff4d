"""How close two patches are, by what they change. Pure.

Numbers within a tenth of each other count as equal, comments do not count: after a learning rate of 0.03, 0.031 would
teach nothing.
"""

import io
import math
import tokenize
from collections.abc import Iterator

CLOSE = 0.8  # share of the changed pieces that two patches have in common
SAME_NUMBER = 1.1
_MEANINGLESS = "()[],:="

Piece = tuple[str, str | float]  # which side of the diff, and a name, operator, text or number


def compare(diff: str, other: str) -> float:
    """Return the similarity of two diffs, from 0 (nothing in common) to 1 (the same change)."""
    first = frozenset(_pieces(diff))
    numbers = [piece for piece in first if isinstance(piece[1], float)]
    second = frozenset(next((known for known in numbers if _same(known, piece)), piece) for piece in _pieces(other))
    return len(first & second) / len(first | second) if first and second else 0.0


def words(diff: str) -> str:
    """Return the changed lines of a diff, as a search query."""
    return "\n".join(line[1:] for line in diff.splitlines() if _is_change(line))


def _same(one: Piece, two: Piece) -> bool:
    """Return True for two nearly equal numbers on the same side of the diff."""
    if one[0] != two[0] or not isinstance(one[1], float) or not isinstance(two[1], float):
        return False
    low, high = sorted((one[1], two[1]))
    return low == high or 0 < high <= low * SAME_NUMBER


def _pieces(diff: str) -> Iterator[Piece]:
    for line in diff.splitlines():
        if _is_change(line):
            for piece in _tokens(line[1:]):
                yield line[0], piece


def _is_change(line: str) -> bool:
    return line[:1] in ("+", "-") and not line.startswith(("+++ ", "--- "))


def _tokens(line: str) -> list[str | float]:
    pieces: list[str | float] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.NUMBER:
                pieces.append(_number(token.string))
            elif token.type in (tokenize.NAME, tokenize.STRING, tokenize.OP) and token.string not in _MEANINGLESS:
                pieces.append(token.string)
    except (tokenize.TokenError, SyntaxError):  # one line of several: what came before counts
        pass
    return pieces


def _number(text: str) -> str | float:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        return text
    return value if math.isfinite(value) else text
