"""A view is attached to a running loop from another terminal, and detached, and the loop does not notice."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import ConfigError, JournalError
from orchestrator.events import (
    CallReserved,
    ContainerStarted,
    Event,
    ExperimentBegun,
    ExperimentFinished,
    LoopWaiting,
    ScoringBegun,
    SessionEnded,
    SessionStarted,
)
from orchestrator.lifecycle import record_failure
from orchestrator.look.follow import DETACHED, Follower, follow
from orchestrator.look.live_view import LiveView
from orchestrator.record import experiment_dir
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.types import Environment, Role, Usage
from tests.support.journals import begin, finish, kept

ROOT = Path(__file__).parents[1]
ENDED = SessionEnded(reason="done", limit_reached=True)
STARTED = SessionStarted(task="t", metric="val_bpb", proposer="scripted", environment=Environment())


@dataclass(slots=True)
class Witness:
    """Remembers what it is shown, in a few words each."""

    seen: list[tuple[object, ...]] = field(default_factory=list)

    def handle(self, recorded: Recorded[Event]) -> None:
        """Remember an event."""
        match recorded.event:
            case ExperimentBegun(experiment_id=number, proposal=proposal):
                self.seen.append(("begun", number, proposal.hypothesis))
            case LoopWaiting(reason=reason):
                self.seen.append(("waiting", reason))
            case ContainerStarted(role=role, deadline_s=deadline_s):
                self.seen.append(("started", role, deadline_s))
            case ScoringBegun(deadline_s=deadline_s):
                self.seen.append(("scoring", deadline_s))
            case ExperimentFinished(experiment=experiment):
                self.seen.append(("finished", experiment.id))

    def show_output(self, experiment_id: int, role: Role, text: str) -> None:
        """Remember a line."""
        self.seen.append(("line", role, text))


def watch(folder: Path, view: Witness, must_quit: Callable[[float], bool]) -> str:
    """Follow a run as the command does."""
    with Journal.read(folder) as journal:
        return follow(Follower(journal=journal, handle=view.handle, show_output=view.show_output), must_quit)


def append(path: Path, text: str) -> None:
    """Write to a log, as a container's output does."""
    with path.open("a") as file:
        file.write(text)


def start(journal: Journal) -> Path:
    """Begin an experiment whose trainer has started and printed two lines and a half."""
    number = begin(journal)
    folder = journal.folder / f"{number:04d}"
    experiment_dir.make_folder(folder)
    journal.append(ContainerStarted(experiment_id=number, role=Role.TRAINER, container_id="c0ffee", deadline_s=300.0))
    (folder / "trainer.log").write_text("[    0.001 out] one\n[    0.002 err] \x1b[31mtwo\nhalf a li")
    return folder


def test_it_shows_what_the_loop_records(tmp_path: Path) -> None:
    """The experiment under way, its container, its lines; its end; the next one; why the session ended."""
    view = Witness()
    with Journal.open(tmp_path) as journal:
        folder = start(journal)
        steps = iter([
            lambda: append(folder / "trainer.log", "ne\n"),
            lambda: finish(journal, kept(2.0)),
            lambda: start(journal),
            lambda: journal.append(ENDED),
        ])  # fmt: skip

        assert "ended: done" == watch(tmp_path, view, lambda _: bool(next(steps)() and False))
    first = [
        ("begun", 0, "warm up longer"),
        ("started", "trainer", 300.0),
        ("line", "trainer", "one"),
        ("line", "trainer", "two"),
    ]
    second = [("begun", 1, "warm up longer"), *first[1:]]

    assert [*first, ("line", "trainer", "half a line"), ("finished", 0), *second] == view.seen


@pytest.mark.parametrize("moment", ["before", "while it is followed"])
def test_it_follows_a_run_whose_index_is_deleted(tmp_path: Path, moment: str) -> None:
    """The loop makes it again; who follows reads the record, and asks for nothing else."""
    view, index = Witness(), tmp_path / "index.db"
    with Journal.open(tmp_path) as journal:
        start(journal)
        if moment == "before":
            index.unlink()
        steps = iter([
            lambda: index.unlink(missing_ok=True),
            lambda: finish(journal, kept(2.0)),
            lambda: start(journal),
            lambda: journal.append(ENDED),
        ])  # fmt: skip

        assert "ended: done" == watch(tmp_path, view, lambda _: bool(next(steps)() and False))
        assert [0] == [experiment.id for experiment in journal.experiments()]
    assert [("finished", 0), ("begun", 1, "warm up longer")] == [
        what for what in view.seen if what[0] in ("begun", "finished")
    ][1:]
    assert index.exists()


