"""The commands that look at a record; they change nothing of it.

What only one of them needs it imports itself, for the others to start sooner.
"""

import json
import shutil
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.cli.options import (
    CURRENT_DIR,
    AsJson,
    Raw,
    Runs,
    Target,
    Task,
    list_console,
    open_for_reading,
    takes_target,
)
from orchestrator.errors import JournalError
from orchestrator.look import export
from orchestrator.look.conditions import describe_usual
from orchestrator.look.follow import DETACHED, Follower, follow, quit_key
from orchestrator.look.history import champion_scores
from orchestrator.look.lineage import lineage_json, lineage_tree
from orchestrator.look.live_view import NOTE_LIMIT, LiveView, draw_best_so_far, experiments_table, summary_line
from orchestrator.look.log_lines import log_event
from orchestrator.look.terminal import can_redraw, is_narrow
from orchestrator.record import checkpoint
from orchestrator.record.claims import describe as describe_claims
from orchestrator.record.claims import (
    describe_claim,
    describe_elsewhere,
    find_doubtful,
    find_refuted,
    smallest_gain,
)
from orchestrator.record.confirmations import confirmed_ids
from orchestrator.record.experiment_files import read_text, trial_folder
from orchestrator.record.journal import Journal, is_live
from orchestrator.record.run_status import describe_status, require_finished
from orchestrator.text import counted, sanitise
from orchestrator.types import Role

LISTED = 200  # experiments of a longer run that `status` lists
AllOfThem = Annotated[bool, typer.Option("--all", help=f"List all experiments, not the newest {LISTED} only.")]

app = typer.Typer()


@app.command("lessons")
@takes_target
def print_lessons(target: Target) -> None:
    """Distil what the runs of this task taught into lessons.md, which every prompt shows, and print it."""
    from orchestrator.propose.lessons import write_lessons  # noqa: PLC0415

    config = replace(target, run=target.run or "any").load_config({})
    path = write_lessons(config.runs, config.task.name)
    if not path.exists():
        raise JournalError(f"{path.parent}: no run here has taught anything yet; start one with `autoresearch loop`")
    print(path.read_text(encoding="utf-8"), end="")
    print(f"file: {path}; what you write into it stays")


@app.command("status")
@takes_target
def print_status(target: Target, as_json: AsJson = False, all_of_them: AllOfThem = False) -> None:
    """List the newest experiments of a run and its best."""
    with open_for_reading(target.run_dir()) as journal:
        if as_json:
            print(json.dumps(describe_run(journal), indent=1))
            return
        is_whole = all_of_them or journal.count() <= LISTED
        experiments = journal.experiments() if is_whole else journal.newest(LISTED)[::-1]
        first = min((experiment.id for experiment in experiments), default=0)
        best, spent, metric = journal.champion(), journal.spent(), journal.metric()
        console = list_console()
        console.print(Text.assemble((f"{journal.folder.name}: ", "bold"), describe_status(journal)), soft_wrap=True)
        if earlier := journal.count() - len(experiments):
            console.print(Text(f"{counted(earlier, 'earlier experiment')}; --all lists them", "dim"), soft_wrap=True)
        narrow = is_narrow(console)
        table = experiments_table(experiments, metric, confirmed_ids(journal), narrow=narrow, wrap=narrow)
        table.expand = console.is_terminal
        console.print(table)
        console.print(Text(sanitise(journal.describe_metric(), limit=100), "dim"), soft_wrap=True)
        if best is not None:
            figure = Text(best.figure(metric), "bold green")
            console.print(Text.assemble("best: ", figure, f", experiment {best.id}: {best.basis()}"))
        for line in describe_claims(journal):
            console.print(Text(sanitise(line)), soft_wrap=True)
        console.print(summary_line(spent))
        for note in journal.notes():
            console.print(Text(f"note: {sanitise(note, limit=NOTE_LIMIT)}", "yellow"), soft_wrap=True)
        if running := describe_running(journal):
            console.print(Text(running), soft_wrap=True)
        if usual := describe_usual(journal):
            console.print(Text(usual, "yellow"), soft_wrap=True)
        if used := spent.usage.total_tokens:
            console.print(f"spent: ${spent.usage.cost_usd:.2f} for {used:,} tokens")
        scores = champion_scores(experiments, journal.best_after(first), journal.history().away)
        width = console.width - len("0.0000  0.0000")
        if drawing := draw_best_so_far(scores, width):
            console.print(drawing, style="green")


