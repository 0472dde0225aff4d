"""The commands that check a record or a score."""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import compose, duels, files, policy, preflight
from orchestrator.cli.options import (
    CURRENT_DIR,
    AcceptRisk,
    Data,
    Profile,
    Runs,
    Target,
    Task,
    container_flags,
    open_for_reading,
    takes_target,
    task_config,
)
from orchestrator.host.source import IN_IMAGE
from orchestrator.lifecycle import interruptible
from orchestrator.record import index
from orchestrator.record.claims import describe_claim
from orchestrator.record.journal import Journal, is_live
from orchestrator.record.provenance import statement
from orchestrator.record.record_file import canonical
from orchestrator.record.session_log import log_to
from orchestrator.record.verify import find_damage, find_runs
from orchestrator.scoring import thresholds
from orchestrator.text import counted, sanitise
from orchestrator.trust import calibrate, claim, confirm

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


@app.command("confirm")
@takes_target
def confirm_experiment(
    exp: int,
    target: Target,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    accept_risk: AcceptRisk = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the experiment, and of the baseline.")] = 3,
) -> None:
    """Retrain a kept experiment with other seeds and score it on the holdout: was its score luck?"""
    folder = target.run_dir()
    config = Target(task=target.task, run=folder.name, runs=folder.parent).load_config(
        container_flags(profile, data, accept_risk)
    )
    preflight.require_holdout(config)
    with Journal.read(folder) as journal:
        journal.experiment(exp)  # before a run of a misspelt name is made
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(log_to(config.run_path, screen=False))
        journal = stack.enter_context(Journal.open(config.run_path))
        slot = stack.enter_context(compose.make_single_slot(config, holdout=True))
        confirmation = confirm.confirm_experiment(journal, slot, exp, seeds, lambda line: print(line, flush=True))
    print("\n".join(confirm.describe_confirmation(confirmation)))


@app.command("claim")
@takes_target
def claim_gain(
    exp: int,
    target: Target,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    accept_risk: AcceptRisk = None,
    pairs: Annotated[int, typer.Option(min=duels.LEAST_PAIRS, help="Pairs of trials, at most.")] = 12,
) -> None:
    """Duel a kept experiment with the baseline in pairs of new trials: what was gained?"""
    folder = target.run_dir()
    config = Target(task=target.task, run=folder.name, runs=folder.parent).load_config(
        container_flags(profile, data, accept_risk)
    )
    preflight.require_noise(config)
    with Journal.read(folder) as journal:
        baseline = journal.baseline()
        duel = duels.Duel(champion_id=exp, rival_id=baseline.id if baseline else exp, most=pairs)
        claim.require_kept(journal, duel)  # before a device is waited for
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(log_to(config.run_path, screen=False))
        journal = stack.enter_context(Journal.open(config.run_path))
        slot = stack.enter_context(compose.make_single_slot(config))
        budget_s = config.active_profile.time_budget_s
        rules = policy.Rules(noise=config.noise, time_budget_s=budget_s, needed_k=config.needed_k)
        claim.run_duel(journal, slot, rules, duel, lambda line: print(line, flush=True))
        print(describe_claim(journal))


@app.command("calibrate")
def calibrate_audit(
    task: Task = CURRENT_DIR,
    runs: Runs = None,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    accept_risk: AcceptRisk = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the task's own train.py.")] = 3,
    also: Annotated[list[Path] | None, typer.Option(help="Another honest train.py (repeatable).")] = None,
) -> None:
    """Measure how far honest models' claims differ on this hardware; later scores are judged by it."""
    config = Target(task=task, run="calibration", runs=runs).load_config(container_flags(profile, data, accept_risk))
    models = calibrate.models(config, seeds, also or ())
    folder = config.run_path / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(log_to(config.run_path, screen=False))
        slot = stack.enter_context(compose.make_single_slot(config, refuses=False))
        print(f"{len(models)} honest runs, each in containers of its own; nothing is refused", flush=True)
        measurements = calibrate.run(
            slot, models, folder, lambda run: print(calibrate.line(run, config.task.metric), flush=True)
        )
        environment = slot.environment()
    measured = calibrate.summary(measurements, config, environment.image_id)
    kept = thresholds.save(config, environment.hardware, measured)
    print("\n".join([*calibrate.report(measured, config, environment.hardware), f"kept: {kept}"]))


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
