"""session.log: what every session logged, as JSON lines. The event that ends a session records its size and hash."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from orchestrator.errors import RecordFailed
from orchestrator.events import KINDS, LogDigest
from orchestrator.logger import log_to_stderr

NAME = "session.log"
SHOWN = {*KINDS, "proposal.delayed"}  # as an event, or as what the loop waits for
OWN_KEYS = {"event", "level", "timestamp"}


@contextmanager
def log_to(folder: Path, *, screen: bool, show_warning: Callable[[str], object] | None = None) -> Iterator[None]:
    """Log JSON lines to session.log, and plain lines to stderr where there is no live view. Raises RecordFailed.

    Without `screen` each warning, except those that the live view shows as events, is given to `show_warning` once.
    """
    shown = set[str]()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / NAME).touch(mode=0o600)
        file = (folder / NAME).open("ab", buffering=0)
    except OSError as error:
        raise RecordFailed(
            f"{folder}: cannot be written: {error.strerror}; fix the permissions, or use --runs FOLDER"
        ) from error
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)
    as_text = structlog.dev.ConsoleRenderer(colors=False)

    def render(logger: WrappedLogger, name: str, event: EventDict) -> str:
        file.write(f"{as_json(logger, name, dict(event))!s}\n".encode())  # one write, so that no line is torn
        if not screen:
            if show_warning is not None and event["level"] != "info" and event["event"] not in SHOWN:
                text = ", ".join(
                    [str(event["event"]), *(f"{key} {event[key]}" for key in event if key not in OWN_KEYS)]
                )
                if text not in shown:
                    shown.add(text)
                    show_warning(text)
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
        log_to_stderr()
        file.close()


def digest(folder: Path, size: int | None = None) -> LogDigest | None:
    """Return the size and hash of session.log, or of its first `size` bytes; None if there is none."""
    try:
        data = (folder / NAME).read_bytes()[:size]
    except OSError:
        return None
    return LogDigest(size=len(data), sha256=hashlib.sha256(data).hexdigest())
