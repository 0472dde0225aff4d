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
from orchestrator.record.chain import Record
from orchestrator.record.git_branch import JOURNAL, RUN, branch_refs
from orchestrator.record.journal import Journal

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
        raise RecordFailed(
            f"{path}: the anchor cannot be written: {error.strerror}; change the permissions, or"
            " [recording] anchor in task.toml"
        ) from error


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
        yield from _commits(repository, tag, records)
    if anchor is not None:
        yield from _lines(anchor, tag, records)


def _commits(repository: Path, tag: str, records: list[Record]) -> Iterator[str]:
    """Kept commits of this run, known by its first record; where it kept something and none is, all that are there."""
    first = records[0].hash if records else ""
    usual, own = branch_refs(tag, first)
    said = _said(repository, own) or _said(repository, usual)
    mine = [words for words in said if words[2] == first]
    if not mine:  # older commits name no run
        kept = [one for one in records if one.kind == "experiment.finished" and '"status":"keep"' in one.line]
        waits = not kept or kept == records[-1:]  # the first one is committed after it is on record
        mine = [] if waits else [words for words in said if not words[2]] or said
    hashes = {one.hash for one in records}
    for commit, head, _ in mine:
        if head and head not in hashes:
            yield f"commit {commit}: names a record that is gone: {head[:12]}"


def _said(repository: Path, ref: str) -> list[list[str]]:
    """Of each commit of a branch: its name, the record it names, and the first record of its run."""
    named = ",".join(f"%(trailers:key={name},valueonly,separator=)" for name in (JOURNAL, RUN))
    done = subprocess.run(  # noqa: S603  # an argv list of ours
        ["git", "-C", str(repository), "log", f"--format=%h,{named}", ref, "--"],  # noqa: S607
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return [line.split(",") for line in done.stdout.splitlines()]


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
