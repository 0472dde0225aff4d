"""Is a run's record intact: the chain, its mirror, the files of every experiment, and the anchors in git.

Everything is derived again from what is on disk; each finding names the record or file that is not what it was.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import JournalError
from orchestrator.journal import GENESIS, Journal, Record, canonical


def findings(folder: Path, repository: Path | None = None) -> Iterator[str]:
    """Every place where the record in `folder` is not what was written; nothing if it is intact."""
    try:
        with Journal.read(folder) as journal:
            records = list(journal.records())
            projected = {e.id: canonical(Journal.as_json(e) | {"commit": ""}) for e in journal.experiments()}
            open_ids = [record.experiment_id for record in journal.unfinished()]
    except (JournalError, ValueError, KeyError, TypeError) as error:
        yield f"journal.db: {error}"
        return
    yield from _chain(records)
    yield from _mirror(folder / "record.jsonl", records)
    yield from _files(folder, records)
    yield from _projection(records, projected)
    if repository is not None:
        yield from _anchors(repository, folder.name, records)
    yield from (f"experiment {number}: began and has no end" for number in open_ids)


def _chain(records: list[Record]) -> Iterator[str]:
    previous = GENESIS
    for number, record in enumerate(records, start=1):
        where = f"record {number} ({record.kind}, experiment {record.experiment_id})"
        try:
            said = json.loads(record.line)
        except ValueError:
            yield f"{where}: is no JSON"
            return
        if hashlib.sha256(record.line.encode()).hexdigest() != record.hash or canonical(said) != record.line:
            yield f"{where}: is not what was written"
        columns = (said.get("seq"), said.get("kind"), said.get("experiment_id"))
        if (record.seq, record.kind, record.experiment_id) != columns or record.seq != number:
            yield f"{where}: is out of its place"
        if said.get("previous") != previous:
            yield f"{where}: does not follow the record before it"
        previous = record.hash


def _mirror(path: Path, records: list[Record]) -> Iterator[str]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        yield f"{path.name}: cannot be read: {error.strerror}"
        return
    if lines.pop() != b"":
        yield f"{path.name}: ends in the middle of a line"
    for number, record in enumerate(records, start=1):
        if number > len(lines):
            yield f"{path.name}: record {number} and later ones are missing"
            return
        if lines[number - 1] != record.line.encode():
            yield f"{path.name}: line {number} differs from record {number}"
    if len(lines) > len(records):
        yield f"{path.name}: {len(lines) - len(records)} lines more than records"


def _files(folder: Path, records: list[Record]) -> Iterator[str]:
    """The last word of the records on every file is what the file must be."""
    for record in records:
        if record.kind != "experiment.finished":
            continue
        home = folder / f"{record.experiment_id:04d}"
        said = record.body.get("files", {})
        for name, expected in said.items():
            path = home / name
            try:
                found = hashlib.sha256(path.read_bytes()).hexdigest() if not path.is_symlink() else "a link"
            except OSError:
                found = "missing"
            if found != expected:
                state = found if found in ("a link", "missing") else "not what was written"
                yield f"record {record.seq}: {home.name}/{name} is {state}"
        there = {
            path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_symlink() or not path.is_dir()
        }
        yield from (f"record {record.seq}: {home.name}/{name} was added" for name in sorted(there - said.keys()))


def _projection(records: list[Record], projected: dict[int, str]) -> Iterator[str]:
    finished = {
        record.experiment_id: canonical(record.body["experiment"] | {"commit": ""})
        for record in records
        if record.kind == "experiment.finished"
    }
    for number in sorted({*finished, *projected} - {None}, key=int):  # type: ignore[arg-type]
        if finished.get(number) != projected.get(number or 0):
            yield f"experiment {number}: the table of experiments does not say what its record says"


def _anchors(repository: Path, tag: str, records: list[Record]) -> Iterator[str]:
    """Kept commits name the head of the chain as it was: a truncated or rewritten record does not hold it."""
    done = subprocess.run(  # noqa: S603  # an argv list of ours
        ["git", "-C", str(repository), "log", "--format=%h %(trailers:key=Autoresearch-Journal,valueonly,separator=)",  # noqa: S607
         f"refs/heads/autoresearch/{tag}", "--"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    hashes = {record.hash for record in records}
    for line in done.stdout.splitlines():
        commit, _, anchor = line.partition(" ")
        if anchor and anchor not in hashes:
            yield f"commit {commit}: names a record that is gone: {anchor[:12]}"
