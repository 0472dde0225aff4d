"""The commands that look behind a score; merged into those of cli.py."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import compose
from orchestrator.commands.options import HERE, Accept, Data, Profile, Run, Runs, Task, machine, run_folder, settings
from orchestrator.host.data import IN_IMAGE
from orchestrator.interrupt import interruptible
from orchestrator.record.journal import Journal
from orchestrator.record.session_log import logging_to
from orchestrator.scoring import thresholds
from orchestrator.trust import calibrate as calibration
from orchestrator.trust import confirm as confirmation

app = typer.Typer()


@app.command()
def calibrate(
    task: Task = HERE,
    runs: Runs = None,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    accept: Accept = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of the task's own train.py")] = 3,
    also: Annotated[list[Path] | None, typer.Option(help="another honest train.py; may be given again")] = None,
) -> None:
    """Measure what honest models' claims differ by on this hardware; later scores are judged by it."""
    config = settings(task, "calibration", runs, machine(profile, data, accept))
    wanted = calibration.models(config, seeds, also or ())
    folder = config.run_path / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(logging_to(config.run_path, screen=False))
        slot = stack.enter_context(compose.single_slot(config, refuses=False))
        print(f"{len(wanted)} honest runs, each in containers of its own; nothing is refused", flush=True)
        found = calibration.run(slot, wanted, folder, lambda one: print(calibration.line(one), flush=True))
        facts = slot.facts()
    measured = calibration.summary(found, config, facts["image_id"])
    kept = thresholds.save(config, facts["hardware"], measured)
    print("\n".join([*calibration.report(measured, config, facts["hardware"]), f"kept: {kept}"]))


@app.command()
def confirm(
    exp: int,
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    accept: Accept = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of the experiment, and of the baseline")] = 3,
) -> None:
    """Retrain a kept experiment with other seeds, score it on the holdout, and say how optimistic its score was."""
    folder = run_folder(task, run, runs)
    config = settings(task, folder.name, folder.parent, machine(profile, data, accept))
    with Journal.read(folder) as journal:
        journal.experiment(exp)  # before a run of a misspelt name is made
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(logging_to(config.run_path, screen=False))
        journal = stack.enter_context(Journal.open(config.run_path))
        slot = stack.enter_context(compose.single_slot(config, holdout=True))
        found = confirmation.confirm(journal, slot, exp, seeds, lambda line: print(line, flush=True))
    print("\n".join(confirmation.lines(found)))
