"""Views are readable in a real terminal of 40 columns, without UTF-8, colour or cursor control, and in a pipe."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.events import ContainerStarted, LoopWaiting
from orchestrator.look.live_view import LiveView
from orchestrator.look.terminal import PLAIN
from orchestrator.record.journal import Journal
from orchestrator.types import Role
from tests.support.journals import begin, finish, kept

ROOT = Path(__file__).parents[1]
HYPOTHESIS = "warm up longer → a calmer beginning of the training"
COLUMNS = 40
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run of several steps with long hypotheses."""
    with Journal.open(tmp_path / "runs" / "t") as journal:
        for number in range(12):
            finish(journal, kept(3.0 - 0.1 * number, id=number, hypothesis=HYPOTHESIS))
            (journal.folder / f"{number:04d}").mkdir(exist_ok=True)
    return tmp_path / "runs"


def in_terminal(runs: Path, *command: str, **variables: str) -> str:
    """What a command prints on a terminal of 40 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8", **variables}
    words = [sys.executable, "-m", "orchestrator", *command, "--runs", str(runs)]
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
    os.close(ours)
    assert 0 == process.returncode, said
    return said.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    "variables",
    [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, {"NO_COLOR": "1"}],
    ids=["plain", "without UTF-8", "without colour"],
)
def test_a_list_fits_a_narrow_terminal(runs: Path, variables: dict[str, str]) -> None:
    """Whole words of each hypothesis, and the curve in one line."""
    said = in_terminal(runs, "status", **variables)
    lines = [COLOUR.sub("", line).rstrip() for line in said.splitlines()]

    assert max(map(len, lines)) <= COLUMNS
    text = " ".join(" ".join(line.split()) for line in lines)
    ascii_only = "PYTHONIOENCODING" in variables
    assert 12 == len(
        re.findall(f"warm up longer {'>' if ascii_only else '→'} a calmer beginning of the training", text)
    )
    assert "best: 1.900000" in text
    assert lines[-1].startswith("3.0000 ") and lines[-1].endswith(" 1.9000")
    assert said.isascii() == ascii_only
    assert not ("NO_COLOR" in variables and re.search(r"\x1b\[(3|9)[0-9]m", said))


def test_a_terminal_without_cursor_control_gets_plain_text(runs: Path) -> None:
    """No escape sequence at all."""
    assert "\x1b" not in in_terminal(runs, "status", TERM="dumb")


def test_in_a_pipe_without_utf_8_nothing_breaks(runs: Path) -> None:
    """As in a log of a scheduler's; errors are printable too."""
    environment = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "latin-1"}
    words = [sys.executable, "-m", "orchestrator"]
    done = subprocess.run(
        [*words, "status", "--runs", str(runs)], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    wrong = subprocess.run(
        [*words, "status", "--runs", str(runs), "--run", "größer→"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
    )

    assert b"longer > a calmer" in done.stdout
    assert b"gr\xf6\xdfer>/record.jsonl" in wrong.stderr
    assert 1 == wrong.returncode


@pytest.mark.parametrize("columns", [24, 40, 69, 80])
def test_the_live_view_fits(tmp_path: Path, columns: int) -> None:
    """Its numbers are whole, no line is longer than the terminal, and it is no higher than one."""
    output = StringIO()
    console = Console(file=output, width=columns, height=24, force_terminal=True, no_color=True)
    with Journal.open(tmp_path) as journal:
        view = LiveView(tag="t", console=console, goal=20)
        view.attach(journal)
        journal.subscribe(view.handle)
        for number in range(3):
            finish(journal, kept(2.0 - number / 10, id=number))
        number = begin(journal)
        journal.append(ContainerStarted(experiment_id=number, role=Role.TRAINER, container_id="c", deadline_s=300.0))
        view.show_output(number, Role.TRAINER, "step 123 | loss 2.3456 | 35,943 tok/s")
        journal.append(LoopWaiting(reason="quiet hours"))
        console.print(view.render())
    lines = [COLOUR.sub("", line) for line in output.getvalue().splitlines()]

    assert max(map(len, lines)) <= columns
    assert len(lines) <= 24
    assert any("trainer" in line and "300 s left" in line for line in lines)
    assert any(line.split()[:3] == ["0", "keep", "2.0000"] for line in lines)
    assert any("step 123 | loss" in line for line in lines)


def test_what_replaces_a_character_is_one_character() -> None:
    """Or a line would be wider than it was made to be."""
    assert {1} == {len(plain) for plain in PLAIN.values()}
    assert "".join(PLAIN.values()).isascii()
