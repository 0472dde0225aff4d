"""index.db: tables derived from the record, for fast queries. It may be deleted at any time and is rebuilt.

Sums are kept, not computed: what the loop asks must cost the same after a hundred thousand experiments.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from orchestrator import policy
from orchestrator.errors import JournalError, RecordChanged, RecordFailed, RecordTooNew
from orchestrator.events import (
    CallReserved,
    CallSettled,
    ConfirmationFailed,
    Event,
    ExperimentBegun,
    ExperimentCommitted,
    ExperimentFinished,
    ReplyReceived,
    Revision,
    experiment_id_of,
)
from orchestrator.logger import log
from orchestrator.record.record_file import NAME as RECORD
from orchestrator.record.record_file import Line, Recorded, canonical, parse_line, read_lines
from orchestrator.types import Experiment, Status, Usage

NAME = "index.db"
VERSION = 7
SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, experiment_id INTEGER,
    offset INTEGER NOT NULL, size INTEGER NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX events_by_kind ON events (kind, experiment_id);
CREATE INDEX events_by_kind_and_seq ON events (kind, seq);
CREATE INDEX events_by_experiment ON events (experiment_id);
CREATE TABLE experiments ( -- value: the score as a cost, the lower the better
    id INTEGER PRIMARY KEY, status TEXT NOT NULL, value REAL, retry_of INTEGER, remeasures_id INTEGER,
    removes_id INTEGER,
    trials INTEGER NOT NULL, fingerprint TEXT NOT NULL, revised INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL
);
CREATE TABLE unfinished (experiment_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL); -- where it began
CREATE INDEX experiments_by_value ON experiments (status, value);
CREATE INDEX experiments_by_status ON experiments (status, id);
CREATE INDEX experiments_by_fingerprint ON experiments (fingerprint);
CREATE INDEX experiments_by_retry ON experiments (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX experiments_by_remeasured ON experiments (remeasures_id) WHERE remeasures_id IS NOT NULL;
CREATE INDEX experiments_by_removed ON experiments (removes_id) WHERE removes_id IS NOT NULL;
CREATE INDEX experiments_with_trials ON experiments (id) WHERE trials > 1;
CREATE INDEX experiments_revised ON experiments (id) WHERE revised;
CREATE VIRTUAL TABLE ideas USING fts5 (hypothesis, diff, tokenize = 'porter unicode61');
CREATE TABLE spending (  -- seq 0: what is settled; every other row: a call that may still be going on
    seq INTEGER PRIMARY KEY, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cache_creation_input_tokens INTEGER NOT NULL, cache_read_input_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL
);
INSERT INTO spending VALUES (0, 0, 0, 0, 0, 0.0);
CREATE TABLE estimates (
    conditions TEXT PRIMARY KEY, is_now INTEGER NOT NULL, learnt INTEGER NOT NULL, code TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE best_after (experiment_id INTEGER PRIMARY KEY, cost REAL);
CREATE TABLE totals (status TEXT PRIMARY KEY, count INTEGER NOT NULL, duration_s REAL NOT NULL);
"""
SPENDING = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cost_usd")
CHECKED_BYTES = 64 << 20  # reading all of a larger index would take long
TABLES = ("events", "experiments", "unfinished", "spending", "totals")
EXPERIMENT = TypeAdapter(Experiment)


