"""What the proposer is shown besides the post that was kept last: the last three posts whole, and all titles."""

import argparse
from pathlib import Path

import archive
from first_posts import POSTS
from judge import LAST


def brief(root: Path) -> str:
    """Return the brief as Markdown. Raises ArchiveDamaged."""
    kept = [*POSTS, *archive.read_folder(root / "kept")]
    with archive.open_archive(kept) as connection:
        known = "\n".join(f"- {title}" for title in archive.titles(connection))
    last = "\n\n".join(data.decode().strip() for _, data in kept[-LAST:])
    head = f"The archive has {len(kept)} posts, oldest first:\n\n{known}"
    return f"{head}\n\nThe last {LAST}, whose voice counts:\n\n{last}\n"


def main() -> None:
    """Print the brief."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("/"))
    print(brief(parser.parse_known_args()[0].root))


if __name__ == "__main__":
    main()
