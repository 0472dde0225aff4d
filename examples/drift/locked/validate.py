"""Finds the named patterns in a post, within a bound on time. Pure but for the timer; standard library only.

A pattern is refused before use if it does not compile, if its name was given before, or if the number of ways in which
it may match at one place has no small bound: with that bound the time is linear in the length of the text. Should a
pattern be slow all the same, a timer of processor time ends it and names it.
"""

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from re import _constants as sre  # what the standard library offers to look into a pattern
from re import _parser as sre_parser
from types import FrameType
from typing import Any

from patterns import Pattern
from post import Post

MAX_WAYS = 2000  # in which a pattern may go on from one place
MAX_REPEAT = 500
SECONDS = 0.5  # of processor time, for one pattern on one post
QUOTE_CHARS = 60
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)


class PatternError(Exception):
    """A pattern that cannot be used: its name, what is wrong and how to mend it."""


@dataclass(frozen=True)
class Hit:
    """A pattern that was found, and where."""

    name: str
    kind: str
    reason: str
    quote: str

    def __str__(self) -> str:
        return f'{self.name} ({self.kind}): "{self.quote}": {self.reason}'


def compile_patterns(patterns: Sequence[Pattern]) -> list[tuple[Pattern, re.Pattern[str]]]:
    """Return the patterns with their compiled form. Raises PatternError."""
    names: set[str] = set()
    compiled = []
    for pattern in patterns:
        if pattern.name in names:
            raise PatternError(f"pattern {pattern.name!r}: two patterns have this name; rename one")
        names.add(pattern.name)
        compiled.append((pattern, compile_pattern(pattern)))
    return compiled


def compile_pattern(pattern: Pattern) -> re.Pattern[str]:
    """Return the compiled form of a pattern. Raises PatternError if it is none, or may take more than linear time."""
    try:
        compiled = re.compile(pattern.regex, re.IGNORECASE)
        ways = count_ways(sre_parser.parse(pattern.regex, re.IGNORECASE))
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternError(f"pattern {pattern.name!r}: {pattern.regex!r} does not compile: {error}") from error
    except ValueError as error:
        raise PatternError(f"pattern {pattern.name!r}: {error}") from error
    if ways > MAX_WAYS:
        raise PatternError(
            f"pattern {pattern.name!r} may match in {ways} ways at one place, at most {MAX_WAYS} are taken;"
            " make repeats shorter or possessive, or fewer of them"
        )
    return compiled


def count_ways(parsed: Sequence[tuple[object, object]]) -> int:
    """Return in how many ways a parsed pattern may match at one place, at most. Raises ValueError if without bound."""
    ways = 1
    for operation, argument in parsed:
        ways = min(ways * _ways_of(operation, argument), 10**9)
    return ways


def find_hits(post: Post, compiled: Sequence[tuple[Pattern, re.Pattern[str]]]) -> list[Hit]:
    """Return the first place of every pattern that a post contains. Raises PatternError for a slow one."""
    title = f"{post.title}\n"
    texts = {"prose": title + post.prose, "source": post.source}
    return [hit for pattern, regex in compiled if (hit := _find(pattern, regex, texts[pattern.scope]))]


def _find(pattern: Pattern, regex: re.Pattern[str], text: str) -> Hit | None:
    try:
        with time_limit(SECONDS):
            found = _search(pattern, regex, text)
    except TimeoutError:
        raise PatternError(
            f"pattern {pattern.name!r} took more than {SECONDS:g} s on one post; make its repeats shorter"
        ) from None
    if not found:
        return None
    quote = " ".join(found.split())[:QUOTE_CHARS]
    return Hit(name=pattern.name, kind=pattern.kind, reason=pattern.reason, quote=quote)


def _search(pattern: Pattern, regex: re.Pattern[str], text: str) -> str | None:
    """Return the text that a pattern finds: prose paragraph by paragraph, Markdown as a whole."""
    for part in text.split("\n") if pattern.scope == "prose" else [text]:
        if found := regex.search(part):
            return found.group() or " "
    return None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread when the block has used more processor time than this."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _ways_of(operation: object, argument: Any) -> int:  # noqa: ANN401 - the parser's own tuples
    if operation in REPEATS:
        return _ways_of_repeat(*argument, possessive=operation is sre.POSSESSIVE_REPEAT)
    if operation in (sre.GROUPREF, sre.GROUPREF_EXISTS):
        raise ValueError("a reference to an earlier group, which has no bound; write it out")
    if operation is sre.BRANCH:
        return sum(count_ways(part) for part in argument[1])
    if operation is sre.SUBPATTERN:
        return count_ways(argument[3])
    if operation in (sre.ATOMIC_GROUP, sre.ASSERT, sre.ASSERT_NOT):  # once left, never tried in another way
        count_ways(argument if operation is sre.ATOMIC_GROUP else argument[1])
    return 1


def _ways_of_repeat(low: int, high: int, part: Sequence[tuple[object, object]], *, possessive: bool) -> int:
    if high > MAX_REPEAT:  # as is the parser's sign for no bound
        raise ValueError(f"a repeat without a bound, or with one above {MAX_REPEAT}; write {{0,80}} in place of *")
    inner = count_ways(part)
    if possessive:
        return 1
    return high - low + 1 if inner == 1 else sum(inner**times for times in range(low, high + 1))
