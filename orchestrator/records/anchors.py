"""Where the head of a run's chain is told besides the run itself: kept commits, and a file elsewhere.

Whoever owns a run's files can rewrite all of them together; not what lies where they cannot write.
"""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog

from orchestrator.config import Config
from orchestrator.errors import RecordFailed
from orchestrator.records.chain import Record
from orchestrator.records.journal import Journal

log = structlog.get_logger()


def write(path: Path, tag: str, first: str, seq: int, head: str) -> None:
    """Append a line that names the head: when, the run by its first record and tag, how many records, the hash."""
    line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {first} {tag} {seq} {head}\n"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        message = f"{path}: the anchor cannot be written: {error.strerror}; mend it, or [record] anchor in task.toml"
        raise RecordFailed(message) from error


def name_head(config: Config, journal: Journal) -> None:
    """Name the head in the file elsewhere, if there is one; that it cannot be written costs a line, not the night."""
    if (path := config.anchor_path) is not None:
        try:
            write(path, config.tag, *journal.span())
        except RecordFailed as error:
            log.warning("anchor.failed", error=str(error))


def findings(tag: str, records: list[Record], repository: Path | None, anchor: Path | None) -> Iterator[str]:
    """Anchors that name a record which is not there any more: a truncated or rewritten run does not hold it."""
    if repository is not None:
        yield from _commits(repository, tag, {one.hash for one in records})
    if anchor is not None:
        yield from _lines(anchor, tag, records)


def _commits(repository: Path, tag: str, hashes: set[str]) -> Iterator[str]:
    done = subprocess.run(  # noqa: S603  # an argv list of ours
        ["git", "-C", str(repository), "log", "--format=%h %(trailers:key=Autoresearch-Journal,valueonly,separator=)",  # noqa: S607
         f"refs/heads/autoresearch/{tag}", "--"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        commit, _, said = line.partition(" ")
        if said and said not in hashes:
            yield f"commit {commit}: names a record that is gone: {said[:12]}"


def _lines(anchor: Path, tag: str, records: list[Record]) -> Iterator[str]:
    """Lines about this run, known by its first record; where that is gone too, by its tag."""
    try:
        lines = anchor.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        yield f"{anchor}: cannot be read: {error.strerror}"
        return
    known, mine = False, [line.split() for line in lines]
    first = records[0].hash if records else ""
    for words in mine:
        if len(words) != 5 or not words[3].isdigit():  # noqa: PLR2004  # as `write` writes them
            yield f"{anchor}: is not what was written: {' '.join(words)[:80]}"
        elif words[1] == first:
            known = True
            seq, head = int(words[3]), words[4]
            if seq > len(records) or records[seq - 1].hash != head:
                yield f"{anchor}: record {seq} is not the one that was anchored: {head[:12]}"
    if not known and any(words[2:3] == [tag] for words in mine):
        yield f"{anchor}: knows a run {tag} that began with another record"
