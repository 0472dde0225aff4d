"""Every minute while a loop runs: what dead orchestrators left behind, and what outlived its deadline, is removed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.errors import SandboxError
from orchestrator.logger import log

EVERY_S = 60.0


@contextmanager
def reap_in_background(reap: Callable[[], object], every_s: float = EVERY_S) -> Iterator[None]:
    """Reap at once, so that a start finds no remains, and then again and again; only the start raises SandboxError."""
    reap()
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every_s):
            try:
                reap()
            except SandboxError as error:
                log.warning("reaper.failed", error=str(error))

    thread = threading.Thread(target=go_on, daemon=True, name="reaper")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
