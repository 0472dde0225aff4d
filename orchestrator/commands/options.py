"""What the commands share: their options, the settings of a task directory, and which run is meant."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.config import TASK_FILE, Config, load
from orchestrator.errors import JournalError
from orchestrator.host.data import corpus_name
from orchestrator.record.journal import Journal
from orchestrator.record.run_status import cut_short
from orchestrator.record.verify import is_live

Task = Annotated[Path, typer.Option("--task", help="task directory: task.toml, program.md, locked/, mutable/")]
Run = Annotated[
    str, typer.Option("--run", help="name of the run; default: the date, as nov23, or the newest to look at")
]
Runs = Annotated[Path | None, typer.Option("--runs", help="where the records are; default: runs/ in the task")]
Profile = Annotated[str, typer.Option(help="cpu or gpu")]
Data = Annotated[str, typer.Option("--data", help="'python', or a folder of .txt, .jsonl or .parquet files")]
Accept = Annotated[
    list[str] | None,
    typer.Option("--accept", help="an unsafe finding of doctor, by its name; recorded; may be given again"),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]
Raw = Annotated[bool, typer.Option("--raw", help="as it is on record, for pipes: nothing made harmless for a terminal")]
HERE = Path()
PIPE = 400  # columns: what was tried is cut at 200 characters
CHECKED = 64 << 20  # bytes of a database that are looked through before it is shown


def settings(task: Path, run: str, runs: Path | None, flags: dict[str, Any]) -> Config:
    """The frozen Config of a command; flags that are None were not given."""
    root = task.resolve()
    said = {key: value for key, value in flags.items() if value is not None}
    return load(root, {"tag": run, "runs": (runs or root / "runs").resolve(), **said})


def machine(profile: str, data: str, accept: list[str] | None) -> dict[str, Any]:
    """The flags of every command that starts containers."""
    return {"profile_name": profile, "corpus": corpus_name(data), "accept": accept or None}


def settings_of(task: Path) -> Config | None:
    """What task.toml says for a run that is looked at; nothing outside a task directory, where copies may be."""
    return settings(task, "any", None, {}) if (task / TASK_FILE).is_file() else None


def listing() -> Console:
    """Standard output, for lists: in a pipe or a file their lines are as long as they are."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE)


def looked_at(folder: Path) -> Journal:
    """The journal of a run, for looking at; where its database is damaged, what its mirror still tells.

    Raises JournalError if there is neither, or if it is of a newer version.
    """
    try:
        journal = Journal.read(folder)
        problem = journal.damage() if (folder / "journal.db").stat().st_size < CHECKED else ""
    except JournalError as error:
        if "newer version" in str(error) or not (folder / "record.jsonl").is_file():
            raise
        problem = str(error)
    if not problem:
        return journal
    said = Text.assemble(("damaged: ", "red"), f"{problem}; shown is what record.jsonl tells, `make verify` says more")
    Console(stderr=True, highlight=False).print(said, soft_wrap=True)
    return Journal.salvage(folder)


def given(task: Path, run: str, runs: Path | None) -> str:
    """What a `make` command needs to be about this run."""
    places = {"RUN": run, "TASK": None if task == HERE else task, "RUNS": runs}
    return " ".join(f"{name}={value}" for name, value in places.items() if value is not None)


def run_folder(task: Path, run: str, runs: Path | None) -> Path:
    """The run to look at: the one named, else the one written last."""
    if run:
        return (runs or task / "runs").resolve() / run
    return run_folders(task, runs)[-1]


def run_folders(task: Path, runs: Path | None) -> list[Path]:
    """Every run on record that began an experiment, the one written last at the end. Raises JournalError if none did.

    One that is about to is there too; what a start that failed leaves is no run to look at.
    """
    folder = (runs or task / "runs").resolve()
    there = sorted(folder.glob("*/journal.db"), key=lambda path: path.stat().st_mtime)
    found = [path for path in there if any(path.parent.glob("[0-9][0-9][0-9][0-9]*/")) or is_live(path.parent)]
    if not found:
        raise JournalError(
            f"{folder}: no run is recorded there; `make loop` makes one, RUNS=folder names another place"
        )
    return [path.parent for path in found]


def unfinished(config: Config) -> tuple[str, str]:
    """The newest run of this task and how it was cut short, for the same command to go on with; else ("", "")."""
    with suppress(JournalError):
        for folder in reversed(run_folders(config.root, config.runs)):
            with Journal.read(folder) as journal:
                if {config.task.name} >= {started.body.get("task") for started in journal.records("session.started")}:
                    how = cut_short(journal)
                    return (folder.name, how) if how else ("", "")
    return "", ""