class Index:
    """The tables of one run."""

    def __init__(self, folder: Path, db: sqlite3.Connection) -> None:
        """Use `open`, `read` or `build`."""
        self.folder = folder
        self.db = db
        self.in_memory = False
        self.has_ideas = True
        self.damaged: list[str] = []  # lines of the record that were skipped, each with the reason

    @classmethod
    def open(cls, folder: Path, record: Path) -> Self:
        """Open the index for writing and bring it up to date; built if missing, outdated or damaged."""
        path = folder / NAME
        existed = path.exists()
        try:
            index = cls(folder, _connect(path))
            index._require_current(record)
        except (RecordTooNew, RecordChanged):
            raise
        except (sqlite3.DatabaseError, JournalError) as error:
            if existed:
                log.warning("index.rebuilt", path=str(path), reason=str(error))
            path.unlink(missing_ok=True)
            index = cls(folder, _create(path))
        path.chmod(0o600)
        index.catch_up(record)
        return index

    @classmethod
    def read(cls, folder: Path, record: Path) -> Self:
        """Open the index for reading only; one that is missing, outdated or damaged is rebuilt in memory."""
        path = folder / NAME
        try:
            index = cls(folder, _connect(path, "?mode=ro"))
            index._require_current(record)
        except (RecordTooNew, RecordChanged):
            raise
        except (sqlite3.Error, JournalError) as error:
            if record.stat().st_size:
                log.warning("index.rebuilt_in_memory", path=str(path), reason=str(error), fix="autoresearch reindex")
            return cls.build(folder, record)
        index.refresh(record)
        return index

    @classmethod
    def build(cls, folder: Path, record: Path, *, skip_damaged: bool = False) -> Self:
        """Build the tables in memory from the record alone; damaged lines may be skipped, and are listed.

        Raises JournalError for a damaged line that is not skipped, RecordTooNew for one of a newer version.
        """
        index = cls.start(folder)
        index.catch_up(record, skip_damaged=skip_damaged)
        return index

    @classmethod
    def start(cls, folder: Path, *, spills: bool = False) -> Self:
        """Return empty tables in memory; those that may spill to a temporary file are for reading in order, no more."""
        index = cls(folder, _connect("" if spills else ":memory:"))
        index.in_memory, index.has_ideas = True, not spills
        index.db.executescript(SCHEMA)
        if spills:
            for (name,) in index.rows("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"):
                index.db.execute(f"DROP INDEX {name}")
        return index

    def refresh(self, record: Path) -> None:
        """Update a reader's tables, in memory, as the file belongs to the writer.

        The file is behind after a crash, while a session writes, and where it was deleted meanwhile.
        """
        if record.stat().st_size <= self._end():
            return
        if not self.in_memory:
            memory = _connect(":memory:")
            self.db.backup(memory)
            self.db.close()
            self.db, self.in_memory = memory, True
        self.catch_up(record)

    def catch_up(self, record: Path, *, skip_damaged: bool = False) -> None:
        """Apply the events of the record that are not in the index yet."""
        seq = int(self.rows("SELECT COALESCE(MAX(seq), 0) FROM events")[0][0])
        with self.db:
            for line in read_lines(record, self._end(), seq + 1):
                try:
                    self.apply(parse_line(line, record), line)
                except (JournalError, sqlite3.Error) as error:
                    if not skip_damaged or isinstance(error, RecordTooNew):
                        raise
                    where = f"{record}: line {line.number}: damaged: " if isinstance(error, sqlite3.Error) else ""
                    self.damaged.append(f"{where}{error}")

    def _end(self) -> int:
        """Return how many bytes of the record are in the tables."""
        last = self.rows("SELECT offset + size + 1 FROM events ORDER BY seq DESC LIMIT 1")
        return int(last[0][0]) if last else 0

    def append(self, recorded: Recorded[Event], line: Line) -> None:
        """Apply one event that was appended to the record; a file that was deleted meanwhile is made again."""
        try:
            with self.db:
                self.apply(recorded, line)
        except sqlite3.Error as error:
            if error.sqlite_errorname != "SQLITE_READONLY_DBMOVED":
                raise self.translate(error) from error
            path = self.folder / NAME
            log.warning("index.rebuilt", path=str(path), reason="it was deleted")
            self.db.close()
            self.db = _create(path)
            self.catch_up(path.with_name(RECORD))

    def apply(self, recorded: Recorded[Event], line: Line) -> None:
        """Update the tables with an event."""
        event = recorded.event
        row = (recorded.seq, event.kind, experiment_id_of(event), line.offset, len(line.data), recorded.hash)
        self.db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
        match event:
            case ExperimentBegun():
                self.db.execute("INSERT OR REPLACE INTO unfinished VALUES (?, ?)", (event.experiment_id, recorded.seq))
            case ExperimentFinished():
                self.db.execute("DELETE FROM unfinished WHERE experiment_id = ?", (event.experiment_id,))
                self._finish(event.experiment)
                self._revise(event.revisions or self._implied_revisions(recorded))
            case ConfirmationFailed():
                self._revise(event.revisions or self._implied_revisions(recorded))
            case ExperimentCommitted():
                query = "UPDATE experiments SET body = json_set(body, '$.commit', ?) WHERE id = ?"
                self.db.execute(query, (event.commit, event.experiment_id))
            case CallReserved():
                self.db.execute(
                    "INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?)", (recorded.seq, *_numbers(event.usage))
                )
            case CallSettled():
                self.db.execute("DELETE FROM spending WHERE seq = ?", (event.call,))
                self._charge(event.usage)
            case ReplyReceived() if not event.reply.calls:  # else its calls were charged
                self._charge(event.reply.usage)

    def take(self, recorded: Recorded[Event], line: Line) -> None:
        """Update the tables with an event, unless a damaged record has left out what it follows from."""
        with suppress(sqlite3.Error):
            self.apply(recorded, line)

    def take_known_experiments(self) -> None:
        """Take the experiments from the index on the disk, which may include lines that the record has lost."""
        path = self.folder / NAME
        with suppress(sqlite3.Error, JournalError):
            known = _connect(path, "?mode=ro")
            _require_intact(known, path)
            last = "SELECT COALESCE(MAX(seq), 0) FROM events"
            if known.execute(last).fetchone() < self.db.execute(last).fetchone():
                return
            with self.db:
                for table in TABLES[1:]:
                    rows = known.execute(f"SELECT * FROM {table}")  # noqa: S608  # our own names
                    marks = ", ".join("?" for _ in rows.description)
                    self.db.execute(f"DELETE FROM {table}")  # noqa: S608
                    self.db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises JournalError or RecordFailed."""
        try:
            return self.db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self.translate(error) from error

    def iterate(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, however many. Raises JournalError or RecordFailed."""
        try:
            yield from self.db.execute(query)
        except sqlite3.Error as error:
            raise self.translate(error) from error

    def differs_from(self, other: Self, table: str) -> bool:
        """Return whether a table has other rows than that of another index."""
        query = f"SELECT * FROM {table} ORDER BY 1"  # noqa: S608  # our own names
        return any(mine != theirs for mine, theirs in zip_longest(self.iterate(query), other.iterate(query)))

    def translate(self, error: sqlite3.Error) -> JournalError | RecordFailed:
        """Translate an error of SQLite into one that says what to do."""
        path = self.folder / NAME
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            return RecordFailed(f"{path}: {error}; free some disk space or fix the permissions; the record is complete")
        return JournalError(f"{path}: {error}; delete it: it is rebuilt from record.jsonl")

    def _require_current(self, record: Path) -> None:
        """Raise JournalError unless the tables are of this version and of this very record."""
        _require_intact(self.db, self.folder / NAME)
        last = self.db.execute("SELECT seq, offset, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        if last is None:
            return
        line = next(read_lines(record, last[1], last[0]), None)
        if line is None or hashlib.sha256(line.data).hexdigest() != last[2]:
            if line is not None:
                parse_line(line, record)  # which names a newer version, or the damage
            raise RecordChanged(
                f"{record}: line {last[0]} is missing or was changed; restore the file, or type"
                f" `autoresearch reindex --run {record.parent.name}` to continue with what it still holds"
            )

    def _finish(self, experiment: Experiment) -> None:
        body = canonical(EXPERIMENT.dump_python(experiment, mode="json", exclude={"folder"}))  # in the record's order
        row = (
            experiment.id, experiment.status, experiment.cost, experiment.retry_of, experiment.remeasures_id,
            experiment.removes_id, len(experiment.scores), experiment.fingerprint, 0, body,
        )  # fmt: skip
        self.db.execute("INSERT INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._count(experiment.status, 1, experiment.duration_s)
        if not self.has_ideas:
            return
        diff = ""
        with suppress(OSError, UnicodeDecodeError):  # verify names it
            diff = (self.folder / f"{experiment.id:04d}" / "patch.diff").read_text(encoding="utf-8")
        idea = (experiment.id, experiment.hypothesis, diff)
        self.db.execute("INSERT INTO ideas (rowid, hypothesis, diff) VALUES (?, ?, ?)", idea)

    def _revise(self, revisions: Iterable[Revision]) -> None:
        for revision in revisions:
            self.db.execute("DELETE FROM estimates")  # what cheated taught nothing
            self.db.execute("DELETE FROM best_after")
            where = (revision.experiment_id,)
            for status, body in self.db.execute("SELECT status, body FROM experiments WHERE id = ?", where).fetchall():
                before = EXPERIMENT.validate_json(body)
                review = before.needs_review or revision.status is Status.CHEAT
                query = (
                    "UPDATE experiments SET status = ?, revised = 1,"
                    " body = json_set(body, '$.status', ?, '$.reason', ?, '$.needs_review', json(?)) WHERE id = ?"
                )
                reason = f"{before.reason}; but {revision.reason}"
                values = (revision.status, revision.status, reason, "true" if review else "false", before.id)
                self.db.execute(query, values)
                self._count(status, -1, -before.duration_s)
                self._count(revision.status, 1, before.duration_s)

    def _implied_revisions(self, recorded: Recorded[Event]) -> tuple[Revision, ...]:
        """Return the revisions that format 1 left implicit: verdicts changed by a later cheat."""
        match recorded.event:
            case _ if recorded.format > 1:
                return ()
            case ExperimentFinished(experiment=e) if e.status is Status.CHEAT and e.remeasures_id is not None:
                where = f"when it was measured again, in experiment {e.id}"
                return policy.invalidate(e.remeasures_id, self._kept(), where)
            case ConfirmationFailed(experiment_id=number, failure=Status.CHEAT):
                return policy.invalidate(number, self._kept(), "on the holdout")
        return ()

    def _kept(self) -> list[Experiment]:
        rows = self.rows("SELECT body FROM experiments WHERE status = ? ORDER BY id", Status.KEEP)
        return [EXPERIMENT.validate_json(body) for (body,) in rows]

    def _count(self, status: str, count: int, duration_s: float) -> None:
        self.db.execute(
            "INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT (status)"
            " DO UPDATE SET count = count + excluded.count, duration_s = duration_s + excluded.duration_s",
            (status, count, duration_s),
        )

    def _charge(self, usage: Usage) -> None:
        added = ", ".join(f"{name} = {name} + ?" for name in SPENDING)
        self.db.execute(f"UPDATE spending SET {added} WHERE seq = 0", _numbers(usage))  # noqa: S608  # our own names


def _create(path: Path) -> sqlite3.Connection:
    db = _connect(path)
    db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
    path.chmod(0o600)
    return db


def _connect(path: Path | str, options: str = "") -> sqlite3.Connection:
    name = path if isinstance(path, str) else f"{path.as_uri()}{options}"
    db = sqlite3.connect(name, uri=not isinstance(path, str), check_same_thread=False, timeout=10)
    db.execute("PRAGMA synchronous = NORMAL")  # the record is on the disk first; this may be rebuilt
    return db


def _require_intact(db: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError unless the tables are of this version, and undamaged if they are small enough to look."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise JournalError(f"version {version}, not {VERSION}" if version else "it was missing")
    if path.stat().st_size <= CHECKED_BYTES:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalError(f"its tables are inconsistent: {found.strip().splitlines()[-1]}")


def _numbers(usage: Usage) -> list[float]:
    return [getattr(usage, name) for name in SPENDING]
