"""A view is attached to a running loop from another terminal, and detached, and the loop does not notice."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.bounds import last_word
from orchestrator.errors import ConfigError, JournalError
from orchestrator.look.follow import follow
from orchestrator.look.live_view import LiveView, PlainView
from orchestrator.record import experiment_dir
from orchestrator.record.journal import Journal
from orchestrator.record.session_log import logging_to
from orchestrator.types import Candidate, Experiment, Role, Spent
from tests.records.test_journal import candidate
from tests.support import fakes
from tests.support.journals import kept

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Witness(fakes.SilentView):
    """Remembers everything it was told."""

    told: list[tuple[object, ...]] = field(default_factory=list)

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """An experiment starts."""
        self.told.append(("begun", experiment_id, candidate.proposal.hypothesis))

    def waiting(self, reason: str) -> None:
        """Nothing runs."""
        self.told.append(("waiting", reason))

    def phase(self, experiment_id: int, role: Role, deadline_s: float) -> None:
        """A container started."""
        self.told.append(("phase", role, round(deadline_s, -1)))

    def line(self, experiment_id: int, role: Role, text: str) -> None:
        """It printed."""
        self.told.append(("line", role, text))

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """It ended."""
        self.told.append(("finished", experiment.id, best and best.id))


def append(path: Path, text: str) -> None:
    """As a log grows."""
    with path.open("a") as file:
        file.write(text)


def begin(journal: Journal) -> Path:
    """An experiment whose trainer has started and printed two lines."""
    number = journal.begin(candidate(), intent={"files": {}})
    folder = journal.folder / f"{number:04d}"
    experiment_dir.make_folder(folder)
    created = {"Args": ["-s", "/locked/guard.py", "315", "--", "python3", "/mutable/train.py"]}
    (folder / "trainer.created.json").write_text(json.dumps(created))
    (folder / "trainer.log").write_text("[    0.001 out] one\n[    0.002 err] \x1b[31mtwo\nhalf a li")
    return folder


def test_it_tells_what_the_loop_writes(tmp_path: Path) -> None:
    """The experiment that runs, its container with the time left, its lines; the end; the next one; the last word."""
    view = Witness()
    with Journal.open(tmp_path) as journal:
        folder = begin(journal)
        steps = iter([
            lambda: append(folder / "trainer.log", "ne\n"),
            lambda: journal.finish(kept(2.0)),
            lambda: begin(journal),
            lambda: journal.note("session.ended", {"reason": "done", "limit": True}),
        ])  # fmt: skip

        assert "ended: done" == follow(tmp_path, view, lambda _: bool(next(steps)() and False))
    first = [
        ("begun", 0, "warm up longer"),
        ("phase", "trainer", 300.0),
        ("line", "trainer", "one"),
        ("line", "trainer", "two"),
    ]
    second = [("begun", 1, "warm up longer"), *first[1:]]

    assert [*first, ("line", "trainer", "half a line"), ("finished", 0, 0), *second] == view.told


def test_what_the_loop_waits_for_is_told(tmp_path: Path) -> None:
    """Also to who attaches while it waits, and never once something has begun; from the log of a loop in a terminal."""
    early, late = Witness(), Witness()
    loop = LiveView(tag="t", console=Console(file=StringIO()), told=PlainView())
    with Journal.open(tmp_path) as journal, logging_to(tmp_path, screen=False):
        loop.waiting("quiet hours until 06:00")
        loop.begun(0, candidate())
        steps = iter([
            lambda: loop.waiting("paused"),
            lambda: follow(tmp_path, late, lambda _: True),
            lambda: journal.note("session.ended", {"reason": "done", "limit": True}),
        ])  # fmt: skip
        follow(tmp_path, early, lambda _: bool(next(steps)() and False))

    assert [("waiting", "paused")] == early.told
    assert early.told == late.told


def test_a_scorer_is_shown_when_it_begins(tmp_path: Path) -> None:
    """It starts before the trainer and only waits, without a word, while that trains."""
    view = Witness()
    with Journal.open(tmp_path) as journal:
        folder = begin(journal)
        (folder / "scorer.created.json").write_bytes((folder / "trainer.created.json").read_bytes())
        (folder / "scorer.log").touch()
        steps = iter([
            lambda: append(folder / "trainer.log", "ne\n"),
            lambda: append(folder / "scorer.log", "[    0.001 out] checkpoint_bytes: 1\n"),
            lambda: journal.finish(kept(2.0)),
            lambda: journal.note("session.ended", {"reason": "done", "limit": True}),
        ])  # fmt: skip
        follow(tmp_path, view, lambda _: bool(next(steps)() and False))
    told = [what for what in view.told if what[0] in ("phase", "line")]

    assert [("phase", "scorer", 300.0), ("line", "scorer", "checkpoint_bytes: 1")] == told[-2:]
    assert ("line", "trainer", "half a line") == told[-3]


def test_an_error_that_ends_the_session_is_its_last_word(tmp_path: Path) -> None:
    """On record, and told to whoever watches."""
    steps = iter([False])
    with Journal.open(tmp_path) as journal:
        journal.note("session.started", {"facts": {}})

        def fails(_: float) -> bool:
            with pytest.raises(ConfigError), last_word(journal):
                raise ConfigError("boom")
            return next(steps)

        assert "ended: boom" == follow(tmp_path, Witness(), fails)


def test_a_run_that_nobody_writes_is_not_watched(tmp_path: Path) -> None:
    """What to type is said; a session that dies while it is watched is missed."""
    with Journal.open(tmp_path) as journal:
        begin(journal)
        said = follow(tmp_path, Witness(), lambda _: journal.close() is not None)

    assert "the session ended unexpectedly" in said
    with pytest.raises(JournalError, match="no session is running"):
        follow(tmp_path, Witness(), lambda _: True)


@pytest.mark.parametrize("by", ["q", signal.SIGINT])
def test_it_is_detached_by_q_or_ctrl_c(tmp_path: Path, by: "str | signal.Signals") -> None:
    """In a real terminal, which is left as it was; the loop's journal is still its own."""
    run = tmp_path / "t"
    ours, theirs = pty.openpty()
    with Journal.open(run) as journal:
        begin(journal)
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

        assert (0, "detached; the loop continues\n") == (process.returncode, said)
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        journal.note("still", {"mine": True})
    assert b"experiment 0" in seen
