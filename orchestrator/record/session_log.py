"""session.log: every event of every session as a JSON line that carries a hash over itself and the line before.

Lines that name the head of the journal's chain anchor it: a record that was cut off or rewritten does not hold them.
"""

import fcntl
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from orchestrator.errors import RecordFailed
from orchestrator.files import unwritable

NAME = "session.log"
LINK = 16  # hexadecimal digits: enough to see a change, short enough to read past
START = "0" * LINK


class Chain:
    """The end of a session.log, to which any thread of any process may append."""

    def __init__(self, path: Path) -> None:
        """Open it, made if missing, without what a full disk left of a last line. Raises OSError."""
        path.touch(mode=0o600)
        self._file = path.open("ab+")
        self._guard = threading.Lock()
        self._link, self._size = START, -1
        with self._alone():
            pass

    def append(self, event: EventDict) -> None:
        """Write a line that follows the last one. Raises RecordFailed."""
        try:
            with self._alone():
                line, self._link = linked(event, self._link)
                data = f"{line}\n".encode()
                self._size += len(data)  # if the disk is full, it is not, and the end is looked for again
                os.write(self._file.fileno(), data)
        except OSError as error:
            raise unwritable(Path(self._file.name), error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes, and the last line is known, whoever wrote it."""
        with self._guard:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.fstat(self._file.fileno()).st_size != self._size:
                    self._look()
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _look(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._file.truncate(whole)
        last = data[:whole].rstrip(b"\n").rpartition(b"\n")[2]
        try:
            self._link = str(json.loads(last)["link"]) if last else START
        except (ValueError, KeyError, TypeError):
            self._link = START
        self._size = whole


@contextmanager
def logging_to(folder: Path, *, screen: bool) -> Iterator[None]:
    """Events as JSON lines into session.log, and as plain lines to the screen where there is no live view."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        chain = Chain(folder / NAME)
    except OSError as error:
        raise RecordFailed(
            f"{folder}: cannot be written: {error.strerror}; change the permissions, or use --runs FOLDER"
        ) from error
    as_text = structlog.dev.ConsoleRenderer(colors=False)

    def render(logger: WrappedLogger, name: str, event: EventDict) -> str:
        chain.append(event)
        event.pop("head", None)
        if not screen:
            raise structlog.DropEvent
        return str(as_text(logger, name, event))

    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S"),
        render,
    ]
    structlog.configure(processors=processors, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        yield
    finally:
        structlog.reset_defaults()
        chain.close()


def linked(event: EventDict, before: str) -> tuple[str, str]:
    """The event's line and its link, which is a hash over the link before and the rest of the line."""
    text = json.dumps(dict(event), default=repr, ensure_ascii=False)
    link = hashlib.sha256((before + text).encode()).hexdigest()[:LINK]
    return f'{text[:-1]}, "link": "{link}"}}', link


def findings(path: Path, hashes: set[str]) -> Iterator[str]:
    """Every line that is not what was written or names a record that is gone; `hashes` are those of all records."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{path.name}: cannot be read: {error.strerror}"
        return
    if lines.pop() != b"":
        yield f"{path.name}: ends in the middle of a line"
    before = START
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            link = event.pop("link")
            whole = (line.decode(), link) == linked(event, before)
        except (ValueError, KeyError, AttributeError, TypeError):
            whole, event, link = False, {}, before
        if not whole:
            yield f"{path.name}: line {number} is not what was written after the line before it"
        elif event.get("head") not in {None, *hashes}:
            yield f"{path.name}: line {number} names a record that is gone: {event['head'][:12]}"
        before = link
