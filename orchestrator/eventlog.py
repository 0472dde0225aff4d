"""session.log: every event of every session as a JSON line that carries a hash over itself and the line before.

Lines that name the head of the journal's chain anchor it: a record that was cut off or rewritten does not hold them.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from orchestrator.errors import RecordFailed

NAME = "session.log"
LINK = 16  # hexadecimal digits: enough to see a change, short enough to read past
START = "0" * LINK


@contextmanager
def logging_to(folder: Path, *, screen: bool) -> Iterator[None]:
    """Events as JSON lines into session.log, and as plain lines to the screen where there is no live view."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        link = _mend(folder / NAME)
        file = (folder / NAME).open("a", encoding="utf-8")
    except OSError as error:
        message = f"{folder}: cannot be written: {error.strerror}; mend the permissions or use --runs DIR"
        raise RecordFailed(message) from error
    with file:
        as_text = structlog.dev.ConsoleRenderer(colors=False)

        def render(logger: WrappedLogger, name: str, event: EventDict) -> str:
            nonlocal link
            line, link = linked(event, link)
            file.write(line + "\n")
            file.flush()
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


def _mend(path: Path) -> str:
    """Cut off what a full disk left of a last line; the link to go on from."""
    if not path.exists():
        path.touch(mode=0o600)
        return START
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("rb+") as file:
            file.truncate(whole)
    lines = data[:whole].splitlines()
    try:
        return str(json.loads(lines[-1])["link"]) if lines else START
    except (ValueError, KeyError, TypeError):
        return START