def describe_running(journal: Journal) -> str:
    """Return which host of a cluster runs what now; "" where the loop's own machine does, or nothing runs."""
    begun = journal.unfinished() if is_live(journal.folder) else []
    return ", ".join(
        f"{sanitise(one.environment.host, limit=40)} runs experiment {one.experiment_id}"
        for one in begun
        if one.environment.host
    )


def describe_run(journal: Journal) -> dict[str, object]:
    """Return the status of a run for programs."""
    best, spent, metric = journal.champion(), journal.spent(), journal.metric()
    rows = [Journal.as_json(experiment) | {metric: experiment.value} for experiment in journal.experiments()]
    run: dict[str, object] = {
        "tag": journal.folder.name,
        "state": describe_status(journal),
        "metric": journal.metric_facts(),
        "best": best.id if best else None,
        "parent": parent.id if (parent := journal.parent()) else None,
    }
    counts = {
        "best_score": best.facts(metric) if best else None,
        "conditions": describe_usual(journal),
        "claim": describe_claim(journal),
        "in_doubt": find_doubtful(journal),
        "refuted": find_refuted(journal),
        "smallest_gain": smallest_gain(journal),
        "elsewhere": describe_elsewhere(journal),
        "experiments": rows,
        "spent": asdict(spent),
        "unfinished": len(journal.unfinished()),
    }
    return run | counts


@app.command("watch")
@takes_target
def watch_run(target: Target) -> None:
    """Attach the live view to a running loop; Ctrl-C or q detaches, and the loop continues."""
    folder, console, message = target.run_dir(), Console(stderr=True), DETACHED
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        journal = stack.enter_context(Journal.read(folder))
        must_quit = stack.enter_context(quit_key())
        follower = Follower(journal=journal, handle=partial(log_event, metric=journal.metric()))
        if can_redraw(console):
            view = LiveView(tag=folder.name, console=console, metric=journal.metric())
            view.attach(journal)
            follower = Follower(journal=journal, handle=view.handle, show_output=view.show_output)
            stack.enter_context(view)
        message = follow(follower, must_quit)
    print(message)


