"""The commands that check a record, rebuild its index, or say where a kept experiment comes from."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import files
from orchestrator.cli.options import Target, open_for_reading, takes_target, task_config
from orchestrator.record import index
from orchestrator.record.journal import Journal, is_live
from orchestrator.record.provenance import statement
from orchestrator.record.record_file import canonical
from orchestrator.record.verify import find_damage, find_runs
from orchestrator.text import counted, sanitise

app = typer.Typer()


@app.command("verify")
@takes_target
def verify_runs(
    target: Target,
    anchor: Annotated[
        Path | None, typer.Option(help="File elsewhere with the heads of the chains. Default: task.toml's.")
    ] = None,
) -> None:
    """Check that the record of a run, or of every run, is intact; exit with 1, naming the records, if one is not."""
    is_intact = True
    if anchor is None and (config := task_config(target.task)) is not None:
        anchor = config.anchor_path
    for folder in [target.run_dir()] if target.run else find_runs(target.runs_dir):
        problems = list(find_damage(folder, target.task, anchor))
        is_intact = is_intact and not problems
        for finding in problems or ["intact"]:
            print(f"{folder.name}: {sanitise(finding)}")
    if not is_intact:
        raise typer.Exit(1)


@app.command("reindex")
@takes_target
def rebuild_index(target: Target) -> None:
    """Rebuild the index of a run, or of every run, from its record; nothing is lost if it is deleted."""
    for folder in [target.run_dir()] if target.run else find_runs(target.runs_dir):
        if is_live(folder):
            print(f"{folder.name}: a session is running; its index is in use")
            continue
        (folder / index.NAME).unlink(missing_ok=True)
        with Journal.open(folder) as journal:
            _, lines, _ = journal.span()
        print(f"{folder.name}: index rebuilt from {counted(lines, 'line')}")


@app.command("provenance")
@takes_target
def print_provenance(
    exp: int,
    target: Target,
    out: Annotated[Path | None, typer.Option(help="File to write to, instead of the screen.")] = None,
) -> None:
    """Print the provenance of a kept experiment, as an in-toto statement; no SLSA level is claimed."""
    with open_for_reading(target.run_dir()) as journal:
        text = canonical(statement(journal, journal.experiment(exp))) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        files.write(out, text)
