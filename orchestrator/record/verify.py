"""Is a run's record intact: the chain, its mirror, the files of every experiment, the seal, and the anchors.

Everything is derived again from what is on disk; each finding names the record or file that is not what it was.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.errors import AutoresearchError, JournalError
from orchestrator.record import anchors, experiment_dir, index, seal, session_log
from orchestrator.record.chain import GENESIS, Record
from orchestrator.record.index import Row, canonical
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment

MIRROR = "record.jsonl"
BROKEN = (AutoresearchError, ValueError, KeyError, TypeError, AttributeError, OSError)


def findings(folder: Path, repository: Path | None = None, anchor: Path | None = None) -> Iterator[str]:
    """Every place where the record in `folder` is not what was written; nothing if it is intact.

    What a session is writing right now is not held against it. `anchor` is a file elsewhere that names heads.
    """
    live = is_live(folder)
    lines, broken = _lines(folder / MIRROR)
    try:
        with Journal.read(folder) as journal:
            if problem := journal.damage():
                yield f"journal.db: {problem}"
            records, experiments = list(journal.records()), journal.experiments()
            rows = journal.projected()
    except BROKEN as error:
        yield f"journal.db: {error}"
        records, experiments, rows = _from_mirror(lines), None, None
    checks: list[Callable[[], Iterable[str]]] = [
        lambda: broken,
        lambda: _chain(records),
        lambda: _mirror(lines, records, live=live),
        lambda: _files(folder, records),
        lambda: _confirmed(folder, records),
        lambda: _seeds(records),
        lambda: [] if rows is None else _projection(records, rows),
        lambda: [] if experiments is None or live else _results(folder, experiments),
        lambda: session_log.findings(folder / session_log.NAME, {one.hash for one in records}),
        lambda: seal.findings(folder, records[-1].hash if records else GENESIS),
        lambda: anchors.findings(folder.name, records, repository, anchor),
        lambda: _ends(folder, records, live=live),
    ]
    for check in checks:
        try:
            yield from check()
        except BROKEN as error:  # what is broken was named above, or is by this
            yield f"the record cannot be followed: {error}"


def recorded_in(folder: Path) -> list[Path]:
    """Every run in a folder, or the folder itself if it is one. Raises JournalError if there is none."""
    runs = [folder, *sorted(folder.glob("*/"))]
    found = [one for one in runs if any((one / name).exists() for name in ("journal.db", MIRROR, seal.NAME))]
    if not found:
        raise JournalError(
            f"{folder}: no runs recorded here; start one with `autoresearch loop`, or name another folder"
            " with --runs FOLDER"
        )
    return found


def is_live(folder: Path) -> bool:
    """Whether a session is writing this run."""
    try:
        file = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _name(one: Record) -> str:
    return f"record {one.seq} ({one.kind}, experiment {one.experiment_id})"


def _chain(records: list[Record]) -> Iterator[str]:
    previous = GENESIS
    for number, one in enumerate(records, start=1):
        said = _parsed(one.line)
        if hashlib.sha256(one.line.encode()).hexdigest() != one.hash or canonical(said) != one.line:
            yield f"{_name(one)}: is not what was written"
        elif (one.seq, one.kind, one.experiment_id) != tuple(said.get(k) for k in ("seq", "kind", "experiment_id")):
            yield f"{_name(one)}: its columns do not say what it says"
        if one.seq != number:
            yield f"{_name(one)}: is out of its place, {number}"
        if said and said.get("previous") != previous:
            yield f"{_name(one)}: does not follow the record before it"
        previous = one.hash


def _lines(path: Path) -> tuple[list[bytes], list[str]]:
    """The mirror's lines, and what is wrong with them as a file."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        return [], [f"{path.name}: cannot be read: {error.strerror}"]
    return lines, [] if lines.pop() == b"" else [f"{path.name}: ends in the middle of a line"]


def _from_mirror(lines: list[bytes]) -> list[Record]:
    """The records as their copy tells them, where the database cannot."""
    found = []
    for number, raw in enumerate(lines, start=1):
        line = raw.decode(errors="replace")
        said = _parsed(line)
        found.append(
            Record(
                seq=said.get("seq", number), kind=str(said.get("kind", "unreadable")),
                experiment_id=said.get("experiment_id"), line=line, hash=hashlib.sha256(raw).hexdigest(),
            )
        )  # fmt: skip
    return found


def _mirror(lines: list[bytes], records: list[Record], *, live: bool) -> Iterator[str]:
    for number, (line, one) in enumerate(zip(lines, records, strict=False), start=1):
        if line != one.line.encode():
            yield f"{MIRROR}: line {number} differs from {_name(one)}"
    if live:
        return
    if len(lines) < len(records):
        yield f"{MIRROR}: record {len(lines) + 1} and later ones are missing"
    if len(lines) > len(records):
        yield f"{MIRROR}: {len(lines) - len(records)} lines more than records"


