"""A slot: one leased device and its runner; watched during a trial, released while nothing may run on it."""

import itertools
import random
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from orchestrator.devices.contention import ContentionMonitor, Ours, Then, UsualLoad, monitor_for
from orchestrator.devices.lease import Lease, LeasePolicy, count_leasable, lease
from orchestrator.devices.load import with_load
from orchestrator.devices.schedule import StartGate
from orchestrator.errors import ConfigError, LeaseUnavailable, SandboxError
from orchestrator.events import Event
from orchestrator.logger import log
from orchestrator.protocols import Runner
from orchestrator.types import Candidate, Environment, Plan, Status, Trial

BACK_OFF_S = 30.0  # after the first contention; doubled with each one that follows it
LONGEST_BACK_OFF_S = 1800.0
MAX_LEASES = 3  # attempts to lease a usable device


@dataclass(slots=True, kw_only=True)
class Slot:
    """A Runner on a leased device; call `ready` before each experiment. A context manager."""

    policy: LeasePolicy
    wait_s: float
    make: Callable[[Lease], Runner]
    on_wait: Callable[[str], None]
    gate: StartGate | None = None  # nothing starts while it is closed
    watch: Callable[[Lease, Ours, Then], ContentionMonitor] = monitor_for
    back_off_s: float = BACK_OFF_S
    usual: UsualLoad = field(default_factory=UsualLoad)  # what trials here were like
    record: Callable[[Event], object] = lambda _: None
    _held: ExitStack = field(default_factory=ExitStack)
    _lease: Lease | None = None
    _runner: Runner | None = None
    _contended: int = 0  # contended trials in a row
    _must_wait: bool = False  # once after each of them

    def ready(self) -> bool:
        """Lease an idle device; return whether that took a wait, after contention or while the gate was closed.

        A device that others have started to use is released.

        Raises LeaseUnavailable, or SandboxError if the engine failed several times.
        """
        if self.gate is not None and self.gate.block_reason():
            self.give_back()
            self.gate.wait(self.on_wait)
            return True
        if self._must_wait:
            self._must_wait = False
            self.give_back()
            self._back_off("another process used the device", self._contended)
        if self._lease is not None and not self._is_taken(self._lease):
            return False
        self.give_back()
        self._take(MAX_LEASES)
        return True

    def give_back(self) -> None:
        """Release the device until the next `ready`."""
        self._held.close()
        self._lease = None

    def environment(self) -> Environment:
        """Return the environment of the last experiment, or of the next one."""
        return self._now().environment()

    def container_ids(self) -> Collection[str]:
        """Return the containers of the running trial, or of the last one."""
        return self._now().container_ids()

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Run a trial and note who else used the device. Raises LeaseUnavailable if the device itself broke."""
        if self._lease is None:
            raise LeaseUnavailable("no device is leased")
        leased, runner = self._lease, self._now()
        with self.watch(leased, runner.container_ids, lambda by: runner.end(f"{by} used the device too")) as seen:
            try:
                trial = runner.run(candidate, plan, experiment_id=experiment_id, folder=folder, best=best)
            except SandboxError as error:
                if not seen.contended_by:
                    raise
                trial = Trial.infra(error)
        if seen.lost:
            self._leave_out(leased, seen.lost)
            self.give_back()
            if trial.failure is not Status.CHEAT:
                raise LeaseUnavailable(seen.lost)
        trial = with_load(trial, seen.watched)
        by = seen.contended_by or self._compare_with_usual(trial, leased)
        self._must_wait = bool(by)
        self._contended = self._contended + 1 if by else 0
        users = seen.used_by()
        used = None if users is None or trial.trainer is None else trial.trainer.container_id in users
        return replace(trial, contended_by=by, gpu_used=used)

    def stop(self) -> None:
        """End the running trial and start no other; from another thread."""
        if self._runner is not None:
            self._runner.stop()

    def end(self, why: str) -> None:
        """End the running trial, if any; from another thread."""
        if self._runner is not None:
            self._runner.end(why)

    def _compare_with_usual(self, trial: Trial, leased: Lease) -> str:
        """Return who else worked, if the training had to wait more than usual for them; "" on a GPU."""
        if trial.load is None or not leased.cpuset:
            return ""
        by = self.usual.find_contention(trial.load, leased.cpuset)
        if trial.failure in (None, Status.TIMEOUT) and (changed := self.usual.add(trial.load)):
            self.record(changed)
        return by

    def _is_taken(self, held: Lease) -> bool:
        """Return True if others now use the device, by the rule for contention, or if it broke."""
        try:
            by = self.watch(held, self._now().container_ids, lambda _: None).now()
        except LeaseUnavailable as error:
            self._leave_out(held, str(error))
            return True
        if by:
            log.warning("device.taken", by=by)
        return bool(by)

    def _take(self, tries: int) -> None:
        """Lease a usable device: an unusable GPU is replaced by another one, after any other failure try again."""
        for failures in itertools.count(1):
            self._lease = self._held.enter_context(lease(self.policy, wait_s=self.wait_s, on_wait=self.on_wait))
            try:
                self._runner = self.make(self._lease)
            except SandboxError as error:
                others = isinstance(error, LeaseUnavailable) and self._leave_out(self._lease, str(error))
                self.give_back()
                if failures >= (MAX_LEASES if others else tries):
                    raise
                if not others:
                    self._back_off(str(error), failures)
            except BaseException:
                self.give_back()
                raise
            else:
                return

    def _leave_out(self, broken: Lease, why: str) -> bool:
        """Exclude a GPU from further leases if there is another one; return whether there is."""
        policy = replace(self.policy, exclude=(*self.policy.exclude, broken.name))
        try:
            if broken.device is None or not count_leasable(policy):
                return False
        except (ConfigError, LeaseUnavailable):
            return False
        self.policy = policy
        log.warning("device.left_out", device=broken.name, reason=why)
        return True

    def _back_off(self, why: str, times: int) -> None:
        pause_s = min(LONGEST_BACK_OFF_S, self.back_off_s * 2.0 ** (times - 1)) * random.uniform(0.5, 1.5)  # noqa: S311  # jitter
        self.on_wait(f"{why}, trying again in {pause_s:.0f} s")
        time.sleep(pause_s)

    def _now(self) -> Runner:
        if self._runner is None:
            raise LeaseUnavailable("no device has been leased yet")
        return self._runner

    def __enter__(self) -> Self:
        """Lease at once, so that errors are reported before anything starts."""
        self._take(1)
        return self

    def __exit__(self, *_: object) -> None:
        """Release the device."""
        self.give_back()
