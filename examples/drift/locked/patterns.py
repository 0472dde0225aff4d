"""The patterns that no post may contain, each with a name, a reason, text that it finds and text that it must not find.

`prose` patterns see the text as it is read, a paragraph per line; `source` patterns see the Markdown without fenced
code. Letter case does not matter unless a pattern says so. Every repeat has an upper bound, so that the time is linear
in the length of the post: `validate.py` refuses a pattern that is not of this kind, or is slow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cliches import CLICHES
from filler import FILLER
from formats import FORMATS, PROSE_FORMATS
from hedges import HEDGES
from transitions import TRANSITIONS


@dataclass(frozen=True)
class Pattern:
    """One thing not to write."""

    name: str
    kind: str
    regex: str
    reason: str
    finds: str
    spares: str
    scope: str = "prose"  # or source


def _of(kind: str, rows: Sequence[tuple[str, str, str, str, str]], scope: str = "prose") -> Iterator[Pattern]:
    for name, regex, reason, finds, spares in rows:
        yield Pattern(name=name, kind=kind, regex=regex, reason=reason, finds=finds, spares=spares, scope=scope)


PATTERNS = (
    *_of("filler", FILLER),
    *_of("cliché", CLICHES),
    *_of("hedge", HEDGES),
    *_of("transition", TRANSITIONS),
    *_of("format", PROSE_FORMATS),
    *_of("format", FORMATS, "source"),
)