@app.command("show")
@takes_target
def show_experiment(
    exp: int,
    target: Target,
    raw: Annotated[bool, typer.Option("--raw", help="Print its whole log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an experiment changed, ran, printed and scored."""
    from orchestrator.look import show  # noqa: PLC0415

    with open_for_reading(target.run_dir()) as journal:
        experiment = require_finished(journal, exp)
        if as_json:
            print(json.dumps(show.experiment_json(journal, experiment), indent=1))
        else:
            show.show_experiment(Console(highlight=False), journal, experiment, raw=raw)


@app.command("diff")
@takes_target
def show_diff(a: int, b: int, target: Target, raw: Raw = False) -> None:
    """Show how the file of one experiment differs from that of another."""
    from orchestrator.look import show  # noqa: PLC0415

    with open_for_reading(target.run_dir()) as journal:
        text = show.diff_sources(journal.experiment(a), journal.experiment(b))
    if raw:
        sys.stdout.write(text)
    elif text:
        show.print_diff(Console(highlight=False), text)
    else:
        print(f"experiments {a} and {b} have the same file")


@app.command("logs")
@takes_target
def print_log(
    exp: int,
    target: Target,
    role: Annotated[
        Role | None, typer.Option(help="Container whose output is printed; first what ran the file.")
    ] = None,
    trial: Annotated[str, typer.Option(help="Folder of a further trial, such as trial-2.")] = "",
    raw: Raw = False,
) -> None:
    """Print the output of a container of an experiment: seconds since its start, stream, line."""
    with open_for_reading(target.run_dir()) as journal:
        experiment = journal.experiment(exp)
    folder = trial_folder(experiment, trial)
    paths = [folder / f"{one}.log" for one in ((role,) if role else (Role.TRAINER, Role.ANSWERER, Role.SCORER))]
    path = next(filter(Path.is_file, paths), paths[0])
    if not path.is_file():
        logs = ", ".join(sorted(log.stem for log in folder.glob("*.log"))) or "none"
        raise JournalError(f"{path}: no such log; logs of this experiment: {logs}")
    if raw:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    else:
        sys.stdout.write(sanitise(read_text(experiment, path.name, trial)))


@app.command("lineage")
@takes_target
def show_lineage(target: Target, as_json: AsJson = False) -> None:
    """Show the kept experiments as a tree: which one was made from which."""
    with open_for_reading(target.run_dir()) as journal:
        if as_json:
            print(json.dumps(lineage_json(journal), indent=1))
        else:
            Console(highlight=False).print(lineage_tree(journal))


@app.command("runs")
def list_runs(task: Task = CURRENT_DIR, runs: Runs = None) -> None:
    """List the runs on record, newest last."""
    for folder in Target(task=task, runs=runs).run_dirs():
        with Journal.read(folder) as journal:
            best, spent, metric = journal.champion(), journal.spent(), journal.metric()
        known = f"best {best.figure(metric)} ({best.basis()})" if best else "no score yet"
        print(f"{folder.name:16} {known}, {summary_line(spent)}")


@app.command("report")
@takes_target
def write_report(
    target: Target,
    live: Annotated[bool, typer.Option("--live", help="Rebuild it whenever the record grows, until Ctrl-C.")] = False,
) -> None:
    """Write the report of a run: one HTML file that needs neither a server nor a network."""
    from orchestrator.lifecycle import interruptible  # noqa: PLC0415
    from orchestrator.look.report import Report  # noqa: PLC0415

    page = Report(target.run_dir(), open_for_reading)
    print(f"report: {page.build(live=live)}", flush=True)
    with interruptible():
        try:
            while live:
                page.wait()
                page.build(live=True)
        except KeyboardInterrupt:
            page.build()


@app.command("compare")
def compare_runs(
    run_a: str,
    run_b: str,
    task: Task = CURRENT_DIR,
    runs: Runs = None,
    html: Annotated[
        Path | None, typer.Option(help="File for the plots. Default: compare-A-B.html in the folder of all runs.")
    ] = None,
) -> None:
    """Compare two runs: best so far per experiment, per hour of the device and per dollar; printed and plotted."""
    from orchestrator.look import compare  # noqa: PLC0415

    folders = [Target(task=task, run=run, runs=runs).run_dir() for run in (run_a, run_b)]
    a, b = (compare.load_curve(folder) for folder in folders)
    compare.print_comparison(a, b, Console(highlight=False))
    path = html or folders[0].parent / f"compare-{a.tag}-{b.tag}.html"
    compare.write(path, a, b)
    print(f"plots: {path}")


@app.command("export")
@takes_target
def export_run(
    target: Target,
    exp: Annotated[
        int | None, typer.Argument(help="Kept experiment whose checkpoint is exported. Default: the whole run.")
    ] = None,
    how: Annotated[export.Format, typer.Option("--format", help="Format of an exported run.")] = export.Format.TSV,
    out: Annotated[Path | None, typer.Option(help="New file, or new folder for tensorboard.")] = None,
) -> None:
    """Write a run for other tools, or the checkpoint of a kept experiment."""
    folder = target.run_dir()
    with open_for_reading(folder) as journal:
        if exp is not None:
            path = out or Path(f"{folder.name}-{exp}.pt")
            size = checkpoint.copy_checkpoint(journal.experiment(exp), checkpoint.recorded_sha256(journal, exp), path)
            print(f"{path}: {size} bytes, as experiment {exp} was scored with")
            return
        experiments, spent, metric = journal.experiments(), journal.spent(), journal.metric()
        estimated = journal.best_after()
    if out is None and how in export.TEXT:
        sys.stdout.write(export.render_text(experiments, how, metric))
        return
    path = out or Path(f"{folder.name}.{how}")
    export.write(experiments, how, metric, path, estimated)
    print(f"{path}: {counted(len(experiments), 'row')}; {summary_line(spent)}")
