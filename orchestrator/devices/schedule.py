"""When no experiment may start: quiet hours, and a pause file that anyone with access to the run can make."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestrator.errors import ConfigError, RecordFailed

PAUSE = "PAUSE"
_HOURS = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])-([01]?[0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """A daily period in local time, in minutes since midnight; it may span midnight."""

    start: int
    end: int

    def covers(self, now: datetime) -> bool:
        """Return whether `now` is within quiet hours; the last minute is the one before `end`."""
        minute = now.hour * 60 + now.minute
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def parse_quiet_hours(text: str) -> QuietHours | None:
    """Parse `22:00-06:00`; None for the empty text. Raises ConfigError."""
    if not text.strip():
        return None
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"QUIET_HOURS = {text!r} is not a time range; write it like 22:00-06:00")
    hour, minute, last_hour, last_minute = (int(part) for part in match.groups())
    hours = QuietHours(start=hour * 60 + minute, end=last_hour * 60 + last_minute)
    if hours.start == hours.end:
        raise ConfigError(
            f"QUIET_HOURS = {text!r} is empty, as it begins when it ends; leave it unset for no quiet hours"
        )
    return hours


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGate:
    """Decides whether an experiment may start."""

    run: Path
    hours: QuietHours | None = None
    poll_s: float = 2.0

    def block_reason(self, now: datetime | None = None) -> str:
        """Return why nothing may start now, "" if it may."""
        if is_paused(self.run):
            return f"paused; resume with `autoresearch resume --run {self.run.name}`"
        if self.hours and self.hours.covers(now or datetime.now().astimezone()):
            return f"quiet hours until {self.hours.end // 60:02d}:{self.hours.end % 60:02d}"
        return ""

    def wait(self, on_wait: Callable[[str], None]) -> None:
        """Block while nothing may start; `on_wait` is called with the reason whenever it changes."""
        last_reason = ""
        while reason := self.block_reason():
            if reason != last_reason:
                on_wait(reason)
                last_reason = reason
            time.sleep(self.poll_s)


def pause(run: Path) -> None:
    """Pause: no further experiment starts; the running one is finished."""
    try:
        (run / PAUSE).touch(mode=0o600)
    except OSError as error:
        raise RecordFailed(
            f"{run / PAUSE}: cannot be written: {error.strerror}; `autoresearch runs` lists the runs"
        ) from error


def resume(run: Path) -> bool:
    """Let experiments start again; returns whether the run was paused."""
    was = is_paused(run)
    with suppress(FileNotFoundError):
        (run / PAUSE).unlink()
    return was


def is_paused(run: Path) -> bool:
    """Return whether the pause file exists."""
    return (run / PAUSE).exists()
