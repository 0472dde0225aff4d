"""Experiments side by side on this machine, a thread for each leased device. Threads only run containers.

Who asks `next_ended` decides, records and keeps, in one thread, so one writer owns the best. With one runner nothing
is ever side by side: that is the plain loop.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Self

import structlog

from orchestrator.errors import SandboxError
from orchestrator.protocols import Runner
from orchestrator.session import Running
from orchestrator.types import Trial

log = structlog.get_logger()
FRESH_S = 10.0  # that nobody else had a runner's device so long ago says something of now
STOP_S = 60.0  # for containers to be gone; the reaper of the next start takes what is left


class Pool:
    """Runners with one experiment each at a time; a context manager, at whose end every container is gone."""

    def __init__(self, runners: Sequence[Runner], ready: Callable[[Runner], bool]) -> None:
        """`ready` waits until an experiment may start on a runner, and says whether it had to.

        Runners beside the first are left alone until something can run beside it: not while a baseline does.
        """
        self._ready, self._idle, self._fit = ready, list(runners[:1]), list[Runner]()
        self._spare = list(runners[1:])
        self._fit_since = 0.0  # monotonic
        self._ended: SimpleQueue[tuple[Running, Trial] | Runner | BaseException | None] = SimpleQueue()
        self._at_work: dict[int, tuple[Running, threading.Thread]] = {}
        self._left = len(runners)

    @property
    def at_work(self) -> tuple[Running, ...]:
        """What runs right now, in the order it began."""
        return tuple(running for running, _ in self._at_work.values())

    def idle_runner(self) -> Runner | None:
        """A runner where an experiment may start now. None: something has changed, or something else must end first."""
        if self._fit:
            return self._fit[0]
        if self._at_work:
            self._use_spare()
        while self._idle:
            self._thread(partial(self._made_ready, self._idle.pop(0)), "lease")
        if not self._at_work:
            self._next_event()
        return None

    def is_fresh(self, runner: Runner) -> bool:
        """Whether it may still start on a free runner; if that was found out too long ago, all are looked at anew."""
        if runner in self._fit and time.monotonic() - self._fit_since < FRESH_S:
            return True
        self._idle += self._fit
        self._fit.clear()
        return False

    def start(self, running: Running) -> None:
        """Begin one run of an experiment, on the runner that it names."""
        self._idle += [runner for runner in self._fit if runner is not running.runner]  # to be looked at anew
        self._fit.clear()
        thread = self._thread(lambda: (running, _run(running)), f"experiment {running.id}")
        self._at_work[running.id] = running, thread

    def next_ended(self) -> tuple[Running, Trial] | None:
        """Wait for the next run that ends. None: none is at work, or something else has changed.

        Raises what a thread raised. A runner without a device is done without, unless it is the last one.
        """
        return self._next_event() if self._at_work else None

    def _next_event(self) -> tuple[Running, Trial] | None:
        ended = self._ended.get()
        if isinstance(ended, SandboxError) and self._left > 1:
            self._left -= 1
            log.warning("device.done_without", reason=str(ended), left=self._left)
            self._use_spare()
            return None
        if isinstance(ended, BaseException):
            raise ended
        if ended is None or isinstance(ended, tuple):
            return ended
        if not self._fit:
            self._fit_since = time.monotonic()
        self._fit.append(ended)
        return None

    def release(self, running: Running) -> None:
        """Let its runner go, for it needs no further run."""
        del self._at_work[running.id]
        self._idle.append(running.runner)

    def wake(self) -> None:
        """Have `next_ended` return: something has changed that the loop waits for. From any thread."""
        self._ended.put(None)

    def stop(self) -> None:
        """End what runs; returns when its containers are gone."""
        for running, _ in self._at_work.values():
            running.runner.stop()
        for _, thread in self._at_work.values():
            thread.join(STOP_S)

    def __enter__(self) -> Self:
        """Nothing is started."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _use_spare(self) -> None:
        self._idle += self._spare
        self._spare.clear()

    def _made_ready(self, runner: Runner) -> Runner:
        while self._ready(runner):
            pass  # it took a while: may it still start?
        return runner

    def _thread(self, work: Callable[[], tuple[Running, Trial] | Runner], name: str) -> threading.Thread:
        def body() -> None:
            try:
                self._ended.put(work())
            except BaseException as error:  # noqa: BLE001  # raised again by next_ended, in the thread that can act on it
                self._ended.put(error)

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread


def _run(running: Running) -> Trial:
    try:
        return running.runner.run(
            running.candidate, running.plan, experiment_id=running.id, folder=running.where, best=running.below
        )
    except SandboxError as error:
        return Trial.infra(error)
