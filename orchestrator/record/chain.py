"""A chain of records: append-only, every one hashed with the one before it.

A record is one line of canonical JSON. It is committed to journal.db first and mirrored to record.jsonl, which any
tool can read. Tables beside `records` are projections (tables.py) and can be rebuilt from it.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import AutoresearchError, JournalError, RecordFailed
from orchestrator.files import unwritable
from orchestrator.record import index, seal
from orchestrator.record.index import canonical

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the journal; `hash` is the SHA-256 of `line`, which carries the hash of the line before."""

    seq: int
    kind: str
    experiment_id: int | None
    line: str
    hash: str

    @property
    def body(self) -> dict[str, Any]:
        """What the record says."""
        body: dict[str, Any] = json.loads(self.line)["body"]
        return body

    @property
    def of_experiment(self) -> int:
        """The experiment that it is about. Raises JournalError if it names none."""
        if self.experiment_id is None:
            raise JournalError(f"record {self.seq} ({self.kind}) names no experiment; see `autoresearch verify`")
        return self.experiment_id

    @property
    def at(self) -> str:
        """When it was written: ISO 8601, UTC."""
        return str(json.loads(self.line)["at"])


class Chain:
    """The records of one run. Opened for writing by one session at a time; readers need no lock."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock_file: int | None) -> None:
        """Use `open` or `read`."""
        self.folder = folder
        self._db = connection
        self._lock_file = lock_file
        self._guard = threading.RLock()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open for writing, made if missing. Raises JournalError or RecordFailed."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            lock_file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            connection = sqlite3.connect(folder / "journal.db", check_same_thread=False, timeout=10)
            (folder / "journal.db").chmod(0o600)
            connection.execute("PRAGMA synchronous = FULL")
            index.migrate(connection, folder / "journal.db")
            chain = cls(folder, connection, lock_file)
            seal.remove(folder)
            chain._mirror_missing()
        except BlockingIOError as error:
            raise JournalError(
                f"{folder}: another session is using this run; wait for it, or use another --run NAME"
            ) from error
        except OSError as error:
            raise RecordFailed(
                f"{error.filename or folder}: cannot be written: {error.strerror}; change the permissions, or use"
                " --runs FOLDER"
            ) from error
        except sqlite3.Error as error:
            raise _translated(folder, error) from error
        return chain

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open for reading only. Raises JournalError if there is none."""
        path = folder / "journal.db"
        if not path.is_file():
            raise JournalError(f"{path}: no such run; `autoresearch runs` lists the runs")
        try:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False, timeout=10)
            if index.version_of(connection, path) < index.VERSION:  # the file is left as it is
                file, connection = connection, sqlite3.connect(":memory:", check_same_thread=False)
                file.backup(connection)
                file.close()
                index.migrate(connection, path)
        except sqlite3.Error as error:
            raise _translated(folder, error) from error
        return cls(folder, connection, None)

    @classmethod
    def salvage(cls, folder: Path) -> Self:
        """What record.jsonl still tells, in memory: for looking at a run whose database is damaged. Never writes.

        Lines that are no record any more are left out; verify names them. Raises JournalError.
        """
        path, connection = folder / "record.jsonl", sqlite3.connect(":memory:", check_same_thread=False)
        index.migrate(connection, path)
        chain = cls(folder, connection, None)
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError as error:
            raise JournalError(f"{path}: cannot be read: {error.strerror}") from error
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError, sqlite3.Error), chain._db:
                chain._insert(json.loads(line), line)
        return chain

    def close(self) -> None:
        """Seal what was written, and let the next session in."""
        head = ""
        if self._lock_file is not None:
            with suppress(AutoresearchError):  # what is broken has been said
                head = self.head()
        self._db.close()
        if self._lock_file is not None:
            seal.write(self.folder, head)
            os.close(self._lock_file)
            self._lock_file = None

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Seal what was written, and let the next session in."""
        self.close()

    def records(self, kind: str | None = None, experiment_id: int | None = None) -> list[Record]:
        """All records in order, or those of one kind or experiment."""
        asked = {"kind": kind, "experiment_id": experiment_id}
        where = {f"{column} = ?": value for column, value in asked.items() if value is not None}
        return self._records(" AND ".join(where) or "1", *where.values())

    def since(self, seq: int) -> list[Record]:
        """Records that came after one."""
        return self._records("seq > ?", seq)

    def span(self) -> tuple[str, int, str]:
        """Hash of the first record, number of records, hash of the last one: what an anchor says."""
        first = self._all("SELECT hash FROM records ORDER BY seq LIMIT 1")
        count = int(self._all("SELECT COALESCE(MAX(seq), 0) FROM records")[0][0])
        return str(first[0][0]) if first else GENESIS, count, self.head()

    def head(self) -> str:
        """Hash of the last record."""
        rows = self._all("SELECT hash FROM records ORDER BY seq DESC LIMIT 1")
        return str(rows[0][0]) if rows else GENESIS

    def damage(self) -> str:
        """What SQLite finds wrong with the database as a file, "" if nothing."""
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    def _records(self, where: str, *values: object) -> list[Record]:
        query = f"SELECT seq, kind, experiment_id, line, hash FROM records WHERE {where} ORDER BY seq"  # noqa: S608
        return [
            Record(seq=seq, kind=kind, experiment_id=number, line=line, hash=digest)
            for seq, kind, number, line, digest in self._all(query, *values)
        ]

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._guard:
                return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(self.folder, error) from error

    def _append(self, kind: str, experiment_id: int | None, body: dict[str, Any], diff: str = "") -> Record:
        said = {
            "seq": int(self._all("SELECT COALESCE(MAX(seq), 0) + 1 FROM records")[0][0]),
            "kind": kind,
            "experiment_id": experiment_id,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "body": body,
            "previous": self.head(),
        }
        line = canonical(said)
        try:
            with self._db:
                record = self._insert(said, line, diff)
            self._mirror([line])
        except sqlite3.Error as error:
            raise _translated(self.folder, error) from error
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return record

    def _insert(self, said: dict[str, Any], line: str, diff: str = "") -> Record:
        """Put a record, and what follows from it, into the tables."""
        record = Record(
            seq=said["seq"], kind=said["kind"], experiment_id=said["experiment_id"], line=line,
            hash=hashlib.sha256(line.encode()).hexdigest(),
        )  # fmt: skip
        row = (record.seq, record.kind, record.experiment_id, record.line, record.hash)
        self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row)
        index.follow(self._db, said, diff)
        return record

    def _mirror(self, lines: list[str]) -> None:
        with (self.folder / "record.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def _mirror_missing(self) -> None:
        """Copy what a crash kept from the mirror; a half-written last line is cut off first."""
        path = self.folder / "record.jsonl"
        if not path.exists():
            path.touch(mode=0o600)
        with path.open("rb+") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                file.truncate(whole)
            mirrored = data[:whole].count(b"\n")
        missing = [row[0] for row in self._all("SELECT line FROM records WHERE seq > ? ORDER BY seq", mirrored)]
        self._mirror(missing)


def _translated(folder: Path, error: sqlite3.Error) -> JournalError | RecordFailed:
    path = folder / "journal.db"
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
        return RecordFailed(f"{path}: {text}; free the disk or fix the permissions, nothing recorded was lost")
    return JournalError(f"{path}: {text}; `autoresearch verify` says what is readable; record.jsonl has a copy")
