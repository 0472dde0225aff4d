"""Anchors: the head of the record, named where the owner of the run's files cannot write: kept commits, a file.

Who owns a run's files can rewrite all of them together, but not these.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import RecordFailed
from orchestrator.events import Event, ExperimentFinished
from orchestrator.logger import log
from orchestrator.record.git_branch import JOURNAL, RUN, branch_refs
from orchestrator.record.journal import Journal
from orchestrator.types import Status


def write_anchor(path: Path, tag: str, first: str, seq: int, head: str) -> None:
    """Append a line that names the head: time, hash of the run's first line, tag, number of lines, hash of the last.

    Raises RecordFailed.
    """
    line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {first} {tag} {seq} {head}\n"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RecordFailed(
            f"{path}: cannot write the anchor: {error.strerror}; fix the permissions, or [recording] anchor"
        ) from error


def anchor_head(path: Path | None, journal: Journal) -> None:
    """Name the head in the file elsewhere, if there is one; a failure costs a log line, not the night."""
    if path is not None:
        try:
            write_anchor(path, journal.folder.name, *journal.span())
        except RecordFailed as error:
            log.warning("anchor.failed", error=str(error))


def find_damage(
    tag: str, hashes: Sequence[str], kept: Sequence[int], repository: Path | None, anchor: Path | None
) -> Iterator[str]:
    """Yield anchors that name a line which is not recorded any more: the run was truncated or rewritten.

    `hashes` are those of all lines; `kept` are the places, from 0, of the lines that end a kept experiment.
    """
    if repository is not None:
        yield from _check_commits(repository, tag, hashes, kept)
    if anchor is not None:
        yield from _check_file(anchor, tag, hashes)


def _check_commits(repository: Path, tag: str, hashes: Sequence[str], kept: Sequence[int]) -> Iterator[str]:
    """Check kept commits of this run, known by its first line; where it kept something and none is found, all."""
    first = hashes[0] if hashes else ""
    usual, own = branch_refs(tag, first)
    commits = _read_trailers(repository, own) or _read_trailers(repository, usual)
    mine = [words for words in commits if words[2] == first]
    if not mine:  # older commits name no run
        waits = not kept or list(kept) == [len(hashes) - 1]  # the first one is committed after it is on record
        mine = [] if waits else [words for words in commits if not words[2]] or commits
    recorded = set(hashes)
    for commit, head, _ in mine:
        if head and head not in recorded:
            yield f"commit {commit}: names a line that is not in the record: {head[:12]}"


def is_keep(event: Event) -> bool:
    """Return whether an event ends a kept experiment."""
    return isinstance(event, ExperimentFinished) and event.experiment.status is Status.KEEP


def _read_trailers(repository: Path, ref: str) -> list[list[str]]:
    """Return for each commit of a branch: its name, the line that it names, and the first line of its run."""
    named = ",".join(f"%(trailers:key={name},valueonly,separator=)" for name in (JOURNAL, RUN))
    done = subprocess.run(  # noqa: S603  # an argv list of ours
        ["git", "-C", str(repository), "log", f"--format=%h,{named}", ref, "--"],  # noqa: S607
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return [line.split(",") for line in done.stdout.splitlines()]


def _check_file(anchor: Path, tag: str, hashes: Sequence[str]) -> Iterator[str]:
    """Check the lines about this run, known by its first line; if that is missing too, by its tag."""
    try:
        lines = anchor.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        yield f"{anchor}: cannot be read: {error.strerror}"
        return
    known, anchored = False, [line.split() for line in lines]
    first = hashes[0] if hashes else ""
    for words in anchored:
        if len(words) != 5 or not words[3].isdigit():  # noqa: PLR2004  # as `write_anchor` writes them
            yield f"{anchor}: not what was written: {' '.join(words)[:80]}"
        elif words[1] == first:
            known = True
            seq, head = int(words[3]), words[4]
            if seq > len(hashes) or hashes[seq - 1] != head:
                yield f"{anchor}: line {seq} of the record is not the one that was anchored: {head[:12]}"
    if not known and any(words[2:3] == [tag] for words in anchored):
        yield f"{anchor}: has a run {tag} that began with another line"
