"""How close two patches are, by what they change. Pure.

Numbers within a quarter of each other count as the same, comments do not count: a learning rate tried at 0.03 is not
learned more about at 0.031.
"""

import io
import math
import tokenize

CLOSE = 0.8  # share of the changed pieces that two patches have in common
NUMBER_STEP = math.log(1.25)


def closeness(diff: str, other: str) -> float:
    """From 0, nothing in common, to 1, the same change."""
    one, two = _pieces(diff), _pieces(other)
    return len(one & two) / len(one | two) if one and two else 0.0


def words(diff: str) -> str:
    """The changed lines, to search by."""
    return "\n".join(line[1:] for line in diff.splitlines() if _is_change(line))


def _pieces(diff: str) -> frozenset[tuple[str, str]]:
    """Names, operators and numbers of the changed lines, each with its side."""
    found = set()
    for line in diff.splitlines():
        if _is_change(line):
            found |= {(line[0], piece) for piece in _tokens(line[1:])}
    return frozenset(found)


def _is_change(line: str) -> bool:
    return line[:1] in ("+", "-") and not line.startswith(("+++ ", "--- "))


def _tokens(line: str) -> list[str]:
    pieces: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.NUMBER:
                pieces.append(_bucket(token.string))
            elif token.type in (tokenize.NAME, tokenize.STRING) or (
                token.type == tokenize.OP and token.string not in "()[],:="
            ):
                pieces.append(token.string)
    except (tokenize.TokenError, SyntaxError):  # one line of several: what came before counts
        pass
    return pieces


def _bucket(text: str) -> str:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        return text
    if value <= 0 or not math.isfinite(value):
        return text
    return f"~{round(math.log(value) / NUMBER_STEP)}"
