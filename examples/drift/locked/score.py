"""The scorer: reads the post and the archive of kept posts, and sends one score with its parts.

Only locked code runs here; the post is data. The archive is what came with the task (`first_posts.py`) and what the run
kept (`/kept`), indexed anew each time.
"""

import argparse
import sys
from pathlib import Path

import archive
import channel
import judge
from first_posts import POSTS
from post import MAX_BYTES, Refused
from validate import PatternError

METRIC = "post_score"  # as in task.toml


def read_candidate(path: Path) -> bytes:
    """Return the post's bytes, at most one more than are read."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def score(root: Path) -> None:
    """Judge the post beside the whole archive and send the score. Raises Refused, ArchiveDamaged or PatternError."""
    kept = [*POSTS, *archive.read_folder(root / "kept")]
    with archive.open_archive(kept) as connection:
        found = judge.judge(read_candidate(root / "mutable" / "post.md"), connection)
    channel.send(
        "score", metric=METRIC, value=found.value, level="L1", parts=found.parts, reason="\n".join(found.reasons)
    )


def main() -> None:
    """Send a score, or why the post is refused (exit 3); fail with one line if a pattern or the archive is at fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"))
    options = parser.parse_known_args()[0]
    try:
        score(options.root)
    except Refused as refused:
        channel.send("refused", reason=str(refused))
        sys.exit(3)
    except (archive.ArchiveDamaged, PatternError) as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
