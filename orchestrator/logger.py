"""The log; structlog is imported with the first line, as it is slow to import and most commands log nothing."""

import sys
from collections.abc import Callable
from typing import Any


class Logger:
    """Logs lines by their level; outside a session to standard error, as standard output is for answers."""

    def __getattr__(self, level: str) -> Callable[..., Any]:
        """Return what logs a line of a level."""
        import structlog  # noqa: PLC0415

        if not structlog.is_configured():
            log_to_stderr()
        method: Callable[..., Any] = getattr(structlog.get_logger(), level)
        return method


def log_to_stderr() -> None:
    """Send what is logged outside a session to standard error, as it is when the line is written."""
    import structlog  # noqa: PLC0415

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


log = Logger()
