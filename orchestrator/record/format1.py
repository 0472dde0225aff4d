"""Read records of format 1, as written until November 2026: their bodies become those of today's events.

Their database, journal.db, was written before record.jsonl; after a crash it may hold one line more.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from orchestrator.types import Environment

Body = dict[str, Any]
ENVIRONMENT = {field.name for field in fields(Environment)}
REVIEW, INTERRUPTED = "for a person to look at: ", "interrupted: "  # how reasons began that are fields today


def upgrade(kind: str, body: Body) -> tuple[str, Body]:
    """Return the kind and body that today's version would have written. Raises KeyError for what is missing."""
    convert = _CONVERTERS.get(kind)
    return convert(body) if convert else (kind, body)


def complete(folder: Path) -> None:
    """Append to record.jsonl what only the database of format 1 holds. Raises OSError."""
    database, record = folder / "journal.db", folder / "record.jsonl"
    if not database.exists() or not record.exists():
        return
    data = record.read_bytes()
    whole = data.rfind(b"\n") + 1
    query = "SELECT line FROM records WHERE seq > ? ORDER BY seq"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as db:
            missing = [row[0] for row in db.execute(query, (data.count(b"\n"),))]
    except sqlite3.Error:
        return  # record.jsonl is the record; the database was only ahead of it for an instant
    with record.open("rb+") as file:
        file.truncate(whole)
        file.seek(whole)
        file.writelines(f"{line}\n".encode() for line in missing)
        file.flush()
        os.fsync(file.fileno())


def _environment(facts: Body) -> Body:
    renamed = _rename(
        facts, warm_sha256="cache_sha256", accepted="accepted_risks", cap_nats="audit_cap", floor_nats="audit_floor"
    )
    return {name: str(value) for name, value in renamed.items() if name in ENVIRONMENT}


def _rename(body: Body, **names: str) -> Body:
    return {names.get(name, name): value for name, value in body.items()}


def _seeds(body: Body) -> Body:
    return {**body, "seeds": {name: body[name] for name in ("train_seed", "audit_seed_sha256")}}


def _session_started(body: Body) -> tuple[str, Body]:
    rest = {name: body.get(name, "") for name in ("task", "proposer")}
    return "session.started", {
        **rest, "metric": body.get("metric", "val_bpb"), "environment": _environment(body.get("facts", {})),
    }  # fmt: skip


def _session_ended(body: Body) -> tuple[str, Body]:
    offset = {"experiments": body.get("base", {}).get("experiments", 0)}
    return "session.ended", {"reason": body["reason"], "limit_reached": body["limit"], "offset": offset}


def _reply_received(body: Body) -> tuple[str, Body]:
    return "reply.received", {"reply": body}


def _experiment_begun(body: Body) -> tuple[str, Body]:
    names = ("attempt", "retry_of", "parent_id", "reply", "source_sha256", "files")
    return "experiment.begun", {
        **{name: body[name] for name in names},
        "seeds": {"train_seed": body.get("train_seed", 0), "audit_seed_sha256": body.get("audit_seed_sha256", "")},
        "remeasures_id": body.get("measures"),
        "proposal": _rename(body["proposal"], why_again="retry_rationale"),
        "environment": _environment(body),
    }


def _experiment_finished(body: Body) -> tuple[str, Body]:
    old: Body = body["experiment"]
    experiment = _rename(
        old, rule="reason", measured="repeat_scores", measures="remeasures_id", warm_sha256="cache_sha256"
    )
    reason = str(old["rule"])
    experiment |= {
        "reason": reason.removeprefix(REVIEW),
        "needs_review": reason.startswith(REVIEW) or old["status"] == "cheat",
        "interrupted": reason.startswith(INTERRUPTED),
        "score": _score(old["score"]),
    }
    executions = [
        {**one, "role": "exporter" if one["role"] == "courier" else one["role"]} for one in body.get("executions", [])
    ]
    return "experiment.finished", _rename(
        {**body, "experiment": experiment, "executions": executions}, told="self_reported"
    )


def _score(score: Body | None) -> Body | None:
    return score and _rename(score, val_bpb="value", unseen_bpb="undetectable")


def _confirmation(kind: str) -> Callable[[Body], tuple[str, Body]]:
    def convert(body: Body) -> tuple[str, Body]:
        known = {name: value for name, value in body.items() if name not in ("level", "facts", "val_bpb", "scores")}
        known |= {"environment": _environment(body["facts"]), "scores": [_score(one) for one in body["scores"]]}
        if kind == "experiment.confirmed":
            return kind, {**known, "value": body["val_bpb"]}
        return kind, {name: value for name, value in known.items() if name not in ("holdout", "checkpoints")}

    return convert


_CONVERTERS: dict[str, Callable[[Body], tuple[str, Body]]] = {
    "session.started": _session_started,
    "session.ended": _session_ended,
    "reply.received": _reply_received,
    "experiment.begun": _experiment_begun,
    "experiment.finished": _experiment_finished,
    "experiment.run_again": lambda body: (
        "trial.repeated", _seeds(_rename(body, run="trial", most="at_most", val_bpb="mean_so_far")),
    ),
    "experiment.doubted": lambda body: ("experiment.doubted", _seeds(_rename(body, why="reason"))),
    "keep.did_not_hold": lambda body: (
        "champion.replaced", _rename(body, goes_back_to="champion_id", val_bpb="value"),
    ),
    "experiment.confirming": lambda body: ("confirmation.begun", _seeds(body)),
    "experiment.confirmed": _confirmation("experiment.confirmed"),
    "experiment.not_confirmed": _confirmation("confirmation.failed"),
}  # fmt: skip
