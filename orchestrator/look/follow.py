"""Follow a running session from another terminal: its record, and the output of its containers. Reads only."""

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

from orchestrator.errors import JournalError
from orchestrator.events import (
    Event,
    ExperimentBegun,
    ExperimentFinished,
    LoopWaiting,
    SessionEnded,
    SessionFailed,
    SessionStarted,
    experiment_id_of,
)
from orchestrator.record.journal import Journal, Subscriber, is_live
from orchestrator.record.record_file import Recorded
from orchestrator.text import sanitise
from orchestrator.types import Role

POLL_S = 0.5
MAX_PIECE = 64 << 10  # bytes; of a log that grows faster than it is read, the end
QUIT = "q"
ROLES = {role.value: role for role in Role}
DETACHED = "detached; the loop continues"
ShowOutput = Callable[[int, Role, str], None]


@dataclass(slots=True, kw_only=True)
class Follower:
    """Passes on the events of a run, and the lines that its containers print, as they come."""

    journal: Journal
    handle: Subscriber
    show_output: ShowOutput | None = None
    ended: str = ""  # why the session ended
    _seq: int = 0
    _active: dict[int, Path] = field(default_factory=dict)  # the folder of each experiment under way
    _read: dict[Path, int] = field(default_factory=dict)  # bytes of each log

    def catch_up(self) -> None:
        """Pass on the recorded events of the active experiments, and what the loop waits for."""
        active = {begun.experiment_id for begun in self.journal.unfinished()}
        begun = [self.journal.events(ExperimentBegun, number)[0].seq for number in active]
        last = self.journal.last_event(LoopWaiting)
        self._seq = self.journal.span()[1]
        for recorded in self.journal.events_after(min(begun, default=self._seq) - 1):
            if recorded.seq <= self._seq and experiment_id_of(recorded.event) in active:
                self._pass_on(recorded)
        if last is not None and last.seq == self._seq:
            self._pass_on(last)
        self._tail_logs()

    def step(self) -> None:
        """Pass on new events and lines."""
        self.journal.refresh()
        for recorded in self.journal.events_after(self._seq):
            self._seq = recorded.seq
            self._pass_on(recorded)
        self._tail_logs()

    def _pass_on(self, recorded: Recorded[Event]) -> None:
        match recorded.event:
            case ExperimentBegun(experiment_id=number):
                self._active[number] = self.journal.folder / f"{number:04d}"
            case ExperimentFinished(experiment=experiment):
                self._tail_logs()
                self._active.pop(experiment.id, None)
            case SessionStarted():
                self.ended = ""
            case SessionEnded(reason=reason) | SessionFailed(reason=reason):
                self.ended = reason
        self.handle(recorded)

    def _tail_logs(self) -> None:
        if self.show_output is None:
            return
        for number, folder in self._active.items():
            for path in sorted(folder.rglob("*.log")):
                role = ROLES.get(path.stem)
                if role is None:
                    continue
                for line in self._new_lines(path):
                    stamp, bracket, text = line.partition("] ")
                    shown = sanitise(text if bracket and stamp.startswith("[") else line)
                    self.show_output(number, role, shown)

    def _new_lines(self, path: Path) -> list[str]:
        with suppress(OSError), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(self._read.get(path, 0), size - MAX_PIECE))
            data = file.read(MAX_PIECE)
            whole = data.rfind(b"\n") + 1
            self._read[path] = file.tell() - len(data) + whole
            return data[:whole].decode("utf-8", "replace").splitlines()
        return []


def follow(follower: Follower, must_quit: Callable[[float], bool]) -> str:
    """Follow a session until it ends or `must_quit(seconds)`, which waits; return why.

    Raises JournalError if no session is running.
    """
    folder = follower.journal.folder
    resume = f"resume it with `autoresearch loop --run {folder.name}`"
    if not is_live(folder):
        raise JournalError(f"{folder.name}: no session is running; {resume}")
    follower.catch_up()
    while True:
        live = is_live(folder)  # before the step, so that the last event is not missed
        follower.step()
        if follower.ended:
            return f"ended: {follower.ended}"
        if not live:
            return f"the session ended unexpectedly; {resume}"
        if must_quit(POLL_S):
            return DETACHED


@contextmanager
def quit_key() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits up to so many seconds for `q`; in a terminal, without Enter or echo."""
    file = sys.stdin.fileno() if sys.stdin.isatty() else -1
    if file < 0:
        yield _never
        return
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield lambda seconds: _is_pressed(file, seconds)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _never(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _is_pressed(file: int, seconds: float) -> bool:
    ready, _, _ = select.select([file], [], [], seconds)
    if not ready:
        return False
    keys = os.read(file, 64)
    return not keys or QUIT in keys.decode(errors="replace").lower()
