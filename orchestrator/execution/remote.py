"""Runners whose trials run on other hosts: each holds one slot of a Ray cluster, through a driver process.

The loop keeps the journal, the champion and the API key; candidates go out and trials come back as plain data. What a
slot says after its trial was given up belongs to a call that is over, and is dropped.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Self, cast

from orchestrator.config import Config
from orchestrator.devices.schedule import StartGate
from orchestrator.errors import ConfigError, LeaseUnavailable, SandboxError
from orchestrator.events import ContainerStarted, Event, ScoringBegun, experiment_id_of, parse_event
from orchestrator.execution import frames, join
from orchestrator.execution.experiment import keep_nothing, kept_before
from orchestrator.execution.frames import Message
from orchestrator.files import explain_write_error
from orchestrator.logger import log
from orchestrator.record.checkpoint import NAME
from orchestrator.types import Candidate, Environment, Kept, Plan, Role, Stages, Trial
from orchestrator.units import MIB, SECONDS_PER_HOUR

START_S = 150.0  # for the driver, and the head that it may have to start
AGAIN_S = 5.0  # until a lost slot is asked for again
ANSWER_S = 600.0  # for a slot that only has to look at its device
LATE_S = 420.0  # a trial's containers are long dead by then, its checkpoint copied and sent
STARTING_S = 30.0
MAX_RECEIVED = 64 * MIB  # of all files of a trial but its checkpoint
CLOSE_S = 30.0
ENDS = "the session ends"
GONE: Message = {"lost": "the Ray driver ended, as it does when the cluster's head dies"}
EVENTS = (ContainerStarted.kind, ScoringBegun.kind)


class SlotLost(SandboxError):
    """The process or the host of a slot is gone, or the cluster's head."""


@dataclass(slots=True)
class Call:
    """One command to a slot, and what the slot says of it."""

    number: int
    heard: SimpleQueue[tuple[Message, bytes]] = field(default_factory=SimpleQueue)

    def messages(self, timeout_s: float) -> Iterator[tuple[Message, bytes]]:
        """Yield what is said, the answer at the end. Raises SlotLost, or SandboxError for a failure on the host."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                message, data = self.heard.get(timeout=max(0.0, until - time.monotonic()))
            except Empty as error:
                raise SlotLost(f"a slot did not answer within {timeout_s:.0f} s") from error
            if "lost" in message:
                raise SlotLost(str(message["lost"]))
            if "failed" in message:
                raise SandboxError(str(message["failed"]))
            yield message, data
            if "done" in message:
                return


class RayCluster:
    """The driver process and its calls; it is started when it is needed, and again after it died. A context manager."""

    def __init__(
        self, argv: tuple[str, ...], hello: Message, environment: Mapping[str, str], log_file: Path | None = None
    ) -> None:
        """Start nothing yet; what Ray prints goes to `log_file`, away from the screen."""
        self._log_file = log_file
        self._argv, self._hello, self._environment = argv, hello, dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._calls: dict[int, Call] = {}
        self._numbers, self._lock, self._starting = 0, threading.Lock(), threading.Lock()
        self._refusal, self._up, self._gone = "", threading.Event(), True
        self.closed = False  # for good
        self._was_up = False

    def ensure(self) -> None:
        """Start the driver unless it runs. Raises ConfigError for what only a person can mend, else SlotLost."""
        with self._starting:
            if self.closed:
                raise SlotLost(ENDS)
            if not self._gone:
                return
            self._stop()
            self._refusal, self._gone = "", False
            self._up = up = threading.Event()
            with ExitStack() as stack:
                said = stack.enter_context(open_log(self._log_file)) if self._log_file else None
                self._process = process = subprocess.Popen(  # noqa: S603  # an argv list of ours
                    self._argv, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                    start_new_session=True,
                )  # fmt: skip
            source = cast("BinaryIO", process.stdout)
            self._reader = threading.Thread(target=self._read, args=(source, up), daemon=True, name="ray driver")
            self._reader.start()
            try:
                frames.send(cast("BinaryIO", process.stdin), self._hello)
            except OSError as error:
                raise SlotLost(f"the Ray driver ended: {error.strerror}") from error
            up.wait(START_S)
            if self._refusal:  # a head that is being restarted may refuse for a while
                raise SlotLost(self._refusal) if self._was_up else ConfigError(self._refusal)
            if not up.is_set() or self._gone:
                raise SlotLost("the Ray driver ended before it was connected")
            self._was_up = True

    def call(self, slot: int, message: Message) -> Call:
        """Send a command to a slot."""
        with self._lock:
            self._numbers += 1
            call = self._calls[self._numbers] = Call(self._numbers)
            if self._gone:  # nobody is left who would say so
                call.heard.put((GONE, b""))
        try:
            self._send({**message, "slot": slot, "call": call.number})
        except OSError:
            call.heard.put((GONE, b""))
        return call

    def tell(self, slot: int, message: Message) -> None:
        """Send a command that has no answer."""
        try:
            self._send({**message, "slot": slot, "call": 0})
        except OSError:
            log.warning("ray.driver_ended")

    def forget(self, call: Call) -> None:
        """Drop whatever is still said of a call."""
        with self._lock:
            self._calls.pop(call.number, None)

    def __enter__(self) -> Self:
        """Connect, so that what is wrong is said before anything starts."""
        try:
            self.ensure()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the driver, which ends what still runs and gives the slots back."""
        with self._starting:
            self.closed = True
            self._stop()

    def _send(self, message: Message) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise BrokenPipeError
        with self._lock:
            try:
                frames.send(cast("BinaryIO", process.stdin), message)
            except ValueError as error:  # it was closed meanwhile
                raise BrokenPipeError from error

    def _read(self, source: BinaryIO, up: threading.Event) -> None:
        """Hand out what the driver says; its end is the loss of every slot."""
        try:
            with source:
                self._distribute(source, up)
        except (frames.BrokenFrame, OSError, ValueError) as error:
            log.warning("ray.driver_broken", error=str(error))
        if up is self._up:
            with self._lock:
                self._gone, calls = True, list(self._calls.values())
            up.set()
            for call in calls:
                call.heard.put((GONE, b""))

    def _distribute(self, source: BinaryIO, up: threading.Event) -> None:
        while (frame := frames.receive(source)) is not None:
            message, data = frame
            if "call" in message:
                with self._lock:
                    call = self._calls.get(message["call"])
                if call is not None:
                    call.heard.put((message, data))
            elif "refused" in message:
                self._refusal = str(message["refused"])
            elif "up" in message:
                up.set()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            with suppress(OSError):  # what it had not read when it died
                cast("BinaryIO", process.stdin).close()
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(CLOSE_S)


