"""Parallel experiments on this machine, a thread for each leased device. Threads only run containers.

The caller of `next_event` decides, records and keeps, in one thread, so one writer owns the champion. With one runner
nothing ever runs side by side: that is the plain loop.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Self

from orchestrator.errors import SandboxError
from orchestrator.logger import log
from orchestrator.protocols import Runner
from orchestrator.session import ActiveExperiment
from orchestrator.types import Trial

FRESH_S = 10.0  # how long a device that was found idle counts as idle
GIVE_BACK_S = 60.0  # how long a device is held while nothing can run; longer than FRESH_S
STOP_S = 60.0  # for containers to be removed; the reaper of the next start removes the rest


@dataclass(frozen=True, slots=True)
class SlotReady:
    """An experiment may start on a runner now."""

    runner: Runner


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """The trial of an active experiment is over."""

    active: ActiveExperiment
    trial: Trial


@dataclass(frozen=True, slots=True)
class Woken:
    """Something else changed that the loop waits for: a proposal arrived or is late, or a device was lost."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


PoolEvent = SlotReady | TrialEnded | Woken


class Pool:
    """Runners with one experiment each at a time; a context manager that removes every container at its end."""

    def __init__(self, runners: Sequence[Runner]) -> None:
        """Take runners; all but the first are used only once experiments can run in parallel, after the baseline."""
        self._idle, self._free = list(runners[:1]), list[Runner]()
        self._unused = list(runners[1:])
        self._free_since = 0.0  # monotonic
        self._events: SimpleQueue[PoolEvent | _Failed] = SimpleQueue()
        self._active: dict[int, tuple[ActiveExperiment, threading.Thread]] = {}
        self._left = len(runners)
        self._last: Runner | None = None  # the one that a duel stays on

    @property
    def active(self) -> tuple[ActiveExperiment, ...]:
        """Return the active experiments in the order they began."""
        return tuple(active for active, _ in self._active.values())

    @property
    def waiting(self) -> tuple[Runner, ...]:
        """Return the runners on which nothing runs, and which may be used."""
        return (*self._free, *self._idle)

    def next_event(
        self, *, wants_slot: bool, within_s: float | None = None, suits: Callable[[Runner], bool] = lambda _: True
    ) -> PoolEvent:
        """Wait for a trial to end or, on request, for a runner that suits, to start one on; not for longer.

        Raises what a thread raised. A runner that lost its device is done without, unless it is the last one.
        """
        if wants_slot:
            for runner in self._free:
                if suits(runner):
                    return SlotReady(runner)
            if self._active:
                self._use_all()
            while self._idle:
                self._lease(self._idle.pop(0))
        try:
            event = self._events.get(timeout=within_s)
        except Empty:
            return Woken()
        if isinstance(event, _Failed):
            return self._do_without(event.error)
        if isinstance(event, SlotReady):
            self._free_since = self._free_since if self._free else time.monotonic()
            self._free.append(event.runner)
            return Woken()  # a limit may have been met during the wait
        return event

    def is_fresh(self, runner: Runner) -> bool:
        """Return whether an experiment may still start on a free runner; if not, all are checked again."""
        if runner in self._free and time.monotonic() - self._free_since < FRESH_S:
            return True
        self._idle += self._free
        self._free.clear()
        return False

    @contextmanager
    def lend_idle(self) -> Iterator[None]:
        """Give every free device back if this block takes long, as where the LLM's API is down for hours.

        Each is leased again before anything starts on it: by then it no longer counts as fresh.
        """
        idle = tuple(self._free)

        def give_back() -> None:
            for runner in idle:
                runner.give_back()

        timer = threading.Timer(GIVE_BACK_S, give_back)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def start(self, active: ActiveExperiment) -> None:
        """Start a trial of an experiment on its runner."""
        others = [runner for runner in (*self._idle, *self._free) if runner is not active.runner]
        self._idle = others  # to be checked again
        self._free.clear()
        thread = self._thread(lambda: TrialEnded(active, run_trial(active)), f"experiment {active.id}")
        self._active[active.id] = active, thread

    def wait_for_last(self, prefers: Callable[[Runner], bool] = lambda _: True) -> Runner:
        """Return the one runner for what is left to do, once a trial may start on it; the others are given back."""
        if self._last is None:
            self._last, *others = sorted(self._free + self._idle, key=lambda one: not prefers(one))
            for other in others:
                other.give_back()
        while self._last.ready():
            pass  # it took a while: may it still start?
        return self._last

    def release(self, active: ActiveExperiment) -> None:
        """Free the runner of an experiment that needs no further trial."""
        del self._active[active.id]
        self._idle.append(active.runner)

    def wake(self) -> None:
        """Make `next_event` return; from any thread."""
        self._events.put(Woken())

    def stop(self) -> tuple[ActiveExperiment, ...]:
        """End the active experiments, and return them once their containers are removed."""
        for active, _ in self._active.values():
            active.runner.stop()
        for _, thread in self._active.values():
            thread.join(STOP_S)
        return self.active

    def __enter__(self) -> Self:
        """Return the pool; nothing starts yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the pool."""
        self.stop()

    def _do_without(self, error: BaseException) -> Woken:
        if not isinstance(error, SandboxError) or self._left == 1:
            raise error
        self._left -= 1
        log.warning("device.given_up", reason=str(error), left=self._left)
        self._use_all()
        return Woken()

    def _use_all(self) -> None:
        self._idle += self._unused
        self._unused.clear()

    def _lease(self, runner: Runner) -> None:
        def wait() -> SlotReady:
            while runner.ready():
                pass  # it took a while: may it still start?
            return SlotReady(runner)

        self._thread(wait, "lease")

    def _thread(self, work: Callable[[], PoolEvent], name: str) -> threading.Thread:
        def body() -> None:
            try:
                self._events.put(work())
            except BaseException as error:  # noqa: BLE001  # raised again by next_event, in the thread that can act on it
                self._events.put(_Failed(error))

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread


def run_trial(active: ActiveExperiment) -> Trial:
    """Run one trial; a failure of the sandbox becomes a trial with status `infra`."""
    try:
        return active.runner.run(
            active.candidate, active.plan, experiment_id=active.id, folder=active.trial_folder,
            best=active.score_to_beat,
        )  # fmt: skip
    except SandboxError as error:
        return Trial.infra(error)
