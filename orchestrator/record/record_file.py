"""record.jsonl, the record itself: canonical JSON lines, each with the hash of the one before it and of its own text.

A line is appended and on the disk before what it announces happens. Any tool can read it; nothing else is the record.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic_core import from_json

from orchestrator.errors import JournalError, RecordTooNew
from orchestrator.events import Event, body_of, experiment_id_of, parse_event
from orchestrator.files import explain_write_error
from orchestrator.record import format1

NAME = "record.jsonl"
FORMAT = 2
GENESIS = "0" * 64
SEAL = ',"sha256":"'  # before the hash of a line's own text
ENVELOPE = {"at", "body", "experiment_id", "kind", "previous", "seq"}  # of format 1
E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Generic[E_co]):
    """An event and its place in the record; `hash` is the SHA-256 of its line."""

    seq: int
    at: str  # ISO 8601, UTC
    hash: str
    previous: str
    event: E_co
    format: int = FORMAT

    @property
    def name(self) -> str:
        """Return what a person finds the line by."""
        about = experiment_id_of(self.event)
        return f"line {self.seq} ({self.event.kind}{'' if about is None else f', experiment {about}'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where a line is in the file; bytes, without its newline."""

    number: int  # from 1
    offset: int
    data: bytes


def canonical(value: object) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: one value, one text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def seal(text: str) -> str:
    """Return a line with the hash of its own text as its last key, so that any changed byte is seen by itself."""
    return f'{text[:-1]}{SEAL}{hashlib.sha256(text.encode()).hexdigest()}"}}'


def _is_sealed(data: bytes) -> bool:
    """Return whether a line ends with the hash of its own text."""
    begin, _, end = data.rpartition(SEAL.encode())
    return end == f'{hashlib.sha256(begin + b"}").hexdigest()}"}}'.encode()


def read_lines(path: Path, offset: int = 0, number: int = 1) -> Iterator[Line]:
    """Yield the whole lines from an offset on; a half-written last one is left out. Raises JournalError."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for data in file:
                if not data.endswith(b"\n"):
                    return
                yield Line(number=number, offset=offset, data=data[:-1])
                number, offset = number + 1, offset + len(data)
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from error


def parse_line(line: Line, path: Path) -> Recorded[Event]:
    """Return what a line records. Raises JournalError naming the line if it is damaged or from a newer version."""
    where = f"{path}: line {line.number}"
    try:
        values: dict[str, Any] = from_json(line.data)
        digest = values.pop("sha256", None)
        is_whole = line.data == canonical(values).encode() if digest is None else _is_sealed(line.data)
        version = values.pop("format", 1)
        _require_known(version, where)
        if values.keys() != ENVELOPE or not is_whole or (digest is None and version > 1):
            raise ValueError("it is not what was written")  # noqa: TRY301  # as for every other damage
        kind, body = values["kind"], values["body"]
        if version == 1:
            kind, body = format1.upgrade(kind, body)
        event = parse_event(kind, values["experiment_id"], body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error).splitlines()[0]
        raise JournalError(f"{where}: damaged: {why}; `autoresearch verify` names every damaged line") from error
    return Recorded(
        seq=values["seq"], at=values["at"], previous=values["previous"], event=event, format=version,
        hash=hashlib.sha256(line.data).hexdigest(),
    )  # fmt: skip


def _require_known(version: int, where: str) -> None:
    if version > FORMAT:
        raise RecordTooNew(
            f"{where}: written by a newer version (format {version}; this one reads up to {FORMAT}): use that version"
        )


class RecordFile:
    """The record of one run, open for appending by one session at a time."""

    def __init__(self, path: Path, file: int, last: Recorded[Event] | None, size: int) -> None:
        """Use `open`."""
        self.path = path
        self._file = file
        self._size = size
        self.seq = last.seq if last else 0
        self.head = last.hash if last else GENESIS

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open it, made if missing; what a crash left of a last line is cut off. Raises OSError or JournalError."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        last = _last_line(path, file)
        whole = last.offset + len(last.data) + 1 if last else 0
        os.ftruncate(file, whole)
        return cls(path, file, parse_line(last, path) if last else None, whole)

    def append(self, event: Event) -> tuple[Recorded[Event], Line]:
        """Write an event; returns when it is on the disk. Raises RecordFailed."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        seq, previous = self.seq + 1, self.head
        values = {
            "at": at, "body": body_of(event), "experiment_id": experiment_id_of(event), "format": FORMAT,
            "kind": event.kind, "previous": previous, "seq": seq,
        }  # fmt: skip
        data = seal(canonical(values)).encode()
        try:
            _write(self._file, data + b"\n")
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise explain_write_error(self.path, error) from error
        line = Line(number=seq, offset=self._size, data=data)
        recorded = Recorded(seq=seq, at=at, previous=previous, event=event, hash=hashlib.sha256(data).hexdigest())
        self.seq, self.head, self._size = seq, recorded.hash, self._size + len(data) + 1
        return recorded, line

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
    os.fsync(file)


def _last_line(path: Path, file: int) -> Line | None:
    """Return the last whole line; its number is only known once it is parsed."""
    data, start = b"", os.fstat(file).st_size
    while start and data.rstrip(b"\n").count(b"\n") < 2:  # noqa: PLR2004  # one before the last, and what is cut off
        step = min(start, 1 << 16)
        start -= step
        data = os.pread(file, step, start) + data
    whole = data[: data.rfind(b"\n") + 1]
    if not whole:
        return None
    last = whole[:-1].rpartition(b"\n")[2]
    offset = start + len(whole) - len(last) - 1
    try:
        number = int(json.loads(last)["seq"])
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"{path}: its last line is damaged; `autoresearch verify` names every damaged line"
        ) from error
    return Line(number=number, offset=offset, data=last)
