"""Requests one proposal ahead, in a thread, while an experiment trains, so that the slot does not wait for the LLM.

The thread stores the reply in the journal; the loop takes it from there at its next iteration. The reply stays valid
if an experiment has ended since: its edits apply to the file that the prompt showed.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import AutoresearchError

LATE_S = 60.0  # an answer that takes longer leaves a device idle


@dataclass(slots=True)
class ProposalPrefetcher:
    """At most one thread at a time."""

    _thread: threading.Thread | None = field(default=None, repr=False)
    _failed: list[Exception] = field(default_factory=list)
    _busy: threading.Event = field(default_factory=threading.Event, repr=False)
    _late_at: float = 0.0  # monotonic

    def start(self, work: Callable[[], object], then: Callable[[], None] = lambda: None) -> None:
        """Start `work` in a daemon thread; `then` is called at its end."""

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised again by wait, in the thread that can act on it
                self._failed.append(error)
            finally:
                self._busy.clear()
                then()

        if self._thread is None:
            self._busy.set()
            self._late_at = time.monotonic() + LATE_S
            self._thread = threading.Thread(target=run, name="prefetch", daemon=True)
            self._thread.start()

    @property
    def is_asking(self) -> bool:
        """True while the answer is outstanding."""
        return self._busy.is_set()

    @property
    def is_late(self) -> bool:
        """True while the answer is outstanding and takes long."""
        return self.is_asking and time.monotonic() >= self._late_at

    @property
    def late_in_s(self) -> float | None:
        """Return when an outstanding answer becomes late; None if it is late, or none is outstanding."""
        left_s = self._late_at - time.monotonic()
        return left_s if self.is_asking and left_s > 0 else None

    def wait_until_late(self) -> bool:
        """Wait until the answer is here or late; return which. An interrupt ends the wait."""
        if self._thread is not None and (left_s := self.late_in_s):
            self._thread.join(left_s)
        return self.is_asking

    def wait(self) -> None:
        """Wait for the thread; raise the error that it raised. An interrupt ends the wait."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed:
            error = self._failed.pop()
            if not isinstance(error, AutoresearchError):
                raise RuntimeError(f"asking ahead failed: {error!r}") from error
            raise error
