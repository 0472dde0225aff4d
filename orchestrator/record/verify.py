"""Is a run's record intact: its lines, the files of every experiment, the session log, and the anchors elsewhere.

Everything is derived again from what is on disk; each finding names the line or file that is not what was written.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import AutoresearchError, JournalError
from orchestrator.events import (
    ConfirmationBegun,
    ConfirmationFailed,
    Event,
    ExperimentBegun,
    ExperimentConfirmed,
    ExperimentDoubted,
    ExperimentFinished,
    FilesRemoved,
    SeedsRevealed,
    SessionEnded,
    SessionFailed,
    TrialRepeated,
)
from orchestrator.record import anchors, experiment_dir, index, record_file, session_log
from orchestrator.record.index import Index
from orchestrator.record.journal import is_live
from orchestrator.record.record_file import GENESIS, Recorded, parse_line, read_lines
from orchestrator.types import Experiment

COMMITMENTS = (ExperimentBegun, TrialRepeated, ExperimentDoubted, ConfirmationBegun)
BROKEN = (AutoresearchError, ValueError, KeyError, TypeError, AttributeError, OSError)


def find_damage(folder: Path, repository: Path | None = None, anchor: Path | None = None) -> Iterator[str]:
    """Yield every place where the record in `folder` is not what was written; nothing if it is intact.

    A line that a session is still writing is not damage. `anchor` is a file elsewhere that names heads.
    """
    live, path = is_live(folder), folder / record_file.NAME
    records, built = list[Recorded[Event]](), Index.start(folder)
    with closing(built.db):
        try:
            for line in read_lines(path):
                try:
                    records.append(parse_line(line, Path(path.name)))
                except JournalError as error:
                    yield str(error)
                else:
                    built.take(records[-1], line)
        except JournalError as error:
            yield str(error)
        if not live:
            yield from _check_end(path, len(records))
        checks = (
            _check_chain(records),
            _check_files(folder, records),
            _check_confirmations(folder, records),
            _check_seeds(records),
            _check_logs(folder, records),
            anchors.find_damage(folder.name, records, repository, anchor),
            () if live else _check_index(folder, path, built),
            () if live else _check_results(folder, built),
            () if live else _check_ends(records),
        )
        for check in checks:
            try:
                yield from check
            except BROKEN as error:  # what is damaged was named above, or is by this
                yield f"the record cannot be followed: {error}"


def find_runs(folder: Path) -> list[Path]:
    """Return every run in a folder, or the folder itself if it is one. Raises JournalError if there is none."""
    runs = [folder, *sorted(folder.glob("*/"))]
    found = [run for run in runs if any((run / name).exists() for name in (record_file.NAME, index.NAME, "lock"))]
    if not found:
        raise JournalError(
            f"{folder}: no runs recorded here; start one with `autoresearch loop`, or name another folder"
            " with --runs FOLDER"
        )
    return found


def _check_end(path: Path, lines: int) -> Iterator[str]:
    """Name a record that is empty though experiments ran, or whose last line is cut off."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        last = file.read()
    if not last and any(path.parent.glob("[0-9][0-9][0-9][0-9]*/")):
        yield f"{path.name}: empty, though experiments ran"
    if last not in (b"", b"\n"):
        yield f"{path.name}: line {lines + 1}: incomplete; the next session cuts it off"


def _check_chain(records: list[Recorded[Event]]) -> Iterator[str]:
    previous = GENESIS
    for number, recorded in enumerate(records, start=1):
        if recorded.seq != number:
            yield f"{recorded.name}: out of order; expected line {number}"
        if recorded.previous != previous:
            yield f"{recorded.name}: does not follow the line before it"
        previous = recorded.hash


def _check_files(folder: Path, records: list[Recorded[Event]]) -> Iterator[str]:
    """Compare every file of an experiment with the newest event that names it."""
    newest: dict[int, Recorded[ExperimentBegun] | Recorded[ExperimentFinished]] = {}
    removed: dict[int, set[str]] = {}
    for recorded in records:
        match recorded.event:
            case ExperimentBegun(experiment_id=number) | ExperimentFinished(experiment=Experiment(id=number)):
                newest[number] = recorded  # type: ignore[assignment]  # by the match
            case FilesRemoved(experiment_id=number, files=files):
                removed.setdefault(number, set()).update(files)
    for number, recorded in newest.items():
        home, files = folder / f"{number:04d}", recorded.event.files
        for name, expected in files.items():
            state = _hash(home / name)
            if state != expected and not (state == "missing" and name in removed.get(number, ())):
                yield f"{recorded.name}: {home.name}/{name} is {_describe(state)}"
        if isinstance(recorded.event, ExperimentFinished):
            present = {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_symlink() or not p.is_dir()}
            yield from (f"{recorded.name}: {home.name}/{name} was added" for name in sorted(present - files.keys()))
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]*")):
        if path.name.isdigit() and int(path.name) not in newest and int(path.name) != max(newest, default=-1) + 1:
            yield f"{path.name}: no such experiment is recorded"


