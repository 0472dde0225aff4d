"""The commands that check a score, by new trials."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import compose, duels, policy, preflight
from orchestrator.cli.options import (
    CURRENT_DIR,
    AcceptRisk,
    Data,
    Profile,
    Runs,
    Target,
    Task,
    container_flags,
    takes_target,
)
from orchestrator.host.source import IN_IMAGE
from orchestrator.lifecycle import interruptible
from orchestrator.record.claims import describe_claim
from orchestrator.record.journal import Journal
from orchestrator.record.session_log import log_to
from orchestrator.scoring import thresholds
from orchestrator.trust import calibrate, claim, confirm

app = typer.Typer()


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
