"""Frames between the loop, the Ray driver and a slot: a JSON object and some bytes, each capped before it is read."""

import json
import re
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from orchestrator.types import Candidate, Environment, Kept, Plan, Reply, Trial

_HEADER = struct.Struct(">II")
MAX_MESSAGE = 64 << 20  # bytes; a candidate carries a prompt and two whole files
MAX_DATA = 4 << 20  # bytes of a piece of a file
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)+")
MAX_FILES = 64

Message = dict[str, Any]
_CANDIDATE, _TRIAL, _ENVIRONMENT = TypeAdapter(Candidate), TypeAdapter(Trial), TypeAdapter(Environment)


class BrokenFrame(Exception):
    """What arrived is no frame, or too large."""


def send(stream: BinaryIO, message: Message, data: bytes = b"") -> None:
    """Write one frame. Raises OSError."""
    text = json.dumps(message).encode()
    stream.write(_HEADER.pack(len(text), len(data)) + text + data)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[Message, bytes] | None:
    """Read one frame; None at the end of the stream. Raises BrokenFrame."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, size = _HEADER.unpack(header)
    if length > MAX_MESSAGE or size > MAX_DATA:
        raise BrokenFrame(f"a frame of {length} and {size} bytes")
    body = stream.read(length + size)
    if len(body) < length + size:
        return None
    return parse(body[:length]), body[length:]


def parse(text: bytes | str) -> Message:
    """Return a message. Raises BrokenFrame."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise BrokenFrame("not JSON") from error
    if not isinstance(message, dict):
        raise BrokenFrame("not an object")
    return message


def dump_job(
    candidate: Candidate, plan: Plan, *, experiment_id: int, best: float | None, kept: Iterable[Kept] = ()
) -> Message:
    """Return a trial to run as plain data; what was said to and by the LLM stays here."""
    lean = replace(candidate, reply=Reply(proposer=candidate.reply.proposer), parent_source="")
    return {
        "candidate": _CANDIDATE.dump_python(lean, mode="json"),
        "train_seed": plan.train_seed,
        "audit_seed": plan.audit_seed.hex(),
        "experiment_id": experiment_id,
        "best": best,
        "kept": [[one.id, one.source] for one in kept],
    }


def load_candidate(job: Message) -> Candidate:
    """Return the candidate of a job. Raises ValueError."""
    return _CANDIDATE.validate_python(job["candidate"])


def load_kept(job: Message) -> list[Kept]:
    """Return the kept files of the run that go with a job. Raises ValueError."""
    return [Kept(id=int(number), source=str(source)) for number, source in job["kept"]]


def load_plan(job: Message) -> Plan:
    """Return the plan of a job. Raises ValueError."""
    return Plan(train_seed=int(job["train_seed"]), audit_seed=bytes.fromhex(job["audit_seed"]))


def dump_trial(trial: Trial) -> Message:
    """Return a trial as plain data; of its checkpoint file the name."""
    name = Path(trial.checkpoint_file.name) if trial.checkpoint_file else None
    plain: Message = _TRIAL.dump_python(replace(trial, checkpoint_file=name), mode="json")
    return plain


def load_trial(plain: Message, folder: Path) -> Trial:
    """Return a trial whose files are in `folder`. Raises ValueError."""
    trial = _TRIAL.validate_python(plain)
    file = folder / trial.checkpoint_file.name if trial.checkpoint_file else None
    return replace(trial, checkpoint_file=file if file is not None and file.is_file() else None)


def dump_environment(environment: Environment) -> Message:
    """Return an environment as plain data."""
    plain: Message = _ENVIRONMENT.dump_python(environment, mode="json")
    return plain


def load_environment(plain: Message) -> Environment:
    """Return an environment. Raises ValueError."""
    return _ENVIRONMENT.validate_python(plain)
