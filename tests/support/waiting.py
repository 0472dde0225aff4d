"""Wait for what must become true, however slow the machine."""

import time
from collections.abc import Callable

POLL_S = 0.02


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return as soon as a condition is true, or False after so long; what it said last counts, as it may change."""
    until = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < until:
        time.sleep(POLL_S)
    return holds
