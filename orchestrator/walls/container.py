"""One container from its start to its removal: drained, watched, killed at its deadline."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import EngineUnavailable, SandboxError
from orchestrator.files import explain_write_error, write_json
from orchestrator.logger import log
from orchestrator.types import ExecutionResult, Role
from orchestrator.walls import cgroup_stats
from orchestrator.walls.bounded_log import BoundedLog
from orchestrator.walls.engine import Engine
from orchestrator.walls.spec import ContainerSpec

WATCH_S = 0.1
LOOK_S = 2.0  # how often a silent container is checked
LATE_S = 60.0  # past its deadline: the engine hangs
SIGKILLED = 137
OUT_OF_MEMORY, BY_ITSELF = 193, 192  # the guard's exit codes for a program that was killed; as in runtime/guard.py
OUTSIDE = "something outside its container"  # in `killed_by`: the engine, a person, or the guard's own limit
AGAIN_S = 1.0  # until the next try of a kill
JOIN_S = 30.0


def start(  # noqa: PLR0913  # how it runs
    engine: Engine,
    spec: ContainerSpec,
    *,
    deadline_s: float,
    folder: Path,
    on_line: Callable[[str], None] | None = None,
    sink: Callable[[bytes], None] | None = None,
) -> "RunningContainer":
    """Create, read back, compare, attach and start; killed `deadline_s` after the start. Raises SandboxError.

    Standard output goes to `sink`, if there is one, and not into the log.
    """
    container_id = engine.create(spec, folder)
    try:
        return RunningContainer(
            engine, spec, container_id, deadline_s=deadline_s, folder=folder, on_line=on_line, sink=sink
        )
    except BaseException:
        engine.remove(container_id)
        raise


class RunningContainer:
    """One container from its start to its removal; a context manager."""

    def __init__(  # noqa: PLR0913  # what a start is made of
        self,
        engine: Engine,
        spec: ContainerSpec,
        container_id: str,
        *,
        deadline_s: float,
        folder: Path,
        on_line: Callable[[str], None] | None,
        sink: Callable[[bytes], None] | None = None,
    ) -> None:
        """Use `start`."""
        self._sink = sink
        self.spec, self.id, self._engine, self._folder = spec, container_id, engine, folder
        self._deadline_s = deadline_s
        self._killed_by: str | None = None
        self._ended: dict[str, Any] | None = None
        self._fault: SandboxError | None = None
        self._usage = cgroup_stats.Usage()
        self._waits = cgroup_stats.ThreadWaits() if spec.role == Role.TRAINER else None
        self._finished, self._silent = threading.Event(), threading.Event()
        self._doomed, self._gone = threading.Event(), threading.Event()
        try:
            self._log = BoundedLog(folder / f"{spec.role}.log", on_line)
        except OSError as error:
            raise explain_write_error(folder, error) from error
        try:
            pieces = engine.attach_and_start(container_id)
        except BaseException:
            self._log.close()
            raise
        self._started = time.monotonic()
        self._duration = 0.0
        self._reader = threading.Thread(target=self._read, args=(pieces,), daemon=True, name=f"log {spec.role}")
        self._watcher = threading.Thread(target=self._watch, daemon=True, name=f"watch {spec.role}")
        self._killer = threading.Thread(target=self._kill, daemon=True, name=f"kill {spec.role}")
        for thread in (self._reader, self._watcher, self._killer):
            thread.start()

    def alive(self) -> bool:
        """Return True until the container is known to have ended."""
        return not self._finished.is_set()

    @property
    def cpu_s(self) -> float | None:
        """The processor time that it has used so far; None where the host does not say."""
        return self._usage.cpu_s

    def kill(self, reason: str) -> None:
        """Kill the container now; `reason` is recorded."""
        if self.alive():
            self._killed_by = self._killed_by or reason
            self._doomed.set()

    def wait(self, timeout_s: float | None = None) -> ExecutionResult:
        """Block until the container is removed and its record written. Raises SandboxError if the engine failed."""
        bound = self._deadline_s + LATE_S if timeout_s is None else timeout_s
        if not self._finished.wait(max(0.0, self._started + bound - time.monotonic())):
            raise EngineUnavailable(f"{self.spec.name} did not end although it was killed: the engine hangs")
        self._reader.join(JOIN_S)
        if self._fault is not None:
            raise self._fault
        return self._result()

    def close(self) -> None:
        """Kill and remove it."""
        try:
            self._killed_by = self._killed_by or (None if self._finished.is_set() else "closed")
            self._engine.remove(self.id)
            self._gone.set()
        finally:
            self._finished.set()
            self._doomed.set()  # what could not be removed is killed, as often as it takes
            self._reader.join(JOIN_S)
            self._watcher.join(JOIN_S)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill and remove it."""
        self.close()

    def _result(self) -> ExecutionResult:
        state = (self._ended or {}).get("State", {})
        code = state.get("ExitCode")
        killed_by = self._killed_by or (OUTSIDE if code == SIGKILLED else None)
        return ExecutionResult(
            role=self.spec.role,
            container_id=self.id,
            exit_code=None if killed_by else SIGKILLED if code in (OUT_OF_MEMORY, BY_ITSELF) else code,
            oom_killed=bool(state.get("OOMKilled")) or code == OUT_OF_MEMORY,
            timed_out=self._killed_by == "deadline",
            killed_by=killed_by,
            duration_s=self._duration,
            deadline_s=self._deadline_s,
            log_tail=self._log.tail,
            stdout_bytes=self._log.counts["out"],
            stderr_bytes=self._log.counts["err"],
            dropped_bytes=self._log.dropped,
            log_sha256=self._log.sha256,
            started_s=round(self._started, 3),
            ended_s=round(self._started + self._duration, 3),
            **asdict(self._usage),
        )

    def _read(self, pieces: Iterator[tuple[str, bytes]]) -> None:
        """Drain the output; the end of it says nothing of the program's end."""
        try:
            for name, data in pieces:
                if self._sink is not None and name == "out":
                    self._log.count(name, data)
                    self._sink(data)
                else:
                    self._log.feed(name, data)
        except (SandboxError, OSError, ValueError) as error:
            log.warning("log.broken", role=self.spec.role, error=str(error))
        finally:
            self._log.close()
            self._silent.set()

    def _kill(self) -> None:
        """Kill at the deadline, by the host's monotonic clock, or when told; again until it is seen to have ended."""
        self._doomed.wait(self._deadline_s)
        until = time.monotonic() + LATE_S  # by then the guard inside has ended it
        while not self._gone.is_set() and time.monotonic() < until:
            self._killed_by = self._killed_by or "deadline"
            try:
                self._engine.kill(self.id)
            except SandboxError as error:
                log.warning("kill.failed", role=self.spec.role, error=str(error))
            self._gone.wait(AGAIN_S)

    def _watch(self) -> None:
        """See the end, and what it uses until then."""
        looked = time.monotonic()
        pid = 0
        try:
            while not self._finished.is_set():
                now = time.monotonic()
                if self._silent.is_set() or self._killed_by or not pid or now - looked >= LOOK_S:
                    looked = now
                    inspected = self._engine.inspect(self.id)
                    pid = inspected["State"].get("Pid") or 0
                    if not inspected["State"].get("Running"):
                        self._ended = inspected
                        self._gone.set()
                        break
                self._usage = cgroup_stats.read(pid, self.id, self._usage, self._waits)
                self._silent.wait(WATCH_S) if not self._silent.is_set() else time.sleep(WATCH_S)
            if self._ended is not None:
                write_json(self._folder / f"{self.spec.role}.ended.json", self._ended)
        except SandboxError as error:
            if not self._finished.is_set():
                self._fault = error
        finally:
            self._duration = time.monotonic() - self._started
            self._finished.set()
