"""Is a run's record intact: its lines, the files of every experiment, the session log, and the anchors elsewhere.

Everything is derived again from what is on disk; each finding names the line or file that is not what was written.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args

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

Kinds = tuple[type[Event], ...]
COMMITMENTS = (ExperimentBegun, TrialRepeated, ExperimentDoubted, ConfirmationBegun)
BROKEN = (AutoresearchError, ValueError, KeyError, TypeError, AttributeError, OSError)


def find_damage(folder: Path, repository: Path | None = None, anchor: Path | None = None) -> Iterator[str]:
    """Yield every place where the record in `folder` is not what was written; nothing if it is intact.

    A line that a session is still writing is not damage. `anchor` is a file elsewhere that names heads. The record is
    read once, line by line.
    """
    live, path = is_live(folder), folder / record_file.NAME
    name, hashes, kept, built = Path(path.name), list[str](), list[int](), Index.start(folder, spills=True)
    followed = [
        _Followed(check=check)
        for check in (_Chain(), _Files(folder), _Confirmations(folder), _Seeds(), _Logs(folder), _Ends(live))
    ]
    about = {kind: [one for one in followed if issubclass(kind, one.check.kinds)] for kind in get_args(Event)}
    with closing(built.db):
        try:
            for line in read_lines(path):
                try:
                    recorded = parse_line(line, name)
                except JournalError as error:
                    yield str(error)
                    continue
                if anchors.is_keep(recorded.event):
                    kept.append(len(hashes))
                hashes.append(recorded.hash)
                built.take(recorded, line)
                for one in about[type(recorded.event)]:
                    one.take(recorded)
        except JournalError as error:
            yield str(error)
        if not live and path.exists():
            yield from _check_end(path, len(hashes))
        *followed, ends = followed
        for one in followed:
            yield from one.end()
        for check in (
            anchors.find_damage(folder.name, hashes, kept, repository, anchor),
            () if live else _check_index(folder, path, built),
            () if live else _check_results(folder, built),
        ):
            try:
                yield from check
            except BROKEN as error:  # what is damaged was named above, or is by this
                yield f"the record cannot be followed: {error}"
        yield from ends.end()


class _Check(Protocol):
    """Follows the events of some kinds line by line, and keeps of them only what later lines depend on."""

    kinds: ClassVar[Kinds]

    def take(self, recorded: Recorded[Event]) -> Iterable[str]:
        """Return what is wrong with a line."""

    def end(self) -> Iterable[str]:
        """Return what is wrong with the record as a whole."""


@dataclass(slots=True, kw_only=True)
class _Followed:
    """A check and what it found; it goes no further once the record cannot be followed."""

    check: _Check
    found: list[str] = field(default_factory=list)
    is_broken: bool = False

    def take(self, recorded: Recorded[Event]) -> None:
        self._add(lambda: self.check.take(recorded))

    def end(self) -> list[str]:
        self._add(self.check.end)
        return self.found

    def _add(self, find: Callable[[], Iterable[str]]) -> None:
        if self.is_broken:
            return
        try:
            self.found.extend(find())
        except BROKEN as error:  # what is damaged was named before, or is by this
            self.is_broken = True
            self.found.append(f"the record cannot be followed: {error}")


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


class _Chain:
    """Each line follows the one before it."""

    kinds: ClassVar[Kinds] = get_args(Event)

    def __init__(self) -> None:
        self.number, self.previous = 0, GENESIS

    def take(self, recorded: Recorded[Event]) -> Iterator[str]:
        self.number += 1
        if recorded.seq != self.number:
            yield f"{recorded.name}: out of order; expected line {self.number}"
        if recorded.previous != self.previous:
            yield f"{recorded.name}: does not follow the line before it"
        self.previous = recorded.hash

    def end(self) -> Iterable[str]:
        return ()


class _Files:
    """Every file of an experiment is what its end says; without an end, what its begin says."""

    kinds: ClassVar[Kinds] = (ExperimentBegun, ExperimentFinished, FilesRemoved)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: set[int] = set()
        self.begun: dict[int, Recorded[ExperimentBegun]] = {}  # without an end
        self.missing: list[tuple[str, int, str]] = []  # what names them, experiment and file
        self.removed: dict[int, set[str]] = {}

    def take(self, recorded: Recorded[Event]) -> Iterator[str]:
        event = recorded.event
        if isinstance(event, ExperimentBegun):
            self.known.add(event.experiment_id)
            self.begun[event.experiment_id] = recorded  # type: ignore[assignment]  # by its event
        elif isinstance(event, ExperimentFinished):
            number = event.experiment.id
            self.known.add(number)
            self.begun.pop(number, None)
            yield from self._compare(recorded.name, number, event.files)
            for name in sorted(set(_list_files(f"{self.folder}/{number:04d}")) - event.files.keys()):
                yield f"{recorded.name}: {number:04d}/{name} was added"
        elif isinstance(event, FilesRemoved):
            self.removed.setdefault(event.experiment_id, set()).update(event.files)

    def end(self) -> Iterator[str]:
        for number, recorded in self.begun.items():
            yield from self._compare(recorded.name, number, recorded.event.files)
        for where, number, name in self.missing:
            if name not in self.removed.get(number, ()):
                yield f"{where}: {number:04d}/{name} is missing"
        for path in sorted(self.folder.glob("[0-9][0-9][0-9][0-9]*")):
            is_next = path.name.isdigit() and int(path.name) == max(self.known, default=-1) + 1
            if path.name.isdigit() and int(path.name) not in self.known and not is_next:
                yield f"{path.name}: no such experiment is recorded"

    def _compare(self, where: str, number: int, files: Mapping[str, str]) -> Iterator[str]:
        """Yield what differs; what is missing may be removed by a later line."""
        for name, expected in files.items():
            state = _hash(self.folder / f"{number:04d}" / name)
            if state == "missing":
                self.missing.append((where, number, name))
            elif state != expected:
                yield f"{where}: {number:04d}/{name} is {_describe(state)}"


class _Confirmations:
    """The folder of every confirmation, which nothing changes later, is what was written."""

    kinds: ClassVar[Kinds] = (ExperimentConfirmed, ConfirmationFailed)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, recorded: Recorded[Event]) -> Iterator[str]:
        assert isinstance(recorded.event, ExperimentConfirmed | ConfirmationFailed)  # noqa: S101  # by `kinds`
        home, files = self.folder / recorded.event.folder, recorded.event.files
        for name in sorted({*files, *_list_files(str(home))}):
            if _hash(home / name) != files.get(name):
                state = "not what was written" if name in files else "new: it was added"
                yield f"{recorded.name}: {home.name}/{name} is {state}"

    def end(self) -> Iterable[str]:
        return ()


class _Seeds:
    """Every revealed seed was committed before, in the same experiment."""

    kinds: ClassVar[Kinds] = (*COMMITMENTS, SeedsRevealed)

    def __init__(self) -> None:
        self.committed: dict[int, str] = {}  # hashes by experiment, one after the other

    def take(self, recorded: Recorded[Event]) -> Iterator[str]:
        event = recorded.event
        if isinstance(event, COMMITMENTS):
            before = self.committed.get(event.experiment_id, "")
            self.committed[event.experiment_id] = f"{before} {event.seeds.audit_seed_sha256}"
        elif isinstance(event, SeedsRevealed):
            digest = hashlib.sha256(bytes.fromhex(event.audit_seed)).hexdigest()
            if digest not in self.committed.get(event.experiment_id, "").split():
                yield f"{recorded.name}: the audit seed is not the one that was committed"

    def end(self) -> Iterable[str]:
        return ()


class _Logs:
    """session.log is what the end of each session says of it."""

    kinds: ClassVar[Kinds] = (SessionEnded, SessionFailed)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, recorded: Recorded[Event]) -> Iterator[str]:
        event = recorded.event
        expected = event.log if isinstance(event, SessionEnded | SessionFailed) else None
        if expected is not None and session_log.digest(self.folder, expected.size) != expected:
            yield f"{session_log.NAME}: its first {expected.size} bytes are not what {recorded.name} says"

    def end(self) -> Iterable[str]:
        return ()


class _Ends:
    """Every experiment that began has an end, unless the session is live."""

    kinds: ClassVar[Kinds] = (ExperimentBegun, ExperimentFinished)

    def __init__(self, live: bool) -> None:  # noqa: FBT001  # by its name in the only call
        self.live = live
        self.begun: dict[int, None] = {}
        self.ended: set[int] = set()

    def take(self, recorded: Recorded[Event]) -> Iterable[str]:
        if isinstance(recorded.event, ExperimentBegun):
            self.begun[recorded.event.experiment_id] = None
        elif isinstance(recorded.event, ExperimentFinished):
            self.ended.add(recorded.event.experiment_id)
        return ()

    def end(self) -> Iterator[str]:
        for number in () if self.live else self.begun:
            if number not in self.ended:
                yield f"experiment {number}: began and has no end; the next session closes it"


def _check_index(folder: Path, path: Path, built: Index) -> Iterator[str]:
    """Compare the index, where there is one, with one that was built from the record."""
    if not (folder / index.NAME).exists():
        return
    try:
        kept = Index.read(folder, path)
        with closing(kept.db):
            differs = [name for name in index.TABLES if built.differs_from(kept, name)]
    except BROKEN as error:
        yield f"{index.NAME}: {error}; delete it, or run `autoresearch reindex`"
        return
    yield from (
        f"{index.NAME}: its {name} are not what the record says; run `autoresearch reindex`" for name in differs
    )


def _check_results(folder: Path, built: Index) -> Iterator[str]:
    """Compare results.tsv, which is written after each experiment; a killed session may leave it one step behind."""
    bodies = built.iterate("SELECT body FROM experiments ORDER BY id")
    experiment = next(_experiments(bodies), None)
    if experiment is not None and not _has_results(folder / experiment_dir.RESULTS, experiment, _experiments(bodies)):
        yield f"{experiment_dir.RESULTS}: not what the record says; the next session writes it again"


def _experiments(rows: Iterator[tuple[Any, ...]]) -> Iterator[Experiment]:
    return (index.EXPERIMENT.validate_json(body) for (body,) in rows)


def _has_results(path: Path, first: Experiment, others: Iterator[Experiment]) -> bool:
    """Return whether each line of results.tsv is its experiment's; the newest may be missing, or not yet committed."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as lines:
        header = lines.readline()
        metric = [*header.rstrip("\n").split("\t"), "", ""][1]  # older records have upstream's for every task
        if header != experiment_dir.results((), metric):
            return False
        experiment, following = first, next(others, None)
        while following is not None:
            if lines.readline() != _row(experiment, metric):
                return False
            experiment, following = following, next(others, None)
        newest = {"", _row(experiment, metric), _row(replace(experiment, commit=""), metric)}
        return lines.readline() in newest and not lines.readline()


def _row(experiment: Experiment, metric: str) -> str:
    return experiment_dir.results((experiment,), metric).partition("\n")[2]


def _list_files(folder: str, within: str = "") -> Iterator[str]:
    """Yield the path of every file and link below a folder; links are not followed."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _list_files(entry.path, f"{within}{entry.name}/")
            else:
                yield f"{within}{entry.name}"


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
