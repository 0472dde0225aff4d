"""Waiting for an API that is down or busy: as long as it asks for, else longer each time, until told to stop."""

import email.utils
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import tenacity

from orchestrator.logger import log
from orchestrator.types import Usage

T = TypeVar("T")
Stop = Callable[[tenacity.RetryCallState], bool]

LONGEST_RETRY_AFTER_S = 3600.0


class RetryableError(Exception):  # no error yet
    """This call brought nothing, another one may. `usage` is what it has cost, None where nobody knows."""

    def __init__(self, reason: str, *, usage: Usage | None, retry_after_s: float | None = None) -> None:
        """Set the reason, what it cost, and how long the API asked to wait."""
        super().__init__(reason)
        self.usage, self.retry_after_s = usage, retry_after_s


class EndpointBusy(RetryableError):
    """The API itself says that it is overloaded, limits the rate, or failed: waiting mends it."""


class EndpointUnreachable(RetryableError):
    """The endpoint could not even be connected to."""


def call_with_retry(  # noqa: PLR0913
    attempt: Callable[[], T],
    stop: Stop,
    tell: Callable[[str], None],
    *,
    first_s: float,
    longest_s: float,
    stopped: threading.Event,
) -> T:
    """Repeat while it is delayed; raises the last RetryableError when told to stop. `tell` hears why, and how long."""
    growing, jitter = tenacity.wait_exponential(first_s, longest_s), tenacity.wait_random(0, first_s)

    def wait(state: tenacity.RetryCallState) -> float:
        """Return the wait that the API asked for, else an exponential backoff with jitter."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RetryableError) and error.retry_after_s is not None:
            return min(error.retry_after_s, LONGEST_RETRY_AFTER_S) + jitter(state)
        return growing(state) + jitter(state)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RetryableError),
        wait=wait,
        stop=lambda state: stop(state) or stopped.is_set(),
        sleep=tenacity.sleep_using_event(stopped),
        before_sleep=lambda state: tell(_say(state)),
        reraise=True,
    )
    return retrying(attempt)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Parse seconds, milliseconds or a date; None if there is nothing usable."""
    text, milliseconds = headers.get("retry-after", ""), headers.get("retry-after-ms", "")
    try:
        seconds = float(milliseconds) / 1000 if milliseconds else float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _say(state: tenacity.RetryCallState) -> str:
    """Log why and how long; in one line for a person too."""
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "proposal.delayed",
        reason=str(error),
        wait_s=round(state.upcoming_sleep, 1),
        waited_s=round(state.seconds_since_start or 0.0, 1),
        attempt=state.attempt_number,
    )
    return f"the LLM's API: {error}; next attempt in {state.upcoming_sleep:.0f} s"
