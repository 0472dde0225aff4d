"""The journal: the only state of a run. Append-only, every record hashed with the one before it.

A record is one line of canonical JSON. It is committed to journal.db first and mirrored to record.jsonl, which any
tool can read; `begin` is on disk before anything untrusted runs, `finish` after. Tables beside `records` are
projections for fast questions and can be rebuilt from it.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from orchestrator import noise, seal
from orchestrator.errors import AutoresearchError, JournalError, RecordFailed
from orchestrator.types import Candidate, Experiment, Proposal, Reply, Spent, Status, Usage

MIGRATIONS = [
    """
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, experiment_id INTEGER,
        line TEXT NOT NULL, hash TEXT NOT NULL UNIQUE
    );
    CREATE INDEX records_by_kind ON records (kind, experiment_id);
    CREATE TABLE experiments (
        id INTEGER PRIMARY KEY, status TEXT NOT NULL, val_bpb REAL, retry_of INTEGER,
        fingerprint TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX experiments_by_status ON experiments (status, val_bpb);
    CREATE INDEX experiments_by_fingerprint ON experiments (fingerprint);
    CREATE VIRTUAL TABLE ideas USING fts5 (hypothesis, diff, tokenize = 'porter unicode61');
    """,
    # what a turn asks for must cost the same after a hundred thousand experiments: sums are kept, not made.
    # spending: seq 0 holds what is settled, every other row is a call that may still be going on
    """
    CREATE TABLE spending (
        seq INTEGER PRIMARY KEY, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL, cache_read_input_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL
    );
    INSERT INTO spending SELECT 0,
        TOTAL(json_extract(line, '$.body.usage.input_tokens')), TOTAL(json_extract(line, '$.body.usage.output_tokens')),
        TOTAL(json_extract(line, '$.body.usage.cache_creation_input_tokens')),
        TOTAL(json_extract(line, '$.body.usage.cache_read_input_tokens')),
        TOTAL(json_extract(line, '$.body.usage.cost_usd'))
        FROM records WHERE kind = 'reply.received';
    CREATE TABLE ends (status TEXT PRIMARY KEY, count INTEGER NOT NULL, duration_s REAL NOT NULL);
    INSERT INTO ends SELECT status, COUNT(*), TOTAL(json_extract(body, '$.duration_s')) FROM experiments GROUP BY 1;
    CREATE INDEX experiments_by_status_and_id ON experiments (status, id);
    CREATE INDEX experiments_by_retry ON experiments (retry_of) WHERE retry_of IS NOT NULL;
    CREATE INDEX records_by_experiment ON records (experiment_id);
    CREATE INDEX records_by_kind_and_seq ON records (kind, seq);
    """,
    """
    CREATE INDEX experiments_by_measured ON experiments (json_extract(body, '$.measures'))
        WHERE json_extract(body, '$.measures') IS NOT NULL;
    CREATE INDEX experiments_run_often ON experiments (id) WHERE json_array_length(body, '$.measured') > 1;
    """,
]
VERSION = len(MIGRATIONS)
_SPENDING = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cost_usd")
GENESIS = "0" * 64
QUEUED_AGAIN = (Status.INFRA, Status.CONTENDED)
MAX_ATTEMPTS = 3
MEASURED = 200  # runs enough to know the noise, and keeps enough to find the best among
SEARCHED = 10_000  # newest experiments: ranking common words over more would make every proposal wait

_EXPERIMENT = TypeAdapter(Experiment)
_REPLY = TypeAdapter(Reply)
_PROPOSAL = TypeAdapter(Proposal)


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
    def at(self) -> str:
        """When it was written: ISO 8601, UTC."""
        return str(json.loads(self.line)["at"])


def canonical(value: object) -> str:
    """JSON with sorted keys, no spaces and no NaN: one value, one text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Journal:
    """One run's journal. Opened for writing by one session at a time; readers need no lock."""

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
            journal = cls(folder, connection, lock_file)
            journal._migrate()
            seal.remove(folder)
            journal._mirror_missing()
        except BlockingIOError as error:
            message = f"{folder}: another session is using this run; choose another RUN=tag or wait for it"
            raise JournalError(message) from error
        except OSError as error:
            message = f"{error.filename or folder}: cannot be written: {error.strerror}; mend it, or use --runs DIR"
            raise RecordFailed(message) from error
        except sqlite3.Error as error:
            raise _translated(folder, error) from error
        return journal

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open for reading only. Raises JournalError if there is none."""
        path = folder / "journal.db"
        if not path.is_file():
            message = f"{path}: no such run; `autoresearch runs` lists those there are"
            raise JournalError(message)
        try:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False, timeout=10)
            journal = cls(folder, connection, None)
            if journal._check_version() < VERSION:  # brought up to date in memory: the file is left as it is
                journal._db = sqlite3.connect(":memory:", check_same_thread=False)
                connection.backup(journal._db)
                connection.close()
                journal._migrate()
        except sqlite3.Error as error:
            raise _translated(folder, error) from error
        return journal

    @classmethod
    def salvage(cls, folder: Path) -> Self:
        """What record.jsonl still tells, in memory: for looking at a run whose database is damaged. Never writes.

        Lines that are no record any more are left out; verify names them. Raises JournalError.
        """
        journal = cls(folder, sqlite3.connect(":memory:", check_same_thread=False), None)
        journal._migrate()
        try:
            lines = (folder / "record.jsonl").read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError as error:
            message = f"{folder / 'record.jsonl'}: cannot be read: {error.strerror}"
            raise JournalError(message) from error
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError, sqlite3.Error), journal._db:
                journal._replay(line)
        return journal

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
        """Close."""
        self.close()

    # ---- writing

    def note(self, kind: str, body: dict[str, Any], experiment_id: int | None = None) -> Record:
        """Append any other fact: a session's start or end, an anchor, a retry. Returns the record."""
        with self._guard:
            return self._append(kind, experiment_id, body)

    def reply(self, reply: Reply) -> tuple[int, Reply]:
        """Store a reply word for word; returns it with its sequence number, to say later what became of it."""
        return self.note("reply.received", _REPLY.dump_python(reply, mode="json")).seq, reply

    def reserve(self, worst: Usage) -> int:
        """Commit that a call may cost this much, before it is made; returns what to settle."""
        return self.note("call.reserved", {"usage": asdict(worst)}).seq

    def settle(self, call: int, actual: Usage) -> None:
        """Replace a reservation by what the call did cost; one never settled stays at its worst case."""
        self.note("call.settled", {"call": call, "usage": asdict(actual)})

    def charged(self) -> Usage:
        """What the run has spent, open reservations at their worst case."""
        totals = ", ".join(f"TOTAL({column})" for column in _SPENDING)
        row = self._all(f"SELECT {totals} FROM spending")[0]  # noqa: S608 - our own column names
        return Usage(**{name: int(value) for name, value in zip(_SPENDING[:-1], row, strict=False)}, cost_usd=row[-1])

    def begin(self, candidate: Candidate, *, intent: dict[str, Any]) -> int:
        """Commit that an experiment starts, before anything untrusted runs; returns its id."""
        with self._guard:
            experiment_id = self.next_id()
            body = {
                "attempt": candidate.attempt,
                "retry_of": candidate.retry_of,
                "measures": candidate.measures,
                "parent_id": candidate.parent_id,
                "reply": _REPLY.dump_python(candidate.reply, mode="json", exclude={"prompt", "text"}),
                "proposal": _PROPOSAL.dump_python(candidate.proposal, mode="json"),
                "source_sha256": hashlib.sha256(candidate.source.encode()).hexdigest(),
                **intent,
            }
            self._append("experiment.begun", experiment_id, body)
            return experiment_id

    def finish(self, experiment: Experiment, *, diff: str = "", facts: dict[str, Any] | None = None) -> Record:
        """Commit how an experiment ended, with the hashes of what its folder holds in `facts`."""
        body = {"experiment": self.as_json(experiment), **(facts or {})}
        with self._guard:
            return self._append("experiment.finished", experiment.id, body, (experiment, diff))

    def committed(self, experiment: Experiment, commit: str) -> None:
        """Say which git commit holds a kept patch; comes after `finish`, whose hash the commit names."""
        with self._guard:
            self._append("experiment.committed", experiment.id, {"commit": commit})
            with self._db:
                query = "UPDATE experiments SET body = json_set(body, '$.commit', ?) WHERE id = ?"
                self._db.execute(query, (commit, experiment.id))

    # ---- reading

    def records(self, kind: str | None = None, experiment_id: int | None = None) -> Iterator[Record]:
        """All records in order, or those of one kind or experiment."""
        query = "SELECT seq, kind, experiment_id, line, hash FROM records WHERE 1"
        values: list[object] = []
        for column, value in (("kind", kind), ("experiment_id", experiment_id)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(value)
        for row in self._all(query + " ORDER BY seq", *values):
            yield Record(seq=row[0], kind=row[1], experiment_id=row[2], line=row[3], hash=row[4])

    def since(self, seq: int) -> Iterator[Record]:
        """Records that came after one."""
        query = "SELECT seq, kind, experiment_id, line, hash FROM records WHERE seq > ? ORDER BY seq"
        for row in self._all(query, seq):
            yield Record(seq=row[0], kind=row[1], experiment_id=row[2], line=row[3], hash=row[4])

    def span(self) -> tuple[str, int, str]:
        """Hash of the first record, number of records, hash of the last one: what an anchor says."""
        first = self._all("SELECT hash FROM records ORDER BY seq LIMIT 1")
        count = int(self._all("SELECT COALESCE(MAX(seq), 0) FROM records")[0][0])
        return str(first[0][0]) if first else GENESIS, count, self.head()

    def head(self) -> str:
        """Hash of the last record."""
        rows = self._all("SELECT hash FROM records ORDER BY seq DESC LIMIT 1")
        return str(rows[0][0]) if rows else GENESIS

    def experiments(self, where: str = "1", *values: object, order: str = "id", limit: int = -1) -> list[Experiment]:
        """Finished experiments, oldest first; `where` and `order` are ours, never outside text."""
        query = f"SELECT body FROM experiments WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608
        return [self._experiment(row[0]) for row in self._all(query, *values, limit)]

    def count(self, where: str = "1", *values: object) -> int:
        """How many finished experiments there are; `where` is ours, never outside text."""
        return int(self._all(f"SELECT COUNT(*) FROM experiments WHERE {where}", *values)[0][0])  # noqa: S608

    def experiment(self, experiment_id: int) -> Experiment:
        """One finished experiment. Raises JournalError if there is none."""
        found = self.experiments("id = ?", experiment_id)
        if not found:
            message = f"{self.folder}: no finished experiment {experiment_id}; `autoresearch status` lists them"
            raise JournalError(message)
        return found[0]

    def best(self) -> Experiment | None:
        """The kept experiment with the lowest val_bpb, over all its runs and those that measured it again later."""
        kept = self.experiments("status = ?", Status.KEEP, order="val_bpb, id", limit=MEASURED)
        return noise.best_of(kept, self.again())

    def again(self) -> list[Experiment]:
        """Kept experiments that ran once more to see whether they hold, and have a score; newest first."""
        where = "json_extract(body, '$.measures') IS NOT NULL AND val_bpb IS NOT NULL"
        return self.experiments(where, order="+id DESC", limit=MEASURED)  # by `id` SQLite would read every row

    def metric(self) -> str:
        """What the task calls the number that `val_bpb` is here."""
        for started in self.records("session.started"):
            return str(started.body.get("metric", "val_bpb"))
        return "val_bpb"

    def repeated(self) -> list[Experiment]:
        """Experiments that ran more than once, newest first: what is known of the noise."""
        return self.experiments("json_array_length(body, '$.measured') > 1", order="id DESC", limit=MEASURED)

    def repeats(self, fingerprint: str) -> list[Experiment]:
        """Judged experiments whose normalised source is the same."""
        return [e for e in self.experiments("fingerprint = ?", fingerprint) if e.status not in QUEUED_AGAIN]

    def similar(self, text: str, limit: int) -> list[Experiment]:
        """Experiments whose hypothesis or diff share words with `text`, closest first."""
        words = " OR ".join(f'"{word}"' for word in sorted({w for w in _words(text) if len(w) > 2})[:64])  # noqa: PLR2004
        if not words:
            return []
        query = (
            "SELECT body FROM ideas JOIN experiments ON experiments.id = ideas.rowid"
            " WHERE ideas MATCH ? AND ideas.rowid > ? ORDER BY rank LIMIT ?"
        )
        oldest = self.next_id() - SEARCHED
        return [self._experiment(row[0]) for row in self._all(query, words, oldest, limit)]

    def unfinished(self) -> list[Record]:
        """Experiments that began and never ended: what a crash left behind."""
        query = (
            "SELECT seq, kind, experiment_id, line, hash FROM records WHERE kind = 'experiment.begun'"
            " AND experiment_id NOT IN (SELECT id FROM experiments) ORDER BY seq"
        )
        return [
            Record(seq=row[0], kind=row[1], experiment_id=row[2], line=row[3], hash=row[4]) for row in self._all(query)
        ]

    def queued(self) -> list[Experiment]:
        """Experiments of which we owe another attempt."""
        states = ", ".join(f"'{status}'" for status in QUEUED_AGAIN)
        again = f"status IN ({states}) AND id NOT IN (SELECT retry_of FROM experiments WHERE retry_of IS NOT NULL)"  # noqa: S608 - our own words
        return [e for e in self.experiments(again) if e.attempt < MAX_ATTEMPTS]

    def pending_reply(self) -> tuple[int, Reply] | None:
        """A reply that was paid for and stored, but never acted on because the session died."""
        last = self._all("SELECT seq, line FROM records WHERE kind = 'reply.received' ORDER BY seq DESC LIMIT 1")
        acted = (
            "SELECT 1 FROM records WHERE seq > ? AND (kind = 'reply.rejected'"
            " OR kind = 'experiment.begun' AND json_extract(line, '$.body.retry_of') IS NULL"
            " AND json_extract(line, '$.body.measures') IS NULL)"
        )
        if not last or self._all(acted, last[0][0]):
            return None
        return int(last[0][0]), _REPLY.validate_python(json.loads(last[0][1])["body"])

    def last_reply(self) -> Reply:
        """The newest reply. Raises JournalError if there is none."""
        last = self._all("SELECT line FROM records WHERE kind = 'reply.received' ORDER BY seq DESC LIMIT 1")
        if not last:
            message = f"{self.folder}: no reply is recorded"
            raise JournalError(message)
        return _REPLY.validate_python(json.loads(last[0][0])["body"])

    def projected(self) -> dict[int, str]:
        """The table of experiments as it stands, each row as text."""
        rows = self._all("SELECT id, status, val_bpb, retry_of, fingerprint, body FROM experiments")
        return {int(row[0]): canonical([*row[:5], canonical(json.loads(row[5]))]) for row in rows}

    @staticmethod
    def row(body: dict[str, Any]) -> str:
        """The row of the table of experiments that a recorded experiment has."""
        experiment = _EXPERIMENT.validate_python({**body, "folder": Path()})
        columns = (experiment.id, experiment.status.value, experiment.val_bpb)
        return canonical([*columns, experiment.retry_of, experiment.fingerprint, canonical(body)])

    def damage(self) -> str:
        """What SQLite finds wrong with the database as a file, "" if nothing."""
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    @staticmethod
    def as_json(experiment: Experiment) -> dict[str, Any]:
        """An experiment as plain data, without its folder."""
        data: dict[str, Any] = _EXPERIMENT.dump_python(experiment, mode="json", exclude={"folder"})
        return data

    @staticmethod
    def proposal(body: dict[str, Any]) -> Proposal:
        """A proposal from its recorded form."""
        return _PROPOSAL.validate_python(body)

    def next_id(self) -> int:
        """The id that the next experiment gets."""
        return int(self._all("SELECT COALESCE(MAX(experiment_id), -1) + 1 FROM records")[0][0])

    def spent(self) -> Spent:
        """What the run has used so far, over all sessions."""
        rows = self._all("SELECT status, count, duration_s FROM ends")
        judged = sum(count for status, count, _ in rows if status not in QUEUED_AGAIN)
        again = "json_extract(body, '$.measures') IS NOT NULL AND status NOT IN (?, ?)"
        judged -= self.count(again, *QUEUED_AGAIN)
        return Spent(
            experiments=max(0, judged - bool(self.experiments("status = ?", Status.KEEP, limit=1))),  # the baseline
            slot_s=sum(seconds for _, _, seconds in rows),
            usage=self.charged(),
            consecutive_infra=self._consecutive_infra(),
        )

    # ---- inside

    def _consecutive_infra(self) -> int:
        """Of this session: what a person has mended meanwhile does not count."""
        rows = self._all(
            "SELECT json_extract(line, '$.body.experiment.status') FROM records WHERE kind = 'experiment.finished' AND"
            " seq > (SELECT COALESCE(MAX(seq), 0) FROM records WHERE kind = 'session.started')"
            " ORDER BY seq DESC LIMIT 100"
        )
        count = 0
        while count < len(rows) and rows[count][0] == Status.INFRA:
            count += 1
        return count

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._guard:
                return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(self.folder, error) from error

    def _append(
        self,
        kind: str,
        experiment_id: int | None,
        body: dict[str, Any],
        finished: tuple[Experiment, str] | None = None,
    ) -> Record:
        seq = int(self._all("SELECT COALESCE(MAX(seq), 0) + 1 FROM records")[0][0])
        line = canonical(
            {
                "seq": seq,
                "kind": kind,
                "experiment_id": experiment_id,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "body": body,
                "previous": self.head(),
            }
        )
        record = Record(
            seq=seq, kind=kind, experiment_id=experiment_id, line=line, hash=hashlib.sha256(line.encode()).hexdigest()
        )
        try:
            with self._db:
                self._db.execute(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?)", (seq, kind, experiment_id, line, record.hash)
                )
                if finished is not None:
                    self._project(*finished)
                self._charge(seq, kind, body)
            self._mirror([line])
        except sqlite3.Error as error:
            raise _translated(self.folder, error) from error
        except OSError as error:
            message = f"{self.folder}: cannot be written: {error.strerror}; free some space or use --runs DIR"
            raise RecordFailed(message) from error
        return record

    def _replay(self, line: str) -> None:
        """Put a record and what follows from it in place, as when it was appended."""
        said = json.loads(line)
        body, number = said["body"], said["experiment_id"]
        digest = hashlib.sha256(line.encode()).hexdigest()
        row = (said["seq"], said["kind"], number, line, digest)
        self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row)
        if said["kind"] == "experiment.finished":
            self._project(_EXPERIMENT.validate_python({**body["experiment"], "folder": self.folder}), "")
        elif said["kind"] == "experiment.committed":
            query = "UPDATE experiments SET body = json_set(body, '$.commit', ?) WHERE id = ?"
            self._db.execute(query, (body["commit"], number))
        self._charge(said["seq"], said["kind"], body)

    def _charge(self, seq: int, kind: str, body: dict[str, Any]) -> None:
        """Keep the sums; a reply that names the calls it took was charged by them."""
        row = [body["usage"][name] for name in _SPENDING] if "usage" in body else []
        if kind == "call.reserved":
            self._db.execute("INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?)", (seq, *row))
        elif kind == "call.settled" or (kind == "reply.received" and not body["calls"]):
            self._db.execute("DELETE FROM spending WHERE seq = ?", (body.get("call"),))
            added = ", ".join(f"{name} = {name} + ?" for name in _SPENDING)
            self._db.execute(f"UPDATE spending SET {added} WHERE seq = 0", row)  # noqa: S608 - our own column names

    def _project(self, experiment: Experiment, diff: str) -> None:
        body = canonical(self.as_json(experiment))
        self._db.execute(
            "INSERT INTO experiments VALUES (?, ?, ?, ?, ?, ?)",
            (
                experiment.id,
                experiment.status.value,
                experiment.val_bpb,
                experiment.retry_of,
                experiment.fingerprint,
                body,
            ),
        )
        self._db.execute(
            "INSERT INTO ends VALUES (?, 1, ?) ON CONFLICT (status)"
            " DO UPDATE SET count = count + 1, duration_s = duration_s + excluded.duration_s",
            (experiment.status.value, experiment.duration_s),
        )
        self._db.execute(
            "INSERT INTO ideas (rowid, hypothesis, diff) VALUES (?, ?, ?)", (experiment.id, experiment.hypothesis, diff)
        )

    def _experiment(self, body: str) -> Experiment:
        values = json.loads(body)
        return replace(
            _EXPERIMENT.validate_python({**values, "folder": self.folder}),
            folder=self.folder / f"{values['id']:04d}",
        )

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

    def _check_version(self) -> int:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            message = (
                f"{self.folder / 'journal.db'}: written by a newer version ({version}, this one knows {VERSION});"
                " use that version"
            )
            raise JournalError(message)
        return version

    def _migrate(self) -> None:
        for number in range(self._check_version(), VERSION):
            self._db.executescript(f"BEGIN; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT")


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()


def _translated(folder: Path, error: sqlite3.Error) -> JournalError | RecordFailed:
    path = folder / "journal.db"
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
        return RecordFailed(f"{path}: {text}; free the disk or mend the permissions, nothing recorded was lost")
    return JournalError(f"{path}: {text}; `autoresearch verify` says what is readable, record.jsonl holds a copy")