def _files(folder: Path, records: list[Record]) -> Iterator[str]:
    """The last word of the records on every file is what the file must be."""
    last, removed = _last_words(records)
    for number, one in last.items():
        home, said = folder / f"{number:04d}", _body(one).get("files", {})
        for name, expected in said.items():
            gone = name in removed.get(number, ())
            found = _hash(home / name)
            if found != expected and not (gone and found == "missing"):
                state = found if found in ("a link", "missing") else "not what was written"
                yield f"{_name(one)}: {home.name}/{name} is {state}"
        if one.kind != "experiment.finished":
            continue
        there = {
            path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_symlink() or not path.is_dir()
        }
        yield from (f"{_name(one)}: {home.name}/{name} was added" for name in sorted(there - said.keys()))
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]*")):
        if path.name.isdigit() and int(path.name) not in last and int(path.name) != max(last, default=-1) + 1:
            yield f"{path.name}: no record tells of this experiment"


def _confirmed(folder: Path, records: list[Record]) -> Iterator[str]:
    """What a confirmation ran has a folder of its own, which nothing changes later."""
    for one in records:
        if one.kind not in ("experiment.confirmed", "experiment.not_confirmed"):
            continue
        home, said = folder / str(_body(one).get("folder", "")), _body(one).get("files", {})
        there = {path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()}
        for name in sorted({*said, *there}):
            if _hash(home / name) != said.get(name):
                yield f"{_name(one)}: {home.name}/{name} {'is not what was written' if name in said else 'was added'}"


def _last_words(records: list[Record]) -> tuple[dict[int, Record], dict[int, set[str]]]:
    """Per experiment: the record that names its files, and the names that retention has removed since."""
    last: dict[int, Record] = {}
    removed: dict[int, set[str]] = {}
    for one in records:
        if one.experiment_id is None:
            continue
        if one.kind in ("experiment.begun", "experiment.finished"):
            last[one.experiment_id] = one
        elif one.kind == "files.removed":
            removed.setdefault(one.experiment_id, set()).update(_body(one).get("files", {}))
    return last, removed


def _hash(path: Path) -> str:
    """SHA-256 of a plain file, or what it is instead."""
    try:
        if path.is_symlink():
            return "a link"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "missing"


def _seeds(records: list[Record]) -> Iterator[str]:
    """Every seed that was revealed is one that was committed before, in the same experiment."""
    committed: dict[int | None, set[str]] = {}
    for one in records:
        body = _body(one)
        if "audit_seed_sha256" in body:
            committed.setdefault(one.experiment_id, set()).add(body["audit_seed_sha256"])
        if one.kind == "seeds.revealed":
            digest = hashlib.sha256(bytes.fromhex(body["audit_seed"])).hexdigest()
            if digest not in committed.get(one.experiment_id, ()):
                yield f"{_name(one)}: the audit seed is not the one that was committed"


def _projection(records: list[Record], rows: dict[int, Row]) -> Iterator[str]:
    """The table of experiments says what their records say."""
    expected = index.replayed(_parsed(one.line) for one in records)
    for number in sorted(expected.keys() | rows.keys()):
        if rows.get(number) != expected.get(number):
            yield f"experiment {number}: the table of experiments does not say what its record says"


def _results(folder: Path, experiments: list[Experiment]) -> Iterator[str]:
    """results.tsv is made anew after each experiment; a session that was killed may have left it one step behind."""
    path = folder / experiment_dir.RESULTS
    if not experiments:
        return
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    newest = experiments[-1]
    behind = (experiments[:-1], [*experiments[:-1], _uncommitted(newest)])
    if text != experiment_dir.results(experiments) and (
        seal_is_there(folder) or text not in map(experiment_dir.results, behind)
    ):
        yield f"{path.name}: does not match the records; `autoresearch loop` rewrites it"


def seal_is_there(folder: Path) -> bool:
    """Whether the last session ended with its files in order."""
    return (folder / seal.NAME).exists()


def _uncommitted(experiment: Experiment) -> Experiment:
    return replace(experiment, commit="")


def _ends(folder: Path, records: list[Record], *, live: bool) -> Iterator[str]:
    """What began and has no end, be it an experiment or the run's last session."""
    ended = {one.experiment_id for one in records if one.kind == "experiment.finished"}
    begun = [one for one in records if one.kind == "experiment.begun" and one.experiment_id not in ended]
    for one in [] if live else begun:  # a session closes what an earlier one left before it begins anything
        yield f"experiment {one.experiment_id}: began and has no end"
    if records and records[-1].kind in ("session.ended", "session.failed") and not live and not seal_is_there(folder):
        yield f"{seal.NAME}: is missing, though the last session ended"


def _body(one: Record) -> dict[str, Any]:
    body = _parsed(one.line).get("body", {})
    return body if isinstance(body, dict) else {}


def _parsed(line: str) -> dict[str, Any]:
    """A record's line as data; nothing if it is none."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