@dataclass(slots=True, kw_only=True)
class RemoteRunner:
    """A Runner on whatever slot of the cluster is free; call `ready` before each experiment."""

    cluster: RayCluster
    number: int
    config: Config
    facts: join.HeadFacts
    hardware: Callable[[], str]  # the class of the slots that it takes; "" for any
    on_wait: Callable[[str], None]
    record: Callable[[Event], object]
    show: Callable[[int, Role, str], object]
    gate: StartGate
    kept: Callable[[], Iterable[Kept]] = keep_nothing  # the files of the run that are kept now, in order
    again_s: float = AGAIN_S
    _environment: Environment | None = None
    _holds: bool = False
    _containers: list[str] = field(default_factory=list)
    _stopped: bool = False

    def ready(self) -> bool:
        """Hold a slot whose device is idle, and return whether that took a wait. Raises SandboxError."""
        if self.gate.block_reason():
            self.give_back()
            self.gate.wait(self.on_wait)
            return True
        if self._holds:
            try:
                return bool(self._look({"do": "ready"}).get("waited"))
            except SandboxError as lost:  # or its engine is: another host may have one that answers
                self._lose(str(lost))
        self._take()
        return True

    def environment(self) -> Environment:
        """Return where the last experiment ran, or the next one will."""
        if self._environment is None:
            raise LeaseUnavailable("no slot was taken yet")
        return self._environment

    def container_ids(self) -> Collection[str]:
        """Return the containers of the trial that runs, or of the last one; they are on another host."""
        return tuple(self._containers)

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Have the slot run it; blocks until its files are here. Raises SlotLost, or SandboxError."""
        if not self._holds:
            raise SlotLost("the slot was lost before the experiment began")
        if self._stopped:
            raise SandboxError(ENDS)
        self._containers = []
        kept = () if self.config.task.stages is Stages.TRAIN else kept_before(candidate, self.kept())
        job = frames.dump_job(candidate, plan, experiment_id=experiment_id, best=best, kept=kept)
        files = ReceivedFiles(folder=folder, checkpoint_bytes=self.config.recording.checkpoint_mb * MIB)
        call = self.cluster.call(self.number, {"do": "run", **job})
        try:
            for message, data in call.messages(bound_trial_s(self.config)):
                if "file" in message:
                    files.add(str(message["file"]), data)
                elif "done" in message:
                    return frames.load_trial(message["done"], folder)
                else:
                    self._hear(message, experiment_id)
        except SlotLost as lost:
            self._lose(str(lost))
            raise
        except (ValueError, KeyError, OSError) as error:
            self._lose(str(error))
            raise SandboxError(f"{self.host}: what the slot sent cannot be used: {error}") from error
        finally:
            files.close()
            self.cluster.forget(call)
        raise SlotLost("the slot said nothing")

    @property
    def known_hardware(self) -> str:
        """Return the hardware class of the slot that was taken last, "" before the first."""
        return self._environment.hardware if self._environment else ""

    @property
    def host(self) -> str:
        """Return the name of the host of the slot."""
        return self._environment.host if self._environment else ""

    def stop(self) -> None:
        """End what runs and start nothing more; from another thread."""
        self._stopped = True
        self.end(ENDS)

    def end(self, why: str) -> None:
        """End what runs now, if anything does; from another thread."""
        self.cluster.tell(self.number, {"do": "end", "why": why})

    def give_back(self) -> None:
        """Let others have the slot until the next `ready`."""
        if self._holds:
            try:
                self._look({"do": "give_back"})
            except SandboxError as error:
                log.warning("slot.not_given_back", error=str(error))
            self._drop()

    def _take(self) -> None:
        """Wait for a slot of the hardware class and hold it. Raises LeaseUnavailable, ConfigError."""
        until, said = time.monotonic() + self.config.gpu.wait_hours * SECONDS_PER_HOUR, ""
        while not self._stopped and not self.cluster.closed:
            hardware = self.hardware()
            kind = f" of {hardware}" if hardware else ""
            wanted = [self.facts.resource, join.SLOT, *([join.hardware_resource(hardware)] if hardware else [])]
            left_s = until - time.monotonic()
            try:
                self.cluster.ensure()
                if not said:
                    said = f"waiting for a free slot{kind} at {self.config.address}"
                self._look(
                    {
                        "do": "take", "resources": wanted, "hardware": hardware, "run": self.config.tag,
                        "settings": self.facts.settings, "image_id": self.facts.image_id,
                    },
                    timeout_s=max(1.0, left_s), waiting=said,
                )  # fmt: skip
            except SandboxError as error:
                self._drop()
                if left_s <= 0:
                    raise LeaseUnavailable(f"no slot{kind} was free in time: {error}") from error
                log.warning("slot.not_taken", error=str(error))
                time.sleep(self.again_s)
            else:
                self._holds = True
                return
        raise SandboxError(ENDS)

    def _look(self, message: Message, timeout_s: float = ANSWER_S, waiting: str = "") -> Message:
        """Have the slot do something and return its answer, of which its environment is kept."""
        call = self.cluster.call(self.number, message)
        timer = threading.Timer(SAY_AFTER_S, self.on_wait, [waiting]) if waiting else None
        try:
            if timer is not None:
                timer.daemon = True
                timer.start()
            for answer, _ in call.messages(timeout_s):
                if "waiting" in answer:
                    self.on_wait(str(answer["waiting"]))
                elif "done" in answer:
                    if environment := answer["done"].get("environment"):
                        self._environment = frames.load_environment(environment)
                    return answer
        except (ValueError, KeyError) as error:
            raise SlotLost(f"what the slot said cannot be used: {error}") from error
        finally:
            if timer is not None:
                timer.cancel()
            self.cluster.forget(call)
        raise SlotLost("the slot said nothing")

    def _hear(self, message: Message, experiment_id: int) -> None:
        """Pass on what a slot says of a trial that runs. Raises ValueError or KeyError."""
        if "event" in message:
            self._record(message, experiment_id)
        elif "line" in message:
            self.show(experiment_id, Role(message["role"]), str(message["line"]))
        elif "waiting" in message:
            self.on_wait(str(message["waiting"]))

    def _record(self, message: Message, experiment_id: int) -> None:
        kind = str(message["event"])
        if kind not in EVENTS:
            raise ValueError(f"an event that is not a slot's to report: {kind}")
        event = parse_event(kind, experiment_id, message["body"])
        if isinstance(event, ContainerStarted):
            self._containers.append(event.container_id)
        if experiment_id_of(event) == experiment_id:
            self.record(event)

    def _lose(self, why: str) -> None:
        log.warning("slot.lost", host=self.host, reason=why)
        self._drop()

    def _drop(self) -> None:
        self._holds = False
        self.cluster.tell(self.number, {"do": "drop"})


SAY_AFTER_S = 3.0  # a free slot is had sooner


@dataclass(slots=True, kw_only=True)
class ReceivedFiles:
    """Files of a trial that arrive in pieces: new plain files of the experiment's folder, capped in number and size."""

    folder: Path
    checkpoint_bytes: int
    sizes: dict[str, int] = field(default_factory=dict)
    _open: tuple[str, int] | None = None

    def add(self, name: str, data: bytes) -> None:
        """Append a piece. Raises ValueError beyond the limits, OSError where it cannot be written or is there."""
        if not frames.FILE_NAME.fullmatch(name) or len(self.sizes) > frames.MAX_FILES:
            raise ValueError(f"a file called {name[:80]!r}, or too many")
        if self._open is None or self._open[0] != name:
            self.close()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open = name, os.open(self.folder / name, flags, 0o600)
        self.sizes[name] = self.sizes.get(name, 0) + len(data)
        others = sum(size for other, size in self.sizes.items() if other != NAME)
        if self.sizes.get(NAME, 0) > self.checkpoint_bytes or others > MAX_RECEIVED:
            raise ValueError(f"{name} and others are larger than agreed")
        while data:
            data = data[os.write(self._open[1], data) :]

    def close(self) -> None:
        """Close the file that is being written."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


def open_log(path: Path) -> BinaryIO:
    """Open a log for its owner alone, to append to. Raises RecordFailed."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")
    except OSError as error:
        raise explain_write_error(path, error) from error


def bound_trial_s(config: Config) -> float:
    """Return the seconds after which nothing of a trial can still run, be copied or sent."""
    box = config.active_profile
    training = box.time_budget_s + box.grace_s + box.score_budget_s
    return training + STARTING_S + 2 * (box.load_budget_s + box.time_budget_s) + box.score_budget_s + LATE_S
