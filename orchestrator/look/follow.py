"""Attach a view to a run from another terminal: what its journal and the running experiment's logs say, read only."""

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orchestrator.errors import JournalError
from orchestrator.look.live_view import PlainView
from orchestrator.protocols import View
from orchestrator.record.chain import Record
from orchestrator.record.journal import Journal
from orchestrator.record.session_log import NAME as LOG
from orchestrator.record.verify import is_live
from orchestrator.text import sanitise
from orchestrator.types import Candidate, Experiment, Reply, Role, Spent
from orchestrator.walls.experiment_sandbox import GUARD_MARGIN_S
from orchestrator.walls.spec import GUARD

POLL_S = 0.5
PIECE = 64 << 10  # of a log that grows faster than it is read, the end
QUIT = "q"
WAITING, MOVES = "loop.waiting", ("session.started", "experiment.begun", "experiment.run_again", "experiment.finished")

log = structlog.get_logger()


class ToldView(PlainView):
    """For pipes: what the loop's own events say to whoever started it, is said here too."""

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:  # noqa: ARG002
        """Say how an experiment ended."""
        log.info("experiment.finished", experiment_id=experiment.id, status=experiment.status.value,
                 value=experiment.judged_value, reason=sanitise(experiment.reason, limit=300))  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Follower:
    """Tells a view what a run's record tells; writes nothing and holds no lock."""

    journal: Journal
    view: View
    _seq: int = 0
    _running: dict[int, Path] = field(default_factory=dict)
    _told: set[Path] = field(default_factory=set)
    _read: dict[Path, int] = field(default_factory=dict)
    ended: str = ""  # why the session ended

    def catch_up(self) -> None:
        """Go on from now; experiments that run are told anew."""
        _, self._seq, _ = self.journal.span()
        for begun in self.journal.unfinished():
            self._begun(begun)
        self._look()
        self._wait()

    def step(self) -> None:
        """Tell what is new."""
        for record in self.journal.since(self._seq):
            self._seq = record.seq
            self._tell(record)
        self._look()
        self._wait()

    def _wait(self) -> None:
        """Tell what the loop waits for, if nothing has happened since its log said so."""
        reason = ""
        for line in self._new_lines(self.journal.folder / LOG):
            with suppress(ValueError, KeyError, TypeError):  # where reading began, half a line
                event = json.loads(line)
                if event["event"] in (WAITING, *MOVES):
                    reason = sanitise(str(event["reason"]), limit=300) if event["event"] == WAITING else ""
        if reason:
            self.view.waiting(reason)

    def _tell(self, record: Record) -> None:
        if record.kind == "experiment.begun":
            self._begun(record)
        elif record.kind == "experiment.finished":
            self._look()
            self._running.pop(record.of_experiment, None)
            self.view.finished(self.journal.experiment(record.of_experiment), self.journal.best(), self.journal.spent())
        elif record.kind == "experiment.run_again":
            body = record.body
            self.view.again(record.of_experiment, body["run"], body["most"], body["val_bpb"])
        elif record.kind in ("session.ended", "session.failed"):
            self.ended = str(record.body["reason"])
        elif record.kind == "session.started":
            self.ended = ""

    def _begun(self, record: Record) -> None:
        body, number = record.body, record.of_experiment
        reply = Reply(proposer=body["reply"]["proposer"], model=body["reply"]["model"], prompt="", text="")
        proposal, parent = Journal.proposal(body["proposal"]), body["parent_id"]
        candidate = Candidate(proposal=proposal, source="", parent_id=parent, parent_source="", reply=reply)
        self._running[number] = self.journal.folder / f"{number:04d}"
        self.view.begun(number, candidate)

    def _look(self) -> None:
        """Tell which containers started and what they printed."""
        for number, folder in self._running.items():
            for path in sorted(folder.rglob("*.created.json")):
                self._phase(number, path)
            for path in sorted(folder.rglob("*.log")):
                for line in self._new_lines(path):
                    stamp, bracket, text = line.partition("] ")
                    shown = sanitise(text if bracket and stamp.startswith("[") else line)
                    self.view.line(number, Role(path.stem), shown)

    def _phase(self, number: int, path: Path) -> None:
        """A container's record says how long it may live, the record's age for how long it has."""
        role = Role(path.name.partition(".")[0])
        if path in self._told or (role is Role.SCORER and not self._has_begun(path.with_name(f"{role}.log"))):
            return
        with suppress(OSError, ValueError, KeyError, IndexError):  # half written
            guard = json.loads(path.read_text(encoding="utf-8"))["Args"]
            left = float(guard[guard.index(GUARD) + 1]) - GUARD_MARGIN_S - (time.time() - path.stat().st_mtime)
            self._told.add(path)
            if left > 0:
                self.view.phase(number, role, left)

    @staticmethod
    def _has_begun(log: Path) -> bool:
        """Whether a scorer that waited for the training to end has printed something."""
        with suppress(OSError):
            return log.stat().st_size > 0
        return False

    def _new_lines(self, path: Path) -> list[str]:
        with suppress(OSError), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(self._read.get(path, 0), size - PIECE))
            data = file.read(PIECE)
            whole = data.rfind(b"\n") + 1
            self._read[path] = file.tell() - len(data) + whole
            return data[:whole].decode("utf-8", "replace").splitlines()
        return []


def follow(folder: Path, view: View, wants_out: Callable[[float], bool]) -> str:
    """Tell `view` about a running session until it ends or `wants_out(seconds)`, which waits; says why it ended.

    Raises JournalError if no session is running.
    """
    if not is_live(folder):
        raise JournalError(
            f"{folder.name}: no session is running; resume it with `autoresearch loop --run {folder.name}`"
        )
    with Journal.read(folder) as journal:
        follower = Follower(journal=journal, view=view)
        follower.catch_up()
        while True:
            live = is_live(folder)  # before the step, so that a last word is heard
            follower.step()
            if follower.ended:
                return f"ended: {follower.ended}"
            if not live:
                return f"the session ended unexpectedly; resume it with `autoresearch loop --run {folder.name}`"
            if wants_out(POLL_S):
                return "detached; the loop continues"


@contextmanager
def keys() -> Iterator[Callable[[float], bool]]:
    """Waits up to so many seconds for `q`; in a terminal, single keys are heard without Enter, and not shown."""
    file = sys.stdin.fileno() if sys.stdin.isatty() else -1
    if file < 0:
        yield _never
        return
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield lambda seconds: _pressed(file, seconds)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _never(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(file: int, seconds: float) -> bool:
    ready, _, _ = select.select([file], [], [], seconds)
    if not ready:
        return False
    heard = os.read(file, 64)
    return not heard or QUIT in heard.decode(errors="replace").lower()
