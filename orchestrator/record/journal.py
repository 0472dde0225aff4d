"""The journal: the only state of a run, as what a session writes into it and asks of it.

`begin` is on disk before anything untrusted runs, `finish` after; what a session needs to go on is asked of the tables.
"""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter

from orchestrator.errors import JournalError
from orchestrator.record import index
from orchestrator.record.chain import Chain, Record
from orchestrator.record.index import EXPERIMENT, SPENDING, Row
from orchestrator.scoring import noise
from orchestrator.types import Candidate, Experiment, Proposal, Reply, Spent, Status, Usage

QUEUED_AGAIN = (Status.INFRA, Status.CONTENDED)
MAX_ATTEMPTS = 3
MEASURED = 200  # runs enough to know the noise, and keeps enough to find the best among
SEARCHED = 10_000  # newest experiments: ranking common words over more would make every proposal wait

_REPLY = TypeAdapter(Reply)
_PROPOSAL = TypeAdapter(Proposal)


class Journal(Chain):
    """One run's journal."""

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
        row = self._all(index.CHARGED)[0]
        return Usage(**{name: int(value) for name, value in zip(SPENDING[:-1], row, strict=False)}, cost_usd=row[-1])

    def begin(self, candidate: Candidate, *, intent: dict[str, Any]) -> int:
        """Commit that an experiment starts, before anything untrusted runs; returns its id."""
        with self._guard:
            experiment_id = self.next_id()
            body = {
                "attempt": candidate.attempt,
                "retry_of": candidate.retry_of,
                "remeasures_id": candidate.remeasures_id,
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
            return self._append("experiment.finished", experiment.id, body, diff)

    def committed(self, experiment: Experiment, commit: str) -> None:
        """Say which git commit holds a kept patch; comes after `finish`, whose hash the commit names."""
        with self._guard:
            self._append("experiment.committed", experiment.id, {"commit": commit})

    # ---- reading

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
            raise JournalError(
                f"{self.folder}: no finished experiment {experiment_id}; `autoresearch status` lists them"
            )
        return found[0]

    def best(self) -> Experiment | None:
        """The kept experiment with the lowest val_bpb, over all its runs and those that measured it again later."""
        kept = self.experiments("status = ?", Status.KEEP, order="value, id", limit=MEASURED)
        return noise.best_of(kept, self.again())

    def again(self) -> list[Experiment]:
        """Kept experiments that ran once more to see whether they hold, and were judged; newest first."""
        where = "json_extract(body, '$.remeasures_id') IS NOT NULL AND value IS NOT NULL AND status NOT IN (?, ?)"
        return self.experiments(
            where, *QUEUED_AGAIN, order="+id DESC", limit=MEASURED
        )  # by `id` SQLite would read every row

    def metric(self) -> str:
        """What the task calls the number that `val_bpb` is here."""
        for started in self.records("session.started"):
            return str(started.body.get("metric", "val_bpb"))
        return "val_bpb"

    def repeated(self) -> list[Experiment]:
        """Experiments that ran more than once, newest first: what is known of the noise."""
        return self.experiments("json_array_length(body, '$.repeat_scores') > 1", order="id DESC", limit=MEASURED)

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
        return self._records("kind = 'experiment.begun' AND experiment_id NOT IN (SELECT id FROM experiments)")

    def last_word(self) -> Record | None:
        """How its newest session ended, or that it began; a start that failed is none. None if there was none."""
        last = None
        for one in self._records("kind IN ('session.started', 'session.ended', 'session.failed')"):
            if one.kind != "session.failed" or (last is not None and last.kind == "session.started"):
                last = one
        return last

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
            " AND json_extract(line, '$.body.remeasures_id') IS NULL)"
        )
        if not last or self._all(acted, last[0][0]):
            return None
        return int(last[0][0]), _REPLY.validate_python(json.loads(last[0][1])["body"])

    def last_reply(self) -> Reply:
        """The newest reply. Raises JournalError if there is none."""
        last = self._all("SELECT line FROM records WHERE kind = 'reply.received' ORDER BY seq DESC LIMIT 1")
        if not last:
            raise JournalError(f"{self.folder}: no reply is recorded")
        return _REPLY.validate_python(json.loads(last[0][0])["body"])

    def projected(self) -> dict[int, Row]:
        """The table of experiments as it stands."""
        return index.projected(self._all(index.PROJECTED))

    @staticmethod
    def as_json(experiment: Experiment) -> dict[str, Any]:
        """An experiment as plain data, without its folder."""
        data: dict[str, Any] = EXPERIMENT.dump_python(experiment, mode="json", exclude={"folder"})
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
        again = "json_extract(body, '$.remeasures_id') IS NOT NULL AND status NOT IN (?, ?)"
        judged -= self.count(again, *QUEUED_AGAIN)
        return Spent(
            experiments=max(0, judged - self._has_baseline()),
            inconclusive=sum(count for status, count, _ in rows if status in QUEUED_AGAIN),
            device_seconds=sum(seconds for _, _, seconds in rows),
            usage=self.charged(),
            consecutive_infra=self._consecutive_infra(),
        )

    # ---- inside

    def _has_baseline(self) -> bool:
        """Whether something was kept, though it may be kept no more."""
        placed = "SELECT 1 FROM records WHERE kind = 'experiment.committed' LIMIT 1"
        return bool(self.experiments("status = ?", Status.KEEP, limit=1) or self._all(placed))

    def _consecutive_infra(self) -> int:
        """Of this session: what a person has fixed meanwhile does not count."""
        rows = self._all(
            "SELECT json_extract(line, '$.body.experiment.status') FROM records WHERE kind = 'experiment.finished' AND"
            " seq > (SELECT COALESCE(MAX(seq), 0) FROM records WHERE kind = 'session.started')"
            " ORDER BY seq DESC LIMIT 100"
        )
        count = 0
        while count < len(rows) and rows[count][0] == Status.INFRA:
            count += 1
        return count

    def _experiment(self, body: str) -> Experiment:
        values = json.loads(body)
        return replace(
            EXPERIMENT.validate_python({**values, "folder": self.folder}),
            folder=self.folder / f"{values['id']:04d}",
        )


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()
