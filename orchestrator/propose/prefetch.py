"""One proposal asked for ahead, in a thread, while an experiment trains; so the slot does not wait for the LLM.

The reply is stored by the thread as it comes and taken from the journal at the next turn, which is all the loop knows
of it. It is kept though an experiment has ended since: its edits are made to the file that it was asked about.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import AutoresearchError


@dataclass(slots=True)
class ProposalPrefetcher:
    """At most one thread at a time."""

    _thread: threading.Thread | None = field(default=None, repr=False)
    _failed: list[Exception] = field(default_factory=list)
    _busy: threading.Event = field(default_factory=threading.Event, repr=False)

    def start(self, work: Callable[[], object], then: Callable[[], None] = lambda: None) -> None:
        """Begin; `then` is called at the end of it. Ends with the process if nobody waits for it."""

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
            self._thread = threading.Thread(target=run, name="prefetch", daemon=True)
            self._thread.start()

    @property
    def is_asking(self) -> bool:
        """Whether the answer is still to come."""
        return self._busy.is_set()

    def wait(self) -> None:
        """Return when what was begun is done; raises what it raised. An interrupt ends the wait."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed:
            error = self._failed.pop()
            if not isinstance(error, AutoresearchError):
                raise RuntimeError(f"asking ahead failed: {error!r}") from error
            raise error
