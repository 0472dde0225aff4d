"""The commands that look into a record; merged into those of cli.py."""

import json
import shutil
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator import files
from orchestrator.commands.options import (
    HERE,
    AsJson,
    Raw,
    Run,
    Runs,
    Task,
    looked_at,
    run_folder,
    run_folders,
    settings,
    settings_of,
)
from orchestrator.errors import JournalError
from orchestrator.look import compare as comparing
from orchestrator.look import export as exporting
from orchestrator.look import lineage_tree as lines_of
from orchestrator.look import show as showing
from orchestrator.look.export import TEXT, Format
from orchestrator.look.follow import ToldView, follow, keys
from orchestrator.look.live_view import LiveView, summary_line
from orchestrator.record import checkpoint, retention
from orchestrator.record import experiment_files as folder_of
from orchestrator.record.index import canonical
from orchestrator.record.journal import Journal
from orchestrator.record.provenance import statement
from orchestrator.record.run_status import ended
from orchestrator.record.verify import findings, is_live, recorded_in
from orchestrator.text import counted, sanitise
from orchestrator.types import Role

app = typer.Typer()


@app.command()
def show(
    exp: int,
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    raw: Annotated[bool, typer.Option("--raw", help="its whole log")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an experiment changed, ran, printed and scored."""
    with looked_at(run_folder(task, run, runs)) as journal:
        experiment = ended(journal, exp)
        if as_json:
            print(json.dumps(showing.as_json(journal, experiment), indent=1))
        else:
            showing.show(Console(highlight=False), journal, experiment, raw=raw)


@app.command()
def diff(a: int, b: int, task: Task = HERE, run: Run = "", runs: Runs = None, raw: Raw = False) -> None:
    """Show how the train.py of one experiment differs from that of another."""
    with looked_at(run_folder(task, run, runs)) as journal:
        text = lines_of.diff(journal.experiment(a), journal.experiment(b))
    if raw:
        sys.stdout.write(text)
    elif text:
        showing.diff(Console(highlight=False), text)
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
    with looked_at(run_folder(task, run, runs)) as journal:
        folder = folder_of.part(journal.experiment(exp), part)
    path = folder / f"{role}.log"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in folder.glob("*.log"))) or "none"
        raise JournalError(f"{path}: there is no such log; this experiment has: {there}")
    if raw:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    else:
        sys.stdout.write(sanitise(folder_of.read(path)))


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
    with looked_at(run_folder(task, run, runs)) as journal:
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
    with looked_at(run_folder(task, run, runs)) as journal:
        text = canonical(statement(journal, journal.experiment(exp))) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        files.write(out, text)


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


@app.command()
def export(
    exp: Annotated[int | None, typer.Argument(help="a kept experiment: its checkpoint; none: the whole run")] = None,
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    how: Annotated[Format, typer.Option("--format", help="of a whole run")] = Format.TSV,
    out: Annotated[Path | None, typer.Option(help="a new file, or a new folder for tensorboard")] = None,
) -> None:
    """Write a run for other tools, or the checkpoint of a kept experiment."""
    folder = run_folder(task, run, runs)
    with looked_at(folder) as journal:
        if exp is not None:
            target = out or Path(f"{folder.name}-{exp}.pt")
            size = checkpoint.export(journal.experiment(exp), checkpoint.recorded(journal, exp), target)
            print(f"{target}: {size} bytes, as experiment {exp} was scored with")
            return
        experiments, spent = journal.experiments(), journal.spent()
    if out is None and how in TEXT:
        sys.stdout.write(exporting.text(experiments, how))
        return
    target = out or Path(f"{folder.name}.{how}")
    exporting.write(experiments, how, target)
    print(f"{target}: {counted(len(experiments), 'row')}; {summary_line(spent)}")


@app.command()
def gc(
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    """Remove logs and checkpoints by the retention table of task.toml; every removal is recorded, every diff stays."""
    policy = settings(task, "any", None, {}).retention
    for folder in [run_folder(task, run, runs)] if run else run_folders(task, runs):
        if is_live(folder):
            print(f"{folder.name}: a session is running, left alone")
            continue
        with Journal.read(folder) if dry_run else Journal.open(folder) as journal:
            removals = retention.planned(journal, policy, datetime.now(UTC))
            for one in removals:
                size = f"{one.item.size / retention.MB:.1f} MB"
                print(f"{folder.name}/{one.item.experiment_id:04d}/{one.item.name}: {size}, {one.why}")
            if not dry_run:
                retention.remove(journal, removals)
        total = sum(one.item.size for one in removals) / retention.MB
        print(f"{folder.name}: {counted(len(removals), 'file')}, {total:.1f} MB {'would go' if dry_run else 'removed'}")


@app.command()
def compare(
    run_a: str,
    run_b: str,
    task: Task = HERE,
    runs: Runs = None,
    html: Annotated[
        Path | None, typer.Option(help="where the plots go; default: compare-A-B.html beside the runs")
    ] = None,
) -> None:
    """Compare two runs: best so far per experiment, per hour of the device and per dollar; printed and plotted."""
    folders = [run_folder(task, run, runs) for run in (run_a, run_b)]
    one, two = (comparing.course(folder) for folder in folders)
    comparing.compare(one, two, Console(highlight=False))
    path = html or folders[0].parent / f"compare-{one.tag}-{two.tag}.html"
    comparing.write(path, one, two)
    print(f"plots: {path}")
