"""The commands that run experiments, and those that prepare and keep house for them."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orchestrator import compose, preflight, propose
from orchestrator.cli.look import print_status
from orchestrator.cli.options import (
    CURRENT_DIR,
    AcceptRisk,
    AsJson,
    Data,
    Experiments,
    Hours,
    MaxUsd,
    Model,
    Parallel,
    Profile,
    Runtime,
    Target,
    Task,
    TokenFile,
    container_flags,
    find_interrupted,
    make_default_tag,
    takes_target,
)
from orchestrator.devices import schedule
from orchestrator.execution.experiment import ignore
from orchestrator.host.compile_cache_build import build
from orchestrator.host.data import needs_data
from orchestrator.host.doctor import Severity, report, run_checks
from orchestrator.host.host_facts import collect
from orchestrator.host.source import IN_IMAGE
from orchestrator.lifecycle import interruptible, load_offset
from orchestrator.look.live_view import NOTE_LIMIT, LiveView
from orchestrator.look.log_lines import log_event
from orchestrator.look.notify import Notifier
from orchestrator.look.report import Report
from orchestrator.look.terminal import can_redraw
from orchestrator.loop import run_session
from orchestrator.propose.estimate import estimate_cost
from orchestrator.record import retention
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal, is_live
from orchestrator.record.session_log import log_to
from orchestrator.text import counted, sanitise
from orchestrator.types import Level
from orchestrator.walls.engine import Engine

app = typer.Typer()


@app.command("loop")
@takes_target
def run_loop(
    target: Target,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    experiments: Experiments = None,
    hours: Hours = None,
    max_usd: MaxUsd = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Never use more tokens of the LLM than this; 0: no limit.")
    ] = None,
    proposer: Annotated[
        str | None,
        typer.Option(
            help="Source of changes: claude, command, mix, sweep, drafts, replay. Default: claude with an API key."
        ),
    ] = None,
    model: Model = None,
    base_url: Annotated[str | None, typer.Option(help="Endpoint of the Messages API.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="File of mode 600 with the API key.")] = None,
    prefetch: Annotated[int | None, typer.Option(help="Proposals to ask for ahead: 0 or 1.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Run to replay, as runs/nov23.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for the sweep proposer.")] = None,
    parallel: Parallel = None,
    executor: Annotated[
        str | None, typer.Option(help="local, or ray: on the slots of the hosts that joined the head at --address.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of this machine, as its workers reach it; starts Ray's head there.")
    ] = None,
    token_file: TokenFile = None,
    runtime: Runtime = None,
    accept_risk: AcceptRisk = None,
    quiet_hours: Annotated[
        str | None, typer.Option(help="Start no experiment within these hours, as 22:00-06:00.")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="audited, or self-reported: the script's own number, recorded as L0.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Rebuild the report after every experiment.")] = False,
) -> None:
    """Run experiments: train a baseline, then propose, run and score changes and keep the better ones.

    It ends at the first limit, or with Ctrl-C. The same command resumes a run that was interrupted.
    """
    flags = {
        "tag": target.run or make_default_tag(), **container_flags(profile, data, accept_risk),
        "limits.experiments": experiments, "limits.hours": hours, "limits.max_usd": max_usd,
        "limits.max_tokens": max_tokens, "proposer": proposer, "claude.model": model, "claude.base_url": base_url,
        "claude.key_file": key_file, "prefetch": prefetch, "replay_of": replay, "seed": seed, "parallel": parallel,
        "executor": executor, "address": address, "token_file": token_file,
        "runtime": runtime, "quiet_hours": quiet_hours, "scoring": scoring,
    }  # fmt: skip
    config = propose.choose_proposer(target.load_config(flags), os.environ)
    console = Console(stderr=True)
    interrupted, how = ("", "") if target.run else find_interrupted(config)
    if interrupted:
        config = config.model_copy(update={"tag": interrupted})
        message = f"resuming {interrupted}, whose last session {how}; use --run NAME to start another"
        console.print(message, highlight=False, markup=False, soft_wrap=True)
    page = Report(config.run_path)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(
            log_to(config.run_path, screen=not can_redraw(console), show_warning=partial(show_note, console))
        )
        view = None
        if can_redraw(console):
            goal, metric = config.limits.experiments, config.task.metric
            view = stack.enter_context(LiveView(tag=config.tag, console=console, goal=goal, metric=metric))

        def subscribe(journal: Journal) -> None:
            journal.subscribe(partial(log_event, metric=config.task.metric))
            if view is not None:
                view.attach(journal, load_offset(journal))
                journal.subscribe(view.handle)
            if live:
                journal.subscribe(page.handle)
            journal.subscribe(stack.enter_context(Notifier(settings=config.notify, journal=journal)).handle)

        show = view.show_output if view is not None else ignore
        session = stack.enter_context(compose.open_session(config, subscribe, show, data))
        run_session(session)
    print_status(task=target.task, run=config.tag, runs=target.runs)
    print(f"record: {config.run_path}")
    if live:
        print(f"report: {page.build()}")
    print(f"next: {' · '.join(next_steps(config.run_path, target, holdout=needs_data(config)))}")


def show_note(console: Console, text: str) -> None:
    """Print a line above the live view, where it stays."""
    console.print(Text(f"note: {sanitise(text, limit=NOTE_LIMIT)}"), soft_wrap=True)


def next_steps(folder: Path, target: Target, *, holdout: bool = True) -> Iterator[str]:
    """Yield what to type after a night, in the order that one would; `holdout` says whether the task has one."""
    with Journal.read(folder) as journal:
        champion, kept = journal.champion(), len(journal.kept())
    yield target.command("report", folder.name)
    if champion is not None:
        yield target.command("show", folder.name, champion.id)
        if kept > 1 and champion.experiment.level != Level.L0 and holdout:
            yield target.command("confirm", folder.name, champion.id)


@app.command("pause")
@takes_target
def pause_run(target: Target) -> None:
    """Start no further experiment and give the device back; a running experiment is finished first."""
    folder = target.run_dir()
    schedule.pause(folder)
    print(f"paused: {folder.name}; resume it with `{target.command('resume', folder.name)}`")


@app.command("resume")
@takes_target
def resume_run(target: Target) -> None:
    """Resume a paused run."""
    folder = target.run_dir()
    if not schedule.resume(folder):
        print(f"{folder.name} was not paused")
    elif is_live(folder):
        print(f"resumed: {folder.name}")
    else:
        print(f"{folder.name} is no longer paused; resume it with `{target.command('loop', folder.name)}`")


@app.command("preflight")
@takes_target
def check_preflight(
    target: Target,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    parallel: Parallel = None,
    runtime: Runtime = None,
    accept_risk: AcceptRisk = None,
    machine_only: Annotated[
        bool, typer.Option("--machine-only", help="Check only what needs neither the image nor the data.")
    ] = False,
) -> None:
    """Check that experiments can run here: machine, engine, devices, data, image, and the run if one is named."""
    flags = {"tag": target.run or "preflight", "runtime": runtime, "parallel": parallel}
    config = target.load_config(container_flags(profile, data, accept_risk) | flags)
    with ExitStack() as stack:
        engine = stack.enter_context(closing(Engine.connect()))
        journal = stack.enter_context(Journal.read(target.run_dir())) if target.run else None
        preflight.check(config, engine, journal, machine_only=machine_only)
    if not machine_only:
        if note := preflight.require_commits(config):
            print(f"note: {note}")
        print(f"experiments of profile {profile} can run here")


@app.command("estimate")
def print_estimate(
    task: Task = CURRENT_DIR,
    profile: Profile = "cpu",
    experiments: Experiments = None,
    hours: Hours = None,
    max_usd: MaxUsd = None,
    model: Model = None,
) -> None:
    """Estimate what a night of the LLM would cost; nothing is sent."""
    flags = {
        "profile_name": profile, "limits.experiments": experiments, "limits.hours": hours, "limits.max_usd": max_usd,
        "claude.model": model,
    }  # fmt: skip
    config = Target(task=task, run="estimate").load_config(flags)
    print("\n".join(estimate_cost(config).lines()))


@app.command("build-cache")
def build_cache(
    task: Task = CURRENT_DIR, profile: Profile = "gpu", data: Data = IN_IMAGE, accept_risk: AcceptRisk = None
) -> None:
    """Train the committed train.py once and keep what it compiled, for later experiments to start from."""
    config = Target(task=task, run="build-cache").load_config(container_flags(profile, data, accept_risk))
    branch = ResultBranch(path=config.mutable_path, tag=config.tag)
    with compose.lease_context(config) as context:
        made = build(context, branch, lambda line: print(line, flush=True))
    print(f"build-cache: {len(made.files)} files in {made.folder}")


@app.command("doctor")
def examine_machine(task: Task = CURRENT_DIR, as_json: AsJson = False) -> None:
    """Check whether this machine is fit and safe, one line per check; fail if any is unsafe."""
    checks = run_checks(collect(task.resolve()))
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        report(checks, Console(highlight=False))
    if any(check.judgement is Severity.UNSAFE for check in checks):
        raise typer.Exit(1)


@app.command("prune")
@takes_target
def prune_runs(
    target: Target,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
) -> None:
    """Remove old logs and checkpoints by the retention table of task.toml; removals are recorded, diffs stay."""
    policy = replace(target, run=target.run or "any").load_config({}).retention
    for folder in [target.run_dir()] if target.run else target.run_dirs():
        if is_live(folder):
            print(f"{folder.name}: skipped, a session is running")
            continue
        with Journal.read(folder) if dry_run else Journal.open(folder) as journal:
            removals = retention.planned(journal, policy, datetime.now(UTC))
            for one in removals:
                size = f"{one.item.size / retention.MB:.1f} MB"
                print(f"{folder.name}/{one.item.experiment_id:04d}/{one.item.name}: {size}, {one.why}")
            if not dry_run:
                retention.remove(journal, removals)
        total, done = (
            sum(one.item.size for one in removals) / retention.MB,
            "would be removed" if dry_run else "removed",
        )
        print(f"{folder.name}: {counted(len(removals), 'file')}, {total:.1f} MB {done}")
