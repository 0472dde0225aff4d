"""How much a post sounds like the last ones. Pure; standard library only.

Four families of habits are compared with those of the last posts together: sentence lengths, function words,
punctuation and person. The difference of each habit is divided by its standard error, that of a count for a rate per
word. The root mean square of a family is about 1 where the same voice speaks, and grows with the square root of the
length where it does not. A family has 100 points up to SAME and none from OTHER on. The voice has the mean of the four,
but at most 50 more than twice the worst of them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance

from post import Post, find_words

SAME, OTHER = 1.2, 3.5  # root mean square difference, in standard errors
LEAST_COUNT = 2.0  # added to the counts of both sides: a habit seen once is no habit

FUNCTION_WORDS = {
    "articles": "a an the",
    "prepositions": "of in to for with on at from by as into over after under between through against without",
    "conjunctions": "and or but so because if when while than that which who where until since although though",
    "auxiliaries": "is was are were be been am being has have had do does did",
    "modals": "can could will would shall should may might must",
    "negations": "not no never nothing none neither nor don't didn't isn't wasn't can't won't doesn't couldn't",
    "quantities": "all some any each every more most less few many much one two both half only",
    "pointers": "this that these those it its there here then now",
}
PERSONS = {
    "I": "i me my mine myself i'm i've i'd i'll",
    "we": "we us our ours ourselves we're we've we'd we'll let's",
    "you": "you your yours yourself you're you've you'd you'll",
    "others": "he she they him her them his hers their theirs himself herself themselves",
}
PUNCTUATION = {
    "commas": re.compile(","), "semicolons": re.compile(";"), "colons": re.compile(r":(?!\d)"),
    "dashes": re.compile(r"[—–]| - "), "brackets": re.compile(r"\("), "questions": re.compile(r"\?"),
    "exclamations": re.compile("!"), "quotations": re.compile('"'),
}  # fmt: skip


def words_of(text: str) -> frozenset[str]:
    """Return the words of a list."""
    return frozenset(text.split())


WORDS = {name: words_of(text) for name, text in (FUNCTION_WORDS | PERSONS).items()}
FUNCTION = frozenset().union(*(WORDS[name] for name in FUNCTION_WORDS), *(WORDS[name] for name in PERSONS))
FAMILIES = ("sentences", "function words", "punctuation", "person")


@dataclass(frozen=True)
class Voice:
    """Habits, counted."""

    words: int
    lengths: tuple[int, ...]  # of sentences, in words
    letters: int
    counts: dict[str, int]


@dataclass(frozen=True)
class Likeness:
    """How alike two voices are: points of 100, in all and by family, and the habits that differ most."""

    points: float
    families: dict[str, float]
    differences: tuple[tuple[str, float, float, float], ...]  # habit, here, before (per hundred words), standard errors


def hear(posts: Sequence[Post]) -> Voice:
    """Count the habits of posts together."""
    words = [word.lower() for post in posts for word in post.words]
    prose = "\n".join(post.prose for post in posts)
    counts = {name: sum(word in members for word in words) for name, members in WORDS.items()}
    counts |= {name: len(mark.findall(prose)) for name, mark in PUNCTUATION.items()}
    return Voice(
        words=len(words),
        lengths=tuple(len(find_words(sentence)) for post in posts for sentence in post.sentences),
        letters=sum(map(len, words)),
        counts=counts,
    )


def compare(here: Voice, before: Voice) -> Likeness:
    """Return how alike two voices are; both have at least one sentence."""
    rated = {
        "function words": [*FUNCTION_WORDS],
        "punctuation": [*PUNCTUATION],
        "person": [*PERSONS],
    }
    errors = {name: rate_difference(here, before, name) for names in rated.values() for name in names}
    errors |= sentence_differences(here, before)
    families = {"sentences": [*sentence_differences(here, before)]} | rated
    points = {family: to_points([errors[name] for name in names]) for family, names in families.items()}
    worst = sorted((name for name in errors if abs(errors[name]) > 2), key=lambda name: -abs(errors[name]))
    return Likeness(
        points=min(fmean(points.values()), 2 * min(points.values()) + 50),
        families=points,
        differences=tuple((name, *both(here, before, name), errors[name]) for name in worst[:4]),
    )


def rate_difference(here: Voice, before: Voice, name: str) -> float:
    """Return the difference of two rates per word in standard errors."""
    a, b = here.counts[name], before.counts[name]
    common = (a + b + LEAST_COUNT) / (here.words + before.words)
    error = math.sqrt(common * (1 / here.words + 1 / before.words))
    return (a / here.words - b / before.words) / error


def sentence_differences(here: Voice, before: Voice) -> dict[str, float]:
    """Return the differences of the mean sentence length, of its spread, and of word length, in standard errors."""
    spread = math.sqrt(max(pvariance(here.lengths + before.lengths), 1.0))
    n, m = len(here.lengths), len(before.lengths)
    mean_error = spread * math.sqrt(1 / n + 1 / m)
    spread_error = mean_error / math.sqrt(2)
    letters_error = 2.4 * math.sqrt(1 / here.words + 1 / before.words)  # 2.4: spread of English word lengths
    return {
        "sentence length": (fmean(here.lengths) - fmean(before.lengths)) / mean_error,
        "variety of sentence length": (_spread(here) - _spread(before)) / spread_error,
        "word length": (here.letters / here.words - before.letters / before.words) / letters_error,
    }


def to_points(errors: Sequence[float]) -> float:
    """Return the points of one family for the differences of its habits."""
    distance = math.sqrt(fmean(error * error for error in errors))
    return 100 * min(1.0, max(0.0, (OTHER - distance) / (OTHER - SAME)))


def both(here: Voice, before: Voice, name: str) -> tuple[float, float]:
    """Return a habit's size here and before, as a person reads it: per hundred words, or in words or letters."""
    if name == "sentence length":
        return fmean(here.lengths), fmean(before.lengths)
    if name == "variety of sentence length":
        return _spread(here), _spread(before)
    if name == "word length":
        return here.letters / here.words, before.letters / before.words
    return 100 * here.counts[name] / here.words, 100 * before.counts[name] / before.words


def _spread(voice: Voice) -> float:
    return math.sqrt(pvariance(voice.lengths))
