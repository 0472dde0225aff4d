"""The tables of journal.db: the records, and what follows from them, kept for fast questions.

Sums are kept, not made: what a turn asks for must cost the same after a hundred thousand experiments.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orchestrator.errors import JournalError
from orchestrator.types import Experiment, Status

MIGRATIONS = [
    """
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, experiment_id INTEGER,
        line TEXT NOT NULL, hash TEXT NOT NULL UNIQUE
    );
    CREATE INDEX records_by_kind ON records (kind, experiment_id);
    CREATE TABLE experiments (
        id INTEGER PRIMARY KEY, status TEXT NOT NULL, value REAL, retry_of INTEGER,
        fingerprint TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX experiments_by_status ON experiments (status, value);
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
    CREATE INDEX experiments_by_measured ON experiments (json_extract(body, '$.remeasures_id'))
        WHERE json_extract(body, '$.remeasures_id') IS NOT NULL;
    CREATE INDEX experiments_run_often ON experiments (id) WHERE json_array_length(body, '$.repeat_scores') > 1;
    """,
]
VERSION = len(MIGRATIONS)
SPENDING = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cost_usd")
CHARGED = f"SELECT {', '.join(f'TOTAL({name})' for name in SPENDING)} FROM spending"  # noqa: S608 - our own names
PROJECTED = "SELECT id, status, value, retry_of, fingerprint, body FROM experiments"
EXPERIMENT = TypeAdapter(Experiment)
Row = tuple[int, str, float | None, int | None, str, str]


def canonical(value: object) -> str:
    """JSON with sorted keys, no spaces and no NaN: one value, one text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """How many migrations a database has had. Raises JournalError if there were more than we know."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise JournalError(
            f"{path}: written by a newer version ({version}, this one knows {VERSION}); use that version"
        )
    return version


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring a database up to date. Raises JournalError."""
    for number in range(version_of(db, path), VERSION):
        db.executescript(f"BEGIN; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT")


def row_of(said: dict[str, Any]) -> Row:
    """The row of the table of experiments that follows from what a record says of one."""
    done = EXPERIMENT.validate_python({**said, "folder": Path()})
    return done.id, done.status.value, done.value, done.retry_of, done.fingerprint, canonical(said)


def projected(rows: Iterable[tuple[Any, ...]]) -> dict[int, Row]:
    """The table of experiments, by id, from what `PROJECTED` found."""
    return {row[0]: (*row[:5], canonical(json.loads(row[5]))) for row in rows}


def replayed(records: Iterable[dict[str, Any]]) -> dict[int, Row]:
    """The table of experiments as it follows from what the records say; what is no record any more is left out."""
    with closing(sqlite3.connect(":memory:")) as db:
        migrate(db, Path(":memory:"))
        for said in records:
            with suppress(ValueError, KeyError, TypeError, AttributeError, sqlite3.Error):
                follow(db, said)
        return projected(db.execute(PROJECTED))


def follow(db: sqlite3.Connection, said: dict[str, Any], diff: str = "") -> None:
    """Bring the tables up to date with what a record says; `diff` is searched by its words."""
    seq, kind, body = said["seq"], said["kind"], said["body"]
    if kind == "experiment.finished":
        _finished(db, body["experiment"], diff)
        if body["experiment"].get("remeasures_id") is not None and body["experiment"]["status"] == Status.CHEAT:
            _fell(db, body["experiment"]["remeasures_id"], f"in experiment {said['experiment_id']}")
    elif kind == "experiment.not_confirmed" and body["failure"] == Status.CHEAT:
        _fell(db, said["experiment_id"], "on the holdout")
    elif kind == "experiment.committed":
        query = "UPDATE experiments SET body = json_set(body, '$.commit', ?) WHERE id = ?"
        db.execute(query, (body["commit"], said["experiment_id"]))
    elif kind == "call.reserved":
        db.execute("INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?)", (seq, *_used(body)))
    elif kind == "call.settled" or (kind == "reply.received" and not body["calls"]):  # else its calls were charged
        db.execute("DELETE FROM spending WHERE seq = ?", (body.get("call"),))
        added = ", ".join(f"{name} = {name} + ?" for name in SPENDING)
        db.execute(f"UPDATE spending SET {added} WHERE seq = 0", _used(body))  # noqa: S608 - our own column names


def _finished(db: sqlite3.Connection, said: dict[str, Any], diff: str) -> None:
    db.execute("INSERT INTO experiments VALUES (?, ?, ?, ?, ?, ?)", row_of(said))
    db.execute(
        "INSERT INTO ends VALUES (?, 1, ?) ON CONFLICT (status)"
        " DO UPDATE SET count = count + 1, duration_s = duration_s + excluded.duration_s",
        (said["status"], said["duration_s"]),
    )
    idea = (said["id"], said["hypothesis"], diff)
    db.execute("INSERT INTO ideas (rowid, hypothesis, diff) VALUES (?, ?, ?)", idea)


def _fell(db: sqlite3.Connection, number: int, where: str) -> None:
    """A kept experiment that cheated when it was run again is kept no more, nor is what was made from it."""
    line = (
        "WITH RECURSIVE line (id) AS (SELECT ? UNION SELECT e.id FROM experiments e JOIN line"
        " ON json_extract(e.body, '$.parent_id') = line.id WHERE e.status = 'keep')"
        " UPDATE experiments SET status = ?, body = json_set(body, '$.status', ?, '$.reason',"
        " json_extract(body, '$.reason') || ?) WHERE status = 'keep' AND id IN (SELECT id FROM line) AND (id = ?) = ?"
    )
    made_from = f"; but made from experiment {number}, which ended as cheat when it was run again, {where}"
    itself = f"; but it ended as cheat when it was run again, {where}"
    db.execute(line, (number, Status.DISCARD, Status.DISCARD, made_from, number, False))
    db.execute(line, (number, Status.CHEAT, Status.CHEAT, itself, number, True))
    sums = "SELECT status, COUNT(*), TOTAL(json_extract(body, '$.duration_s')) FROM experiments GROUP BY 1"
    db.execute("DELETE FROM ends")
    db.execute(f"INSERT INTO ends {sums}")


def _used(body: dict[str, Any]) -> list[float]:
    return [body["usage"][name] for name in SPENDING]