def _check_confirmations(folder: Path, records: list[Recorded[Event]]) -> Iterator[str]:
    """Compare the folder of every confirmation, which nothing changes later."""
    for recorded in records:
        if not isinstance(recorded.event, ExperimentConfirmed | ConfirmationFailed):
            continue
        home, files = folder / recorded.event.folder, recorded.event.files
        present = {path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()}
        for name in sorted({*files, *present}):
            if _hash(home / name) != files.get(name):
                state = "not what was written" if name in files else "new: it was added"
                yield f"{recorded.name}: {home.name}/{name} is {state}"


def _check_seeds(records: list[Recorded[Event]]) -> Iterator[str]:
    """Check that every revealed seed was committed before, in the same experiment."""
    committed: dict[int, set[str]] = {}
    for recorded in records:
        event = recorded.event
        if isinstance(event, COMMITMENTS):
            committed.setdefault(event.experiment_id, set()).add(event.seeds.audit_seed_sha256)
        if isinstance(event, SeedsRevealed):
            digest = hashlib.sha256(bytes.fromhex(event.audit_seed)).hexdigest()
            if digest not in committed.get(event.experiment_id, ()):
                yield f"{recorded.name}: the audit seed is not the one that was committed"


def _check_logs(folder: Path, records: list[Recorded[Event]]) -> Iterator[str]:
    """Compare session.log with what the end of each session says of it."""
    for recorded in records:
        event = recorded.event
        expected = event.log if isinstance(event, SessionEnded | SessionFailed) else None
        if expected is not None and session_log.digest(folder, expected.size) != expected:
            yield f"{session_log.NAME}: its first {expected.size} bytes are not what {recorded.name} says"


def _check_index(folder: Path, path: Path, built: Index) -> Iterator[str]:
    """Compare the index, where there is one, with one that was built from the record."""
    if not (folder / index.NAME).exists():
        return
    try:
        kept = Index.read(folder, path)
        with closing(kept.db):
            differs = [name for name in index.TABLES if built.dump(name) != kept.dump(name)]
    except BROKEN as error:
        yield f"{index.NAME}: {error}; delete it, or run `autoresearch reindex`"
        return
    yield from (
        f"{index.NAME}: its {name} are not what the record says; run `autoresearch reindex`" for name in differs
    )


def _check_results(folder: Path, built: Index) -> Iterator[str]:
    """Compare results.tsv, which is written after each experiment; a killed session may leave it one step behind."""
    rows = built.rows("SELECT body FROM experiments ORDER BY id")
    experiments = [index.EXPERIMENT.validate_json(body) for (body,) in rows]
    if not experiments:
        return
    results = folder / experiment_dir.RESULTS
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    newest = replace(experiments[-1], commit="")
    accepted = (experiments, experiments[:-1], [*experiments[:-1], newest])
    metric = [*text.partition("\n")[0].split("\t"), "", ""][1]  # older records have upstream's for every task
    if text not in (experiment_dir.results(known, metric) for known in accepted):
        yield f"{results.name}: not what the record says; the next session writes it again"


def _check_ends(records: list[Recorded[Event]]) -> Iterator[str]:
    """Name experiments that began and have no end."""
    ended = {recorded.event.experiment_id for recorded in records if isinstance(recorded.event, ExperimentFinished)}
    for recorded in records:
        if isinstance(recorded.event, ExperimentBegun) and recorded.event.experiment_id not in ended:
            yield f"experiment {recorded.event.experiment_id}: began and has no end; the next session closes it"


def _hash(path: Path) -> str:
    """Return the SHA-256 of a plain file, or what it is instead."""
    try:
        if path.is_symlink():
            return "a link"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "missing"


def _describe(state: str) -> str:
    return state if state in ("a link", "missing") else "not what was written"
