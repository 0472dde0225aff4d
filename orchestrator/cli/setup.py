"""The commands that set something up: a new task, the image, the data."""

import shlex
import shutil
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import compose
from orchestrator.cli.options import (
    CURRENT_DIR,
    AcceptRisk,
    Data,
    Profile,
    Target,
    Task,
    container_flags,
    find_interrupted,
    takes_target,
)
from orchestrator.errors import ConfigError
from orchestrator.host.data import IN_IMAGE, is_ready
from orchestrator.host.image import build_image, start_engine
from orchestrator.shipped import SHIPPED, TASK
from orchestrator.walls.engine import Engine

IGNORED = "build/\ndata/\nruns/\n__pycache__/\n"  # by git: what is made in a task directory

app = typer.Typer()


@app.command("new")
def create_task(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder that is missing or empty")],
) -> None:
    """Make a task directory to work in: a copy of the language-model task that comes with the product."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: exists and is not an empty folder; name another")
        folder.mkdir(parents=True, exist_ok=True)
        for name in TASK:
            source = SHIPPED / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        (folder / ".gitignore").write_text(IGNORED, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; name another folder"
        ) from error
    print(f"{folder}: a task; program.md tells the LLM what to do, task.toml holds budgets and limits")
    print("to keep improvements as git commits, make it a repository: git init, and commit what is there")
    print(f"next: cd {shlex.quote(str(folder))} && autoresearch loop --experiments 3")


@app.command("start-engine")
def start_container_engine() -> None:
    """Start a container engine if none answers; as root, install the distribution's."""
    start_engine(print_line)


@app.command("build-image")
def build_profile_image(task: Task = CURRENT_DIR, profile: Profile = "cpu") -> None:
    """Build the image of every experiment unless it is up to date; start a container engine if none answers."""
    start_engine(print_line)
    build_image(profile, task.resolve() / "build", print_line)


@app.command("prepare-data")
@takes_target
def prepare_data(
    target: Target, profile: Profile = "cpu", data: Data = IN_IMAGE, accept_risk: AcceptRisk = None
) -> None:
    """Prepare the data, in a container without network; nothing to do if it is ready, and its source unchanged.

    With a run, or one that was interrupted, what it was scored on is not replaced.
    """
    flags = {"tag": target.run or compose.make_default_tag(), **container_flags(profile, data, accept_risk)}
    config = target.load_config(flags)
    if not target.run and (interrupted := find_interrupted(config)[0]):
        config = config.model_copy(update={"tag": interrupted})
    if not is_ready(config.data_path) or data != IN_IMAGE:
        with closing(Engine.connect()) as engine:
            compose.prepare_data(config, data, engine, print_line)


def print_line(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
