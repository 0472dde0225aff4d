"""What the commands share: their options, the run that they are about, and the settings of its task.

What reads records and settings is slow to import, and is imported where it is used.
"""

import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.errors import JournalError, RecordTooNew
from orchestrator.host.source import name_corpus

if TYPE_CHECKING:
    from orchestrator.config import Config
    from orchestrator.record.journal import Journal

Task = Annotated[Path, typer.Option("--task", help="Task directory, with task.toml, program.md, locked/ and mutable/.")]
Run = Annotated[
    str, typer.Option("--run", help="Name of the run. Default: the newest one; for a new one the date, as nov23.")
]
Runs = Annotated[Path | None, typer.Option("--runs", help="Folder of all runs. Default: runs/ in the task directory.")]
Profile = Annotated[str, typer.Option("--profile", help="Hardware profile of task.toml: cpu or gpu.")]
Data = Annotated[
    str, typer.Option("--data", help="Text to train on: 'python', or a folder of .txt, .jsonl or .parquet files.")
]
AcceptRisk = Annotated[
    list[str] | None, typer.Option("--accept-risk", help="Run despite this doctor finding (repeatable; recorded).")
]
Runtime = Annotated[
    str | None, typer.Option("--runtime", help="Container runtime of the engine, as runc, runsc or nvidia.")
]
Parallel = Annotated[
    int | None, typer.Option("--parallel", help="Experiments to run side by side, each on a leased device of its own.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File of mode 600 with the cluster's token. Default: ~/.config/autoresearch-sandbox/ray-token.",
    ),
]
Experiments = Annotated[int | None, typer.Option("--experiments", help="End after this many experiments; 0: no limit.")]
Hours = Annotated[float | None, typer.Option("--hours", help="End after this many hours; 0: no limit.")]
MaxUsd = Annotated[
    float | None, typer.Option("--max-usd", help="Never spend more US dollars than this on the LLM; 0: no limit.")
]
Model = Annotated[str | None, typer.Option("--model", help="Model of the LLM, with a price in task.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Raw = Annotated[bool, typer.Option("--raw", help="Print the text as recorded, not made safe for a terminal.")]
CURRENT_DIR = Path()
STARTED_BY = "AUTORESEARCH_STARTED_BY"  # "make", where the Makefile started this
PIPE_COLUMNS = 400  # a description is cut at 200 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The run that a command is about, by the options task, run and runs."""

    task: Path = CURRENT_DIR
    run: str = ""  # the newest
    runs: Path | None = None  # runs/ in the task

    @property
    def runs_dir(self) -> Path:
        """The folder of all runs."""
        return (self.runs or self.task / "runs").resolve()

    def run_dir(self) -> Path:
        """Return the folder of the named run, else of the one written last."""
        return self.runs_dir / self.run if self.run else self.run_dirs()[-1]

    def run_dirs(self) -> list[Path]:
        """Return the folder of every run that began an experiment, or is about to; the one written last at the end.

        A start that failed leaves a folder, but no run. Raises JournalError if there is no run at all.
        """
        from orchestrator.record.journal import is_live  # noqa: PLC0415

        paths = sorted(self.runs_dir.glob("*/record.jsonl"), key=lambda path: path.stat().st_mtime)
        folders = [path.parent for path in paths]
        runs = [folder for folder in folders if any(folder.glob("[0-9][0-9][0-9][0-9]*/")) or is_live(folder)]
        if not runs:
            raise JournalError(
                f"{self.runs_dir}: no runs recorded here; start one with `autoresearch loop`, or name another folder"
                " with --runs FOLDER"
            )
        return runs

    def load_config(self, flags: dict[str, Any]) -> "Config":
        """Return the Config of a command; flags that are None were not given."""
        from orchestrator.config import load  # noqa: PLC0415  # slow to import, and what only looks at a run has no need of it

        given = {key: value for key, value in flags.items() if value is not None}
        return load(self.task.resolve(), {"tag": self.run, "runs": self.runs_dir, **given})

    def command(self, name: str, run: str, exp: int | None = None) -> str:
        """Return what to type for a command about `run`; a make target where make started this."""
        task = None if self.task == CURRENT_DIR else self.task
        if os.environ.get(STARTED_BY) == "make":
            values = {"EXP": exp, "RUN": run, "TASK": task, "RUNS": self.runs}
            words = [f"{key}={shlex.quote(str(value))}" for key, value in values.items() if value is not None]
            return " ".join(["make", name, *words])
        options = {"--run": run, "--task": task, "--runs": self.runs}
        words = [f"{key} {shlex.quote(str(value))}" for key, value in options.items() if value is not None]
        return " ".join(["autoresearch", name, *([] if exp is None else [str(exp)]), *words])


def make_default_tag() -> str:
    """Return today's date, as upstream names its runs: nov23."""
    return f"{datetime.now(UTC).astimezone():%b%d}".lower()


def takes_target(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `target` of a command by the options task, run and runs."""

    @functools.wraps(command)
    def with_target(*, task: Path, run: str, runs: Path | None, **others: object) -> None:
        command(target=Target(task=task, run=run, runs=runs), **others)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(command).parameters
    options = [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, default, annotation in (("task", CURRENT_DIR, Task), ("run", "", Run), ("runs", None, Runs))
    ]
    others = [own[name].replace(kind=keyword) for name in own if name != "target"]
    with_target.__signature__ = inspect.Signature([*options, *others])  # type: ignore[attr-defined]
    return with_target


def container_flags(profile: str, data: str, accept_risk: list[str] | None) -> dict[str, Any]:
    """Return the flags of every command that starts containers."""
    return {"profile_name": profile, "corpus": name_corpus(data), "accept_risk": accept_risk or None}


def task_config(task: Path) -> "Config | None":
    """Return the settings of a task directory; None elsewhere, where copies of runs may be."""
    from orchestrator.config import TASK_FILE  # noqa: PLC0415

    return Target(task=task, run="any").load_config({}) if (task / TASK_FILE).is_file() else None


def list_console() -> Console:
    """Return standard output for lists; in a pipe or a file their lines are not wrapped."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def open_for_reading(folder: Path) -> "Journal":
    """Open the journal of a run to look at it; of a damaged record, what can still be read.

    Raises JournalError if nothing can, or if it is of a newer version.
    """
    from orchestrator.record.journal import Journal  # noqa: PLC0415

    try:
        return Journal.read(folder)
    except RecordTooNew:
        raise
    except JournalError as error:
        journal = Journal.salvage(folder)
        Console(stderr=True, highlight=False).print(Text.assemble(("damaged: ", "red"), str(error)), soft_wrap=True)
        return journal


def find_interrupted(config: "Config") -> tuple[str, str]:
    """Return the newest run of this task and how it was cut short, for the same command to resume; else ("", "")."""
    from orchestrator.events import SessionStarted  # noqa: PLC0415
    from orchestrator.record.journal import Journal  # noqa: PLC0415
    from orchestrator.record.run_status import why_incomplete  # noqa: PLC0415

    with suppress(JournalError):
        for folder in reversed(Target(task=config.root, runs=config.runs).run_dirs()):
            with Journal.read(folder) as journal:
                if {config.task.name} >= {started.event.task for started in journal.events(SessionStarted)}:
                    how = why_incomplete(journal)
                    return (folder.name, how) if how else ("", "")
    return "", ""
