"""A slot on a host of a Ray cluster: an actor that leases a device and runs the trials that the head sends.

Ray is not imported here: the driver makes an actor of the class. Nothing blocks the actor, so that `end` always gets
through: work is done in a thread, and what it has to say waits in an outbox for the head's next poll.
"""

import asyncio
import json
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import compose
from orchestrator.cluster import host
from orchestrator.devices.lease import Lease, build_lease_policy
from orchestrator.errors import AutoresearchError
from orchestrator.events import Event, body_of
from orchestrator.execution import frames
from orchestrator.execution.experiment import ContainerRunner
from orchestrator.execution.frames import Message
from orchestrator.execution.slot import Slot
from orchestrator.types import Environment, Kept, Role, Trial
from orchestrator.walls.engine import Engine

POLL_S = 0.5  # the longest that a poll waits
BATCH_BYTES = 8 << 20
MAX_WAITING_BYTES = 32 << 20  # of file pieces that the head has not fetched
MAX_WAITING_LINES = 2000  # of output; what is more is in the log file
LOG_BYTES = 64 << 20  # of all files of a trial but the checkpoint


class Outbox:
    """What a slot has to say, in order; lines of output are dropped where the head does not fetch them."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._items: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, message: Message, data: bytes = b"") -> None:
        """Add a message; with data, wait until the head has fetched enough of what is there."""
        with self._changed:
            if "line" in message and len(self._items) > MAX_WAITING_LINES:
                return
            while data and self._bytes > MAX_WAITING_BYTES:
                self._changed.wait()
            self._items.append((json.dumps(message), data))
            self._bytes += len(data)
            self._changed.notify_all()

    def take(self, wait_s: float) -> list[tuple[str, bytes]]:
        """Return what is there, at most some megabytes, as soon as there is something."""
        with self._changed:
            self._changed.wait_for(lambda: self._items, wait_s)
            taken, size = list[tuple[str, bytes]](), 0
            while self._items and size < BATCH_BYTES:
                item = self._items.popleft()
                taken.append(item)
                size += len(item[0]) + len(item[1])
                self._bytes -= len(item[1])
            self._changed.notify_all()
            return taken


class RemoteSlot:
    """The actor. One command runs at a time; its last message is `done`, `failed` or `refused`."""

    def __init__(self) -> None:
        """Lease nothing yet."""
        self.outbox = Outbox()
        self.work: Workplace | None = None

    def open(self, order: Message) -> "Workplace":
        """Lease what the head orders. Raises AutoresearchError."""
        return Workplace.open(order, self.outbox)

    async def do(self, command: str) -> None:
        """Begin a command."""
        message = frames.parse(command)
        threading.Thread(target=self._do, args=(message,), daemon=True, name=str(message.get("do"))).start()

    async def poll(self) -> list[tuple[str, bytes]]:
        """Return what there is to say, after half a second at the latest."""
        return await asyncio.to_thread(self.outbox.take, POLL_S)

    async def end(self, why: str) -> None:
        """End what runs now, if anything does."""
        if self.work is not None:
            await asyncio.to_thread(self.work.slot.end, why)

    def _do(self, message: Message) -> None:
        try:
            if message["do"] == "take":
                self.work = self.open(message)
                answer: Message = {"done": self.work.describe()}
            elif self.work is None:
                answer = {"failed": "nothing is leased"}
            elif message["do"] == "ready":
                waited = self.work.ready()
                answer = {"done": self.work.describe(), "waited": waited}
            elif message["do"] == "run":
                answer = {"done": frames.dump_trial(self.work.run(message))}
            else:
                self.work.slot.give_back()
                answer = {"done": {}}
        except AutoresearchError as error:
            answer = {"failed": str(error)}
        except BaseException as error:  # noqa: BLE001  # the head has to hear of it, whatever it is
            answer = {"failed": f"{type(error).__name__}: {error}"}
        self.outbox.put(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """A leased device of this host, and a folder for what its trials leave."""

    slot: Slot
    outbox: Outbox
    folder: Path
    checkpoint_bytes: int
    engine: Engine | None = None
    kept: list[Kept] = field(default_factory=list)  # of the run, as the head sent them with the last job
    image_id: str  # the head's name of the image, whose content is the same here

    @classmethod
    def open(cls, order: Message, outbox: Outbox) -> "Workplace":
        """Lease a device of the hardware class that is ordered. Raises AutoresearchError."""
        here = host.read_host(os.environ)
        folder = Path(tempfile.mkdtemp(prefix="slot-", dir=here.folder))
        config = host.load_config(here, order["settings"], tag=order["run"], runs=folder)
        engine = compose.connect_engine(config)

        def say(reason: str) -> None:
            outbox.put({"waiting": f"{host.name()}: {reason}"})

        def record(event: Event) -> None:
            outbox.put({"event": event.kind, "body": body_of(event)})

        def show(_: int, role: Role, text: str) -> None:
            outbox.put({"line": text, "role": role})

        kept = list[Kept]()

        def make(leased: Lease) -> ContainerRunner:
            place = compose.build_leased_context(config, engine, leased)
            return ContainerRunner(place=replace(place, warm=None), record=record, show=show, kept=lambda: kept)

        policy = replace(build_lease_policy(config), hardware=order["hardware"])
        slot = compose.make_slot(config, say, policy, make)
        slot.__enter__()
        limit = config.recording.checkpoint_mb << 20
        return cls(
            slot=slot,
            outbox=outbox,
            folder=folder,
            checkpoint_bytes=limit,
            engine=engine,
            image_id=order["image_id"],
            kept=kept,
        )

    def ready(self) -> bool:
        """Hold an idle device and see that the engine answers; return whether that took a wait. Raises SandboxError."""
        if self.engine is not None:
            self.engine.info()
        return self.slot.ready()

    def describe(self) -> Message:
        """Return where the slot is and what it leased."""
        return {"environment": frames.dump_environment(self.environment()), "pid": os.getpid()}

    def environment(self) -> Environment:
        """Return the environment, with the image as the head names it."""
        return replace(self.slot.environment(), host=host.name(), image_id=self.image_id)

    def run(self, job: Message) -> Trial:
        """Run a trial, send its files, and leave nothing here."""
        number, attempt = int(job["experiment_id"]), int(job["candidate"]["attempt"])
        self.kept[:] = frames.load_kept(job)
        folder = Path(tempfile.mkdtemp(prefix=f"{number:04d}-{attempt}-", dir=self.folder))
        try:
            with host.holding(self.folder.parent, f"experiment {number}, attempt {attempt}"):
                trial = self.slot.run(
                    frames.load_candidate(job), frames.load_plan(job), experiment_id=number, folder=folder,
                    best=job["best"],
                )  # fmt: skip
            send_files(folder, self.outbox.put, {trial.checkpoint_file: self.checkpoint_bytes})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return trial


def send_files(folder: Path, put: Callable[[Message, bytes], None], limits: dict[Path | None, int]) -> None:
    """Send the plain files of a folder in pieces; `limits` are bytes of single files, the others share a limit."""
    shared = LOG_BYTES
    for path in sorted(folder.iterdir())[: frames.MAX_FILES]:
        if not frames.FILE_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        limit = limits.get(path, shared)
        size = path.stat().st_size
        if size > limit:
            continue
        if path not in limits:
            shared -= size
        for piece in pieces_of(path, size):
            put({"file": path.name}, piece)


def pieces_of(path: Path, size: int) -> Iterator[bytes]:
    """Yield a file in pieces, at most `size` bytes of it; an empty file is one empty piece."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        yield file.read(min(size, frames.MAX_DATA))
        left = size - frames.MAX_DATA
        while left > 0 and (piece := file.read(min(left, frames.MAX_DATA))):
            yield piece
            left -= len(piece)


def remove_leftovers(folder: Path) -> None:
    """Remove what slots whose process died left in a worker's folder."""
    for path in folder.glob("slot-*"):
        with suppress(OSError):
            shutil.rmtree(path)
