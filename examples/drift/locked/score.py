"""The scorer: reads the post and the archive of kept posts, and sends one score with its parts.

Only locked code runs here; the post is data. The archive is what came with the task (`first_posts.py`) and what the run
kept (`/kept`), indexed anew each time.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import archive
import channel
import judge
from first_posts import POSTS
from post import FAULTS, MAX_BYTES, Refused
from validate import PatternError

METRIC = "post_score"  # as in task.toml
REASON_CHARS, REASONS_BYTES = 400, 3000  # a message has at most 4,096 bytes


def read_candidate(path: Path) -> bytes:
    """Return the post's bytes, at most one more than are read."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def fit(reasons: Sequence[str]) -> list[str]:
    """Return as many reasons as fit into a message, each cut to its first characters."""
    cut = [reason if len(reason) <= REASON_CHARS else f"{reason[:REASON_CHARS]}…" for reason in reasons]
    while len(json.dumps(cut)) > REASONS_BYTES:
        cut.pop()
    return cut


def score(path: Path, kept: Path) -> None:
    """Judge the post beside the whole archive and send the score. Raises Refused, ArchiveDamaged or PatternError."""
    with archive.open_archive([*POSTS, *archive.read_folder(kept)]) as connection:
        found = judge.judge(read_candidate(path), connection)
    channel.send("score", metric=METRIC, value=found.value, level="L1", parts=found.parts, reasons=fit(found.reasons))


def main() -> None:
    """Send a score, or why there is none (exit 3): `failed` for a mistake, `refused` for what is to deceive.

    A pattern or an archive at fault is no fault of the post: one line on standard error, exit 1.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--kept", type=Path, default=Path("/kept"))
    parser.add_argument("post", type=Path)
    options = parser.parse_known_args()[0]  # --name=value, of which other tasks make use
    try:
        score(options.post, options.kept)
    except Refused as refused:
        channel.send("failed" if refused.name in FAULTS else "refused", reason=str(refused))
        sys.exit(3)
    except (archive.ArchiveDamaged, PatternError) as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
