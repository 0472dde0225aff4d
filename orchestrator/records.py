"""The commands that look into a record; merged into those of cli.py."""

import json
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax

from orchestrator import lineage as lines_of
from orchestrator import record
from orchestrator import show as showing
from orchestrator.attest import statement
from orchestrator.errors import JournalError
from orchestrator.follow import ToldView, follow, keys
from orchestrator.journal import Journal, canonical
from orchestrator.options import HERE, AsJson, Raw, Run, Runs, Task, run_folder, settings_of
from orchestrator.text import sanitise
from orchestrator.types import Role
from orchestrator.verify import findings, recorded_in
from orchestrator.watch import LiveView

app = typer.Typer()


@app.command()
def show(
    exp: int, task: Task = HERE, run: Run = "", runs: Runs = None, raw: bool = False, as_json: AsJson = False
) -> None:
    """Show what an experiment changed, ran, printed and scored; --raw: its whole log."""
    with Journal.read(run_folder(task, run, runs)) as journal:
        experiment = journal.experiment(exp)
        if as_json:
            print(json.dumps(showing.as_json(journal, experiment), indent=1))
        else:
            showing.show(Console(highlight=False), journal, experiment, raw=raw)


@app.command()
def diff(a: int, b: int, task: Task = HERE, run: Run = "", runs: Runs = None, raw: Raw = False) -> None:
    """Show how the train.py of one experiment differs from that of another."""
    with Journal.read(run_folder(task, run, runs)) as journal:
        text = lines_of.diff(journal.experiment(a), journal.experiment(b))
    if raw:
        sys.stdout.write(text)
    elif text:
        Console(highlight=False).print(Syntax(sanitise(text), "diff", word_wrap=True))
    else:
        print(f"experiments {a} and {b} have the same train.py")


@app.command()
def log(
    exp: int,
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    role: Annotated[Role, typer.Option(help="whose output")] = Role.TRAINER,
    part: Annotated[str, typer.Option(help="of a further run: run-2, again")] = "",
    raw: Raw = False,
) -> None:
    """Print what a container of an experiment printed: seconds since its start, stream, line."""
    with Journal.read(run_folder(task, run, runs)) as journal:
        folder = showing.part(journal.experiment(exp), part)
    path = folder / f"{role}.log"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in folder.glob("*.log"))) or "none"
        message = f"{path}: there is no such log; this experiment has: {there}"
        raise JournalError(message)
    if raw:
        sys.stdout.buffer.write(path.read_bytes())
    else:
        sys.stdout.write(sanitise(showing.read(path)))


@app.command()
def watch(task: Task = HERE, run: Run = "", runs: Runs = None) -> None:
    """Attach the live view to a running loop; Ctrl-C or q detaches, and the loop goes on."""
    folder = run_folder(task, run, runs)
    console = Console(stderr=True)
    said = "detached: the loop goes on"
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        view: LiveView | ToldView = ToldView()
        if console.is_terminal:
            view = LiveView(tag=folder.name, console=console)
            with Journal.read(folder) as journal:
                view.seen(journal.experiments(), journal.best(), journal.spent())
            wants_out = stack.enter_context(keys())
            stack.enter_context(view)
        else:
            wants_out = stack.enter_context(keys())
        said = follow(folder, view, wants_out)
    print(said)


@app.command()
def lineage(task: Task = HERE, run: Run = "", runs: Runs = None, as_json: AsJson = False) -> None:
    """Show what was kept as a tree: which experiment was made from which."""
    with Journal.read(run_folder(task, run, runs)) as journal:
        if as_json:
            print(json.dumps(lines_of.as_json(journal), indent=1))
        else:
            Console(highlight=False).print(lines_of.tree(journal))


@app.command()
def attest(
    exp: int,
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    out: Annotated[Path | None, typer.Option(help="a file instead of the screen")] = None,
) -> None:
    """Say what a kept experiment was made from, as an in-toto statement with SLSA provenance; no level is claimed."""
    with Journal.read(run_folder(task, run, runs)) as journal:
        text = canonical(statement(journal, journal.experiment(exp))) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        record.write(out, text)


@app.command()
def verify(
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    anchor: Annotated[Path | None, typer.Option(help="a file elsewhere that names heads; default: task.toml's")] = None,
) -> None:
    """Say whether the record of a run, or of every run, is intact; exits with 1, naming the records, if one is not."""
    wrong = False
    if anchor is None and (config := settings_of(task)) is not None:
        anchor = config.anchor_path
    for folder in [run_folder(task, run, runs)] if run else recorded_in((runs or task / "runs").resolve()):
        found = list(findings(folder, task, anchor))
        wrong = wrong or bool(found)
        for finding in found or ["intact"]:
            print(f"{folder.name}: {sanitise(finding)}")
    if wrong:
        raise typer.Exit(1)
