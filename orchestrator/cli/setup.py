"""The commands that set something up: a new task, the image, the data.

Most targets of make begin with them: what finds its work done already imports nothing that does it.
"""

import shlex
import shutil
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import (
    CURRENT_DIR,
    AcceptRisk,
    Data,
    Profile,
    Target,
    Task,
    container_flags,
    find_interrupted,
    make_default_tag,
    takes_target,
)
from orchestrator.errors import ConfigError
from orchestrator.host.adopt import adopt_checkout, needs_gpu, require_checkout
from orchestrator.host.image import build_image, start_engine
from orchestrator.host.source import IN_IMAGE, is_ready
from orchestrator.shipped import KERNELS_SHIM, SHIPPED, SKELETONS, TASK
from orchestrator.types import Stages

IGNORED = "build/\ndata/\nruns/\n__pycache__/\n"  # by git: what is made in a task directory

app = typer.Typer()


@app.command("new")
def create_task(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder that is missing or empty")],
    stages: Annotated[
        Stages, typer.Option(help="What an experiment consists of (docs/tasks.md); the first one: the shipped task.")
    ] = Stages.TRAIN,
    checkout: Annotated[
        Path | None, typer.Option("--from", help="A checkout with prepare.py, train.py and program.md to make it of.")
    ] = None,
) -> None:
    """Make a task directory to work in: the task that comes with the product, or a skeleton of another kind."""
    if checkout is not None and stages is not Stages.TRAIN:
        raise ConfigError(f'--from: makes a task with stages = "{Stages.TRAIN}"; leave out --stages')
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: exists and is not an empty folder; name another")
        if checkout is not None:
            require_checkout(checkout)
        if checkout is not None and folder.resolve().is_relative_to(checkout.resolve()):
            raise ConfigError(f"{folder}: is in the checkout, which is only read; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        home = SHIPPED if stages is Stages.TRAIN else SKELETONS / stages.partition(",")[0]
        for source in [home / name for name in TASK] if stages is Stages.TRAIN else sorted(home.iterdir()):
            if source.is_dir():
                shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / source.name)
        needs = adopt_checkout(checkout, folder, KERNELS_SHIM) if checkout is not None else []
        (folder / ".gitignore").write_text(IGNORED, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; name another folder"
        ) from error
    print(f"{folder}: a task; program.md tells the LLM what to do, task.toml holds budgets and limits")
    print("to keep improvements as git commits, make it a repository: git init, and commit what is there")
    if checkout is not None:
        print(f"{checkout / 'train.py'} runs as it is at L0, its own number; an audited score (L2) needs:")
        print("\n".join(f"  {need}" for need in needs))
    options = {Stages.TRAIN: "--experiments 3"}.get(stages, "--experiments 3 --proposer drafts")
    if checkout is not None:
        options += " --scoring self-reported"
        options += " --profile gpu" if needs_gpu((folder / "mutable" / "train.py").read_text(encoding="utf-8")) else ""
    print(f"next: cd {shlex.quote(str(folder))} && autoresearch loop {options}")


@app.command("check")
def check_task(
    task: Annotated[Path, typer.Argument(metavar="DIR", help="a task directory")] = CURRENT_DIR,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    accept_risk: AcceptRisk = None,
) -> None:
    """Run a task's controls: its baseline has a score, a broken file has none, a forged score counts for nothing."""
    from orchestrator import compose  # noqa: PLC0415
    from orchestrator.lifecycle import interruptible  # noqa: PLC0415
    from orchestrator.record.session_log import log_to  # noqa: PLC0415
    from orchestrator.trust.controls import run_controls  # noqa: PLC0415

    config = Target(task=task, run="check").load_config(container_flags(profile, data, accept_risk))
    compose.set_up(config, data, print_line)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(log_to(config.run_path, screen=False))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=config.run_path, prefix="controls-")))
        slot = stack.enter_context(compose.make_single_slot(config))
        found = run_controls(slot, config, folder, lambda one: print_line(one.describe(config.task.metric)))
    if problems := [one for one in found if one.problem]:
        raise ConfigError(f"{task}: {problems[0].control.name}: {problems[0].problem}")


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
    flags = {"tag": target.run or make_default_tag(), **container_flags(profile, data, accept_risk)}
    config = target.load_config(flags)
    if not target.run and (interrupted := find_interrupted(config)[0]):
        config = config.model_copy(update={"tag": interrupted})
    if not is_ready(config.data_path) or data != IN_IMAGE:
        from orchestrator import compose  # noqa: PLC0415
        from orchestrator.walls.engine import Engine  # noqa: PLC0415

        with closing(Engine.connect()) as engine:
            compose.prepare_data(config, data, engine, print_line)


def print_line(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
