"""From a post and an archive to one score with its parts, and what to mend. Deterministic; standard library only.

The score is the weakest part, so no part buys another. Each part has 0 to 100 points:

clean      100, less 35 for each named pattern that is found (`patterns.py`)
voice      how much it sounds like the last three posts (`voice.py`)
substance  claims, numbers, names and links per hundred words (`substance.py`)
fresh      100 while the nearest archived post covers up to a quarter of the topic, none from three quarters on
           (`archive.py`)
"""

import sqlite3
from dataclasses import dataclass

import archive
import substance
import voice
from patterns import PATTERNS
from post import Post, Refused, read_post
from validate import compile_patterns, find_hits

LAST = 3
POINTS_PER_HIT = 35.0
FREE_OVERLAP, FULL_OVERLAP = 0.25, 0.75
MAX_COPIED = 0.2  # of the runs of four words; two honest posts share about one in a hundred
MOST_REASONS = 8


@dataclass(frozen=True)
class Judgement:
    """A score from 0 to 100, its parts, and what to mend, the weakest part first."""

    value: float
    parts: dict[str, float]
    reasons: tuple[str, ...]


def judge(data: bytes, connection: sqlite3.Connection) -> Judgement:
    """Return the judgement of a file beside an archive. Raises Refused, or PatternError for a pattern of ours."""
    post = read_post(data)
    substance.refuse_stuffing(post)
    copied, original = archive.find_copy(connection, post)
    if copied > MAX_COPIED:
        raise Refused("copy", f"{copied:.0%} of its runs of four words stand in the archived post {original!r}")
    judged = {
        "clean": _judge_patterns(post),
        "voice": _judge_voice(post, archive.last_posts(connection, LAST)),
        "substance": _judge_substance(post),
        "fresh": _judge_topic(post, connection),
    }
    parts = {name: round(points, 6) for name, (points, _) in judged.items()}
    weakest_first = sorted(parts, key=lambda name: parts[name])
    reasons = [reason for name in weakest_first for reason in judged[name][1]]
    return Judgement(value=min(parts.values()), parts=parts, reasons=tuple(reasons[:MOST_REASONS]))


def _judge_patterns(post: Post) -> tuple[float, list[str]]:
    hits = find_hits(post, compile_patterns(PATTERNS))
    return max(0.0, 100 - POINTS_PER_HIT * len(hits)), [str(hit) for hit in hits]


def _judge_voice(post: Post, last: list[Post]) -> tuple[float, list[str]]:
    if not last:
        return 100.0, []
    likeness = voice.compare(voice.hear([post]), voice.hear(last))
    if likeness.points >= 100:
        return likeness.points, []
    differences = ", ".join(f"{name} {here:.1f}, before {before:.1f}" for name, here, before, _ in likeness.differences)
    families = ", ".join(f"{name} {points:.0f}" for name, points in likeness.families.items())
    reason = f"voice {likeness.points:.0f}: {families}; what differs from the last {len(last)} posts"
    return likeness.points, [f"{reason} most, per hundred words or by mean: {differences or 'nothing alone'}"]


def _judge_substance(post: Post) -> tuple[float, list[str]]:
    found = substance.weigh(post)
    low = [
        f"{name} {rate:.1f} (full marks from {substance.ENOUGH[name]:g})"
        for name, rate in found.rates.items()
        if rate < substance.ENOUGH[name]
    ]
    return found.points, [f"substance {found.points:.0f}, per hundred words: {', '.join(low)}"] if low else []


def _judge_topic(post: Post, connection: sqlite3.Connection) -> tuple[float, list[str]]:
    overlap, nearest = archive.find_overlap(connection, post)
    points = 100 * min(1.0, max(0.0, (FULL_OVERLAP - overlap) / (FULL_OVERLAP - FREE_OVERLAP)))
    return points, [f"fresh {points:.0f}: {nearest!r} covers {overlap:.0%} of the topic"] if points < 100 else []