def test_what_the_loop_waits_for_is_shown(tmp_path: Path) -> None:
    """Also to a view that is attached while it waits, and not once something has happened."""
    early, late, later = Witness(), Witness(), Witness()
    with Journal.open(tmp_path) as journal:
        journal.append(LoopWaiting(reason="quiet hours until 06:00"))
        journal.append(STARTED)
        steps = iter([
            lambda: journal.append(LoopWaiting(reason="paused")),
            lambda: watch(tmp_path, late, lambda _: True),
            lambda: journal.append(CallReserved(usage=Usage())),
            lambda: watch(tmp_path, later, lambda _: True),
            lambda: journal.append(ENDED),
        ])  # fmt: skip
        watch(tmp_path, early, lambda _: bool(next(steps)() and False))

    assert [("waiting", "paused")] == early.seen
    assert early.seen == late.seen
    assert [] == later.seen


def test_a_scorer_is_shown_when_it_begins(tmp_path: Path) -> None:
    """It starts before the trainer and only waits, without a word, while that trains."""
    view = Witness()
    with Journal.open(tmp_path) as journal:
        folder = start(journal)
        (folder / "scorer.log").touch()
        steps = iter([
            lambda: append(folder / "trainer.log", "ne\n"),
            lambda: journal.append(ScoringBegun(experiment_id=0, deadline_s=60.0)),
            lambda: append(folder / "scorer.log", "[    0.001 out] checkpoint_bytes: 1\n"),
            lambda: finish(journal, kept(2.0)),
            lambda: journal.append(ENDED),
        ])  # fmt: skip
        watch(tmp_path, view, lambda _: bool(next(steps)() and False))
    last = [what for what in view.seen if what[0] in ("scoring", "line")][-3:]

    assert [("line", "trainer", "half a line"), ("scoring", 60.0), ("line", "scorer", "checkpoint_bytes: 1")] == last


def test_other_files_that_end_like_a_log_are_left_alone(tmp_path: Path) -> None:
    """What is in a folder need not be ours."""
    view = Witness()
    with Journal.open(tmp_path) as journal:
        (start(journal) / "notes.log").write_text("mine\n")

        assert DETACHED == watch(tmp_path, view, lambda _: True)
    assert ("line", "trainer", "two") == view.seen[-1]


def test_an_error_that_ends_the_session_is_shown(tmp_path: Path) -> None:
    """On record, and to a view that follows."""
    steps = iter([False])
    with Journal.open(tmp_path) as journal:
        journal.append(STARTED)

        def fails(_: float) -> bool:
            with pytest.raises(ConfigError), record_failure(journal):
                raise ConfigError("boom")
            return next(steps)

        assert "ended: boom" == watch(tmp_path, Witness(), fails)


def test_a_run_without_a_session_is_not_followed(tmp_path: Path) -> None:
    """What to type is in the message; a session that dies while it is followed is noticed."""
    with Journal.open(tmp_path) as journal:
        start(journal)
        said = watch(tmp_path, Witness(), lambda _: journal.close() is not None)

    resumes = f"resume it with `autoresearch loop --run {tmp_path.name}`"
    assert f"the session ended unexpectedly; {resumes}" == said
    with pytest.raises(JournalError, match=f"no session is running; {resumes}"):
        watch(tmp_path, Witness(), lambda _: True)


def test_a_view_that_is_attached_late_knows_the_time_that_is_left(tmp_path: Path) -> None:
    """From when the container was started, not from when one looks."""
    with Journal.open(tmp_path) as journal:
        start(journal)
        time.sleep(1.2)
        view = LiveView(tag="t", console=Console(file=StringIO(), width=100))
        with Journal.read(tmp_path) as read:
            view.attach(read)
            follow(Follower(journal=read, handle=view.handle, show_output=view.show_output), lambda _: True)
        with view.console.capture() as screen:
            view.console.print(view.render())

    assert "299 s left" in screen.get()
    assert "two" in screen.get()


@pytest.mark.parametrize("by", ["q", signal.SIGINT])
def test_it_is_detached_by_q_or_ctrl_c(tmp_path: Path, by: "str | signal.Signals") -> None:
    """In a real terminal, which is left as it was; the loop's journal is still its own."""
    run = tmp_path / "t"
    ours, theirs = pty.openpty()
    with Journal.open(run) as journal:
        start(journal)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        command = [sys.executable, "-m", "orchestrator", "watch", "--runs", str(tmp_path)]
        process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, text=True)
        os.close(theirs)
        seen = b""
        until = time.monotonic() + 60
        while b"two" not in seen and time.monotonic() < until:
            seen += os.read(ours, 65536) if select.select([ours], [], [], 1)[0] else b""
        if isinstance(by, str):
            os.write(ours, by.encode())
        else:
            process.send_signal(by)
        until = time.monotonic() + 60
        os.set_blocking(ours, False)
        while process.poll() is None and time.monotonic() < until:
            try:
                os.read(ours, 65536)
            except (BlockingIOError, OSError):
                time.sleep(0.05)
        os.close(ours)
        said, _ = process.communicate(timeout=10)

        assert (0, f"{DETACHED}\n") == (process.returncode, said)
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        journal.append(LoopWaiting(reason="still mine"))
    assert b"experiment 0" in seen
