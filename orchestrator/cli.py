"""The commands, and the one place where everything is put together."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from orchestrator import __version__
from orchestrator.config import Config, load
from orchestrator.errors import AutoresearchError, ConfigError, JournalError
from orchestrator.journal import Journal

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
)
Task = Annotated[Path, typer.Option("--task", help="task directory: task.toml, program.md, locked/, mutable/")]
Run = Annotated[str, typer.Option("--run", help="name of the run; default: the date, as nov23")]
Runs = Annotated[Path | None, typer.Option("--runs", help="where the records are; default: runs/ in the task")]
Profile = Annotated[str, typer.Option(help="cpu or gpu; default: gpu where NVML sees one")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def settings(task: Path, run: str, runs: Path | None, flags: dict[str, Any] | None = None) -> Config:
    """The frozen Config of a command; flags that are None were not given."""
    root = task.resolve()
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    tag = run or f"{datetime.now().astimezone():%b%d}".lower()
    return load(root, {"tag": tag, "runs": (runs or root / "runs").resolve(), **given})


def run_folder(task: Path, run: str, runs: Path | None) -> Path:
    """The run to look at: the one named, else the one written last."""
    folder = (runs or task / "runs").resolve()
    if run:
        return folder / run
    found = sorted(folder.glob("*/journal.db"), key=lambda path: path.stat().st_mtime)
    if not found:
        message = f"{folder}: no run is recorded there; `make loop` makes one, --runs DIR names another place"
        raise JournalError(message)
    return found[-1].parent


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the session cleanly; a second one while that happens is not heard."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Run a command; what is wrong is said in one line and ends in a non-zero exit."""
    try:
        app()
    except AutoresearchError as error:
        Console(stderr=True, highlight=False).print(f"[red]error:[/red] {error}", markup=True, soft_wrap=True)
        sys.exit(1)
