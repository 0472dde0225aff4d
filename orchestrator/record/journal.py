"""The journal of a run: append an event, or query the state that the events amount to."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from orchestrator import policy
from orchestrator.errors import JournalError, RecordFailed
from orchestrator.events import (
    CallReserved,
    CallSettled,
    Event,
    ExperimentBegun,
    ExperimentFinished,
    NoteRecorded,
    ReplyReceived,
    ReplyRejected,
    SessionEnded,
    SessionFailed,
    SessionStarted,
)
from orchestrator.policy import History
from orchestrator.record import format1, index, known_estimates, record_file
from orchestrator.record.index import EXPERIMENT, SPENDING, Index
from orchestrator.record.record_file import GENESIS, Line, Recorded, RecordFile, parse_line
from orchestrator.text import describe_metric
from orchestrator.types import QUEUED_AGAIN, Champion, Conditions, Experiment, Reply, Spent, Status, Usage

if TYPE_CHECKING:
    from orchestrator.estimates import Estimates

MAX_ATTEMPTS = 3
DUEL = "duel"  # the proposer of a duel's trials
REMOVAL = "removal"  # the proposer of the best file without a change
ENOUGH = 200  # trials that suffice to estimate the noise
SEARCHED = 10_000  # newest experiments: ranking common words over more would make every proposal wait
E = TypeVar("E", bound=Event)
Subscriber = Callable[[Recorded[Event]], None]


class Journal:
    """One run's journal. Opened for writing by one session at a time; readers need no lock."""

    def __init__(self, folder: Path, index: Index, record: RecordFile | None = None, lock: int | None = None) -> None:
        """Use `open`, `read` or `salvage`."""
        self.folder = folder
        self._index = index
        self._record = record
        self._lock = lock
        self._closed = False
        self._guard = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._history: History | None = None
        self._history_seq = 0  # of a reader: the last event that it has
        self._known = known_estimates.Known()
        self._revised = 0  # how many experiments had another verdict before
        self._file = os.open(folder / record_file.NAME, os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open for writing, made if missing. Raises JournalError or RecordFailed."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with ExitStack() as failed:
                failed.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                format1.complete(folder)
                record = RecordFile.open(folder / record_file.NAME)
                failed.callback(record.close)
                journal = cls(folder, Index.open(folder, record.path), record, lock)
                failed.pop_all()
        except BlockingIOError as error:
            raise JournalError(
                f"{folder}: another session is using this run; choose another with --run NAME, or wait for it"
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise RecordFailed(
                    f"{folder}: cannot be locked: {error.strerror}; choose a local file system with --runs FOLDER"
                ) from error
            raise RecordFailed(
                f"{error.filename or folder}: cannot be written: {error.strerror};"
                " fix the permissions or choose another folder with --runs"
            ) from error
        else:
            return journal

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open for reading only. Raises JournalError if there is no such run, or if its record is damaged."""
        return cls(folder, Index.read(folder, _existing(folder)))

    @classmethod
    def salvage(cls, folder: Path) -> Self:
        """Read the intact lines of a damaged record, and its index; verify names the others. Raises JournalError."""
        salvaged = Index.build(folder, _existing(folder), skip_damaged=True)
        salvaged.take_known_experiments()
        return cls(folder, salvaged)

    @property
    def damaged(self) -> tuple[str, ...]:
        """Return the lines that `salvage` left out, each with the reason."""
        return tuple(self._index.damaged)

    def refresh(self) -> None:
        """Read the events that another process has recorded since."""
        with self._guard:
            self._index.refresh(self.folder / record_file.NAME)

    def close(self) -> None:
        """Let the next session in."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._index.db.close()
            os.close(self._file)
            if self._record is not None:
                self._record.close()
            if self._lock is not None:
                os.close(self._lock)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next session in."""
        self.close()

    # ---- events

    def append(self, event: E) -> Recorded[E]:
        """Record an event, on the disk when this returns, then call every subscriber. Raises RecordFailed."""
        if self._record is None:
            raise RecordFailed(f"{self.folder}: opened for reading only")
        with self._guard:
            if self._closed:  # a thread that outlived its session; the file's number may be another's by now
                raise RecordFailed(f"{self.folder}: closed")
            recorded, line = self._record.append(event)
            self._index.append(recorded, line)
            if isinstance(event, ExperimentFinished | SessionStarted) or getattr(event, "revisions", None):
                self._history = None
        for subscriber in self._subscribers:
            subscriber(recorded)
        return recorded  # type: ignore[return-value]  # the very event

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call a function with every event from now on, in the thread that appends it."""
        self._subscribers.append(subscriber)

    def events(self, kind: type[E], experiment_id: int | None = None, after: int = 0) -> list[Recorded[E]]:
        """Return the events of one kind in order, of one experiment or of all, after a seq."""
        query, values = "SELECT seq, offset, size FROM events WHERE kind = ? AND seq > ?", [kind.kind, after]
        if experiment_id is not None:
            query, values = f"{query} AND experiment_id = ?", [*values, experiment_id]
        return [self._read(*row) for row in self._rows(f"{query} ORDER BY seq", *values)]  # type: ignore[misc]

    def events_after(self, seq: int) -> list[Recorded[Event]]:
        """Return every event after a seq."""
        query = "SELECT seq, offset, size FROM events WHERE seq > ? ORDER BY seq"
        return [self._read(*row) for row in self._rows(query, seq)]

    def last_event(self, kind: type[E]) -> Recorded[E] | None:
        """Return the newest event of one kind, None if there is none."""
        query = "SELECT seq, offset, size FROM events WHERE kind = ? ORDER BY seq DESC LIMIT 1"
        return next((self._read(*row) for row in self._rows(query, kind.kind)), None)  # type: ignore[return-value]

    def begun(self, experiment_id: int) -> ExperimentBegun:
        """Return how an experiment began. Raises JournalError."""
        return self._only(ExperimentBegun, experiment_id)

    def finished(self, experiment_id: int) -> ExperimentFinished:
        """Return how an experiment finished. Raises JournalError."""
        return self._only(ExperimentFinished, experiment_id)

    def head(self) -> str:
        """Return the hash of the last line."""
        rows = self._rows("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")
        return str(rows[0][0]) if rows else GENESIS

    def span(self) -> tuple[str, int, str]:
        """Return the hash of the first line, the number of lines, and the hash of the last: what an anchor names."""
        first = self._rows("SELECT hash FROM events ORDER BY seq LIMIT 1")
        count = int(self._rows("SELECT COALESCE(MAX(seq), 0) FROM events")[0][0])
        return str(first[0][0]) if first else GENESIS, count, self.head()

    # ---- experiments

    def experiments(self) -> list[Experiment]:
        """Return every finished experiment, oldest first."""
        return self._experiments("1")

    def experiment(self, experiment_id: int) -> Experiment:
        """Return one finished experiment. Raises JournalError if there is none."""
        found = self._experiments("id = ?", experiment_id)
        if not found:
            raise JournalError(
                f"{self.folder}: no finished experiment {experiment_id}; `autoresearch status` lists them"
            )
        return found[0]

    def newest(self, limit: int, status: Status | None = None) -> list[Experiment]:
        """Return the newest finished experiments, newest first."""
        if status is None:
            return self._experiments("1", order="id DESC", limit=limit)
        return self._experiments("status = ?", status, order="id DESC", limit=limit)

    def finish_order(self) -> list[int]:
        """Return the numbers of all finished experiments in the order they finished."""
        query = "SELECT experiment_id FROM events WHERE kind = ? ORDER BY seq"
        return [int(row[0]) for row in self._rows(query, ExperimentFinished.kind)]

    def kept(self) -> list[Experiment]:
        """Return every kept experiment, oldest first."""
        return self._experiments("status = ?", Status.KEEP)

    def baseline(self) -> Experiment | None:
        """Return the first kept experiment; None before there is one."""
        return next(iter(self._experiments("status = ?", Status.KEEP, limit=1)), None)

    def discarded_ideas(self, best: int, newest: int) -> list[Experiment]:
        """Return the discarded ideas with the best scores, and the newest ones, each once."""
        where = "status = ? AND remeasures_id IS NULL"
        found = self._experiments(where, Status.DISCARD, order="value", limit=best)
        found += self._experiments(where, Status.DISCARD, order="id DESC", limit=newest)
        return list({e.id: e for e in found}.values())

    def find(self, ids: Collection[int]) -> list[Experiment]:
        """Return those of these experiments that have finished, oldest first."""
        return self._experiments(f"id IN ({', '.join('?' * len(ids))})", *sorted(ids))

    def remeasurements(self) -> list[Experiment]:
        """Return the newest judged repeats of kept experiments, newest first."""
        where = "remeasures_id IS NOT NULL AND value IS NOT NULL AND status NOT IN (?, ?)"
        return self._experiments(where, *QUEUED_AGAIN, order="+id DESC", limit=ENOUGH)  # by id SQLite reads every row

    def last_remeasurement(self, experiment_id: int, conditions: Conditions) -> Experiment | None:
        """Return the newest repeat of a kept experiment under these conditions, judged or not."""
        found = self._experiments("remeasures_id = ?", experiment_id, order="id DESC", limit=ENOUGH)
        return next((e for e in found if e.conditions == conditions), None)

    def repeats(self, fingerprint: str) -> list[Experiment]:
        """Return the judged experiments whose normalised source is the same."""
        return [e for e in self._experiments("fingerprint = ?", fingerprint) if e.is_judged]

    def removals(self, experiment_id: int) -> list[Experiment]:
        """Return the experiments that took a change out of the best file of then."""
        return self._experiments("removes_id = ?", experiment_id)

    def similar(self, text: str, limit: int) -> list[Experiment]:
        """Return experiments whose hypothesis or diff shares words with `text`, closest first."""
        words = " OR ".join(f'"{word}"' for word in sorted({w for w in _words(text) if len(w) > 2})[:64])  # noqa: PLR2004
        query = (
            "SELECT body FROM ideas JOIN experiments ON experiments.id = ideas.rowid"
            " WHERE ideas MATCH ? AND ideas.rowid > ? ORDER BY rank LIMIT ?"
        )
        oldest = self.next_id() - SEARCHED
        return [self._experiment(row[0]) for row in self._rows(query, words, oldest, limit)] if words else []

    def unfinished(self) -> list[ExperimentBegun]:
        """Return the experiments that began and have not finished: under way, or left by a crash."""
        rows = self._rows("SELECT seq, offset, size FROM events JOIN unfinished USING (seq) ORDER BY seq")
        return [self._read(*row).event for row in rows]  # type: ignore[misc]  # by their kind

    def queued(self) -> list[Experiment]:
        """Return the experiments of which another attempt is due."""
        again = "status IN (?, ?) AND id NOT IN (SELECT retry_of FROM experiments WHERE retry_of IS NOT NULL)"
        due = self._experiments(again, *QUEUED_AGAIN)
        return [e for e in due if e.attempt < MAX_ATTEMPTS and e.proposer != DUEL]  # a duel draws the pair anew

    def next_id(self) -> int:
        """Return the number that the next experiment gets."""
        return int(self._rows("SELECT COALESCE(MAX(experiment_id), -1) + 1 FROM events")[0][0])

    def count(self) -> int:
        """Return how many experiments have finished."""
        return int(self._rows("SELECT COALESCE(SUM(count), 0) FROM totals")[0][0])

    def device_seconds(self, after: int, without: str) -> float:
        """Return the device time of the experiments after one, without those of a proposer."""
        query = (
            "SELECT COALESCE(SUM(json_extract(body, '$.duration_s')), 0) FROM experiments"
            " WHERE id > ? AND json_extract(body, '$.proposer') != ?"
        )
        return float(self._rows(query, after, without)[0][0])

    def since_improvement(self, champion_id: int) -> int:
        """Return how many ideas were judged since the champion was found; repeats of it are no ideas."""
        query = "SELECT COUNT(*) FROM experiments WHERE id > ? AND remeasures_id IS NULL AND status NOT IN (?, ?)"
        return int(self._rows(query, champion_id, *QUEUED_AGAIN)[0][0])

    # ---- what it amounts to

    def history(self) -> History:
        """Return the history that verdicts depend on."""
        with self._guard:
            seq = 0 if self._record is not None else self.span()[1]  # a reader is not told what the writer appends
            if self._history is None or seq != self._history_seq:
                self._history_seq = seq
                revised = self._experiments("revised")
                repeated = self._experiments("trials > 1", order="id DESC", limit=ENOUGH)
                kept, remeasurements = self.kept(), self.remeasurements()[::-1]
                started, away = self.last_event(SessionStarted), self._away((*kept, *remeasurements))
                self._history = History(
                    kept=tuple(kept),
                    remeasurements=tuple(remeasurements),
                    repeated=tuple(repeated[::-1]),
                    invalidated={e.id: e.reason for e in revised},
                    estimates=self._learn(away),
                    threshold=self.threshold(),
                    home=started.event.environment.hardware if started else "",
                    away=away,
                )
            return self._history

    def estimates(self) -> Mapping[Conditions, "Estimates"]:
        """Return what the trials under each conditions say of the kept sources; empty under another rule."""
        return self.history().estimates

    def _learn(self, away: Collection[int]) -> Mapping[Conditions, "Estimates"]:
        if self.rule() != policy.ESTIMATE:
            return {}
        revised = int(self._rows("SELECT COUNT(*) FROM experiments WHERE revised")[0][0])
        if not self._known.learnt or revised != self._revised:  # what cheated taught nothing
            self._known, self._revised = known_estimates.load(self._index), revised
        order = "SELECT seq, experiment_id FROM events WHERE kind = ? AND seq > ? ORDER BY seq"
        news = [(int(row[0]), int(row[1])) for row in self._rows(order, ExperimentFinished.kind, self._known.learnt)]
        first = min((number for _, number in news), default=self.next_id())
        found = {e.id: e for e in self._experiments("NOT revised AND id >= ?", first)}
        for seq, number in news:
            self._known.learn(seq, number, found.get(number), is_away=number in away)
        if self._record is not None and len(self._known.unsaved) >= known_estimates.EVERY:
            known_estimates.save(self._index, self._known)
        return dict(self._known.estimates)

    def best_after(self, first: int = 0) -> dict[int, float | None]:
        """Return the estimated score of the best after each experiment from `first` on; {} under another rule."""
        if not self.estimates():
            return {}
        sign = next((e.sign for e in self._experiments("value IS NOT NULL", limit=1)), 1)
        costs = known_estimates.costs_after(self._index, self._known, first)
        return {number: None if cost is None else sign * cost for number, cost in costs.items()}

    def _away(self, measured: Collection[Experiment]) -> frozenset[int]:
        """Return which experiments ran on another class of hardware than their session's own."""
        if len({e.hardware for e in measured}) <= 1:  # as on one machine
            return frozenset()
        sessions = [(r.seq, r.event.environment.hardware) for r in self.events(SessionStarted)]
        query = "SELECT experiment_id, seq FROM events WHERE kind = ?"
        begun = {int(row[0]): int(row[1]) for row in self._rows(query, ExperimentBegun.kind)}

        def is_away(e: Experiment) -> bool:
            own = next((hardware for seq, hardware in reversed(sessions) if seq < begun.get(e.id, 0)), "")
            return bool(own and e.hardware and own != e.hardware)

        return frozenset(e.id for e in measured if is_away(e))

    def session_seq(self) -> int:
        """Return the seq at which the newest session began."""
        started = self.last_event(SessionStarted)
        return started.seq if started else 0

    def rule(self) -> str:
        """Return the rule of keeping that the run goes by."""
        started = self.last_event(SessionStarted)
        return started.event.rule if started else ""

    def threshold(self) -> float | None:
        """Return the score from which on the run keeps everything; None where it keeps what is better."""
        started = self.last_event(SessionStarted)
        return started.event.threshold if started else None

    def parent(self) -> Champion | None:
        """Return the kept experiment that the next proposal begins with; None before there is one."""
        return self.history().parent

    def champion(self) -> Champion | None:
        """Return the best kept experiment; None before there is one."""
        return self.history().champion

    def has_kept(self) -> bool:
        """Return whether anything was ever kept, even if it was revised since."""
        return self.baseline() is not None or bool(self._experiments("revised", limit=1))

    def metric(self) -> str:
        """Return the task's name for its score."""
        first = self.events(SessionStarted)[:1]
        return first[0].event.metric if first else "value"

    def metric_facts(self) -> dict[str, str]:
        """Return the metric's name, its unit and which scores are better, for programs."""
        newest = self.last_event(SessionStarted)
        unit, direction = (newest.event.unit, newest.event.direction) if newest else ("", "lower")
        return {"name": self.metric(), "unit": unit, "direction": direction}

    def describe_metric(self) -> str:
        """Return the same in words."""
        return describe_metric(*self.metric_facts().values())

    def spent(self) -> Spent:
        """Return the time and money that the run has used so far, over all sessions."""
        rows = self._rows("SELECT status, count, duration_s FROM totals")
        judged = sum(count for status, count, _ in rows if status not in QUEUED_AGAIN)
        query = "SELECT COUNT(*) FROM experiments WHERE remeasures_id IS NOT NULL AND status NOT IN (?, ?)"
        judged -= int(self._rows(query, *QUEUED_AGAIN)[0][0])
        return Spent(
            experiments=max(0, judged - self.has_kept()),
            inconclusive=sum(count for status, count, _ in rows if status in QUEUED_AGAIN),
            device_seconds=sum(seconds for _, _, seconds in rows),
            usage=self.charged(),
            consecutive_infra=self._consecutive_infra(),
        )

    def last_session(self) -> Recorded[Event] | None:
        """Return how the newest session ended, or that it began; a start that failed does not count."""
        started, ended = self.last_event(SessionStarted), self.last_event(SessionEnded)
        if started is None or (ended is not None and ended.seq > started.seq):
            return ended
        failed = self.events(SessionFailed, after=started.seq)
        return failed[0] if failed else started

    def note(self, text: str) -> None:
        """Record what the user should know, once a session. Raises RecordFailed."""
        started = self.last_event(SessionStarted)
        noted = self.events(NoteRecorded, after=started.seq if started else 0)
        if text not in {one.event.text for one in noted}:
            self.append(NoteRecorded(text=text))

    def notes(self) -> list[str]:
        """Return what was noted in the newest session, and while it was set up."""
        started = self.last_event(SessionStarted)
        ends = [end.seq for kind in (SessionEnded, SessionFailed) for end in self.events(kind)]
        before = max((seq for seq in ends if started is not None and seq < started.seq), default=0)
        return list(dict.fromkeys(one.event.text for one in self.events(NoteRecorded, after=before)))

    # ---- replies and their cost

    def pending_reply(self, hardware: str = "") -> tuple[int, Reply] | None:
        """Return a reply that was paid for and stored, but not used yet; on request for one class of hardware."""
        last = self.last_event(ReplyReceived) if not hardware else self._last_reply_for(hardware)
        if last is None or any(r.event.reply == last.seq for r in self.events(ReplyRejected, after=last.seq)):
            return None
        begun = (found.event for found in self.events(ExperimentBegun, after=last.seq))
        here = (event for event in begun if hardware in ("", event.environment.hardware))
        if any(event.retry_of is event.remeasures_id is event.removes_id is None for event in here):
            return None
        return last.seq, last.event.reply

    def _last_reply_for(self, hardware: str) -> Recorded[ReplyReceived] | None:
        query = "SELECT seq, offset, size FROM events WHERE kind = ? ORDER BY seq DESC LIMIT ?"
        for row in self._rows(query, ReplyReceived.kind, ENOUGH):
            found: Recorded[ReplyReceived] = self._read(*row)  # type: ignore[assignment]  # by its kind
            if found.event.reply.hardware == hardware:
                return found
        return None

    def last_reply(self) -> Reply:
        """Return the newest reply. Raises JournalError if there is none."""
        last = self.last_event(ReplyReceived)
        if last is None:
            raise JournalError(f"{self.folder}: no reply is recorded")
        return last.event.reply

    def reserve(self, worst: Usage) -> int:
        """Record that a call may cost this much, before it is made; return the number of the reservation."""
        return self.append(CallReserved(usage=worst)).seq

    def settle(self, call: int, actual: Usage) -> None:
        """Replace a reservation by the actual cost; one that is never settled stays at its worst case."""
        self.append(CallSettled(call=call, usage=actual))

    def charged(self) -> Usage:
        """Return the run's spending, with open reservations at their worst case."""
        totals = ", ".join(f"TOTAL({name})" for name in SPENDING)
        row = self._rows(f"SELECT {totals} FROM spending")[0]  # noqa: S608  # our own names
        return Usage(**{name: int(value) for name, value in zip(SPENDING[:-1], row, strict=False)}, cost_usd=row[-1])

    @staticmethod
    def as_json(experiment: Experiment) -> dict[str, Any]:
        """Return an experiment as plain data, without its folder."""
        data: dict[str, Any] = EXPERIMENT.dump_python(experiment, mode="json", exclude={"folder"})
        return data

    # ---- inside

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._guard:
            return self._index.rows(query, *values)

    def _read(self, seq: int, offset: int, size: int) -> Recorded[Event]:
        line = Line(number=seq, offset=offset, data=os.pread(self._file, size, offset))
        return parse_line(line, self.folder / record_file.NAME)

    def _only(self, kind: type[E], experiment_id: int) -> E:
        found = self.events(kind, experiment_id)
        if not found:
            raise JournalError(f"{self.folder}: no {kind.kind} of experiment {experiment_id} is recorded")
        return found[0].event

    def _experiments(self, where: str, *values: object, order: str = "id", limit: int = -1) -> list[Experiment]:
        query = f"SELECT body FROM experiments WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608  # ours
        return [self._experiment(row[0]) for row in self._rows(query, *values, limit)]

    def _experiment(self, body: str) -> Experiment:
        try:
            experiment = EXPERIMENT.validate_json(body)
        except ValueError as error:
            raise JournalError(
                f"{self.folder / index.NAME}: damaged; delete it: it is rebuilt from the record"
            ) from error
        return replace(experiment, folder=self.folder / f"{experiment.id:04d}")

    def _consecutive_infra(self) -> int:
        """Return how many experiments of this session failed in a row; earlier sessions do not count."""
        started = self.last_event(SessionStarted)
        rows = self._rows(
            "SELECT status FROM events JOIN experiments ON experiment_id = id WHERE kind = ? AND seq > ?"
            " ORDER BY seq DESC LIMIT 100",
            ExperimentFinished.kind, started.seq if started else 0,
        )  # fmt: skip
        count = 0
        while count < len(rows) and rows[count][0] == Status.INFRA:
            count += 1
        return count


def is_live(folder: Path) -> bool:
    """Return whether a session is writing this run."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _existing(folder: Path) -> Path:
    path = folder / record_file.NAME
    if not path.is_file():
        raise JournalError(f"{path}: no such run; `autoresearch runs` lists them")
    return path


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()
