"""The commands that run experiments, and those that prepare and keep house for them."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator import compose, preflight, propose
from orchestrator.bounds import base_of
from orchestrator.cli.look import print_status
from orchestrator.cli.options import (
    CURRENT_DIR,
    Accept,
    AsJson,
    Data,
    Profile,
    Target,
    Task,
    container_flags,
    find_interrupted,
    takes_target,
)
from orchestrator.devices import schedule
from orchestrator.host.compile_cache_build import build
from orchestrator.host.data import IN_IMAGE, is_ready, prepare
from orchestrator.host.doctor import Severity, report, run_checks
from orchestrator.host.host_facts import collect
from orchestrator.interrupt import interruptible
from orchestrator.look.live_view import LiveView, PlainView
from orchestrator.look.notify import notifying
from orchestrator.look.report import Report
from orchestrator.look.report_on_finish import Reporting
from orchestrator.loop import run_session
from orchestrator.propose.estimate import estimate_cost
from orchestrator.record import retention
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.record.session_log import logging_to
from orchestrator.record.verify import is_live
from orchestrator.text import counted
from orchestrator.types import Level, Status
from orchestrator.walls import compile_cache
from orchestrator.walls.engine import Engine

app = typer.Typer()


@app.command("loop")
@takes_target
def run_loop(
    target: Target,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    experiments: Annotated[int | None, typer.Option(help="end after this many; 0: no limit")] = None,
    hours: Annotated[float | None, typer.Option(help="end after this long; 0: no limit")] = None,
    max_usd: Annotated[float | None, typer.Option(help="never spend more on the LLM; 0: no limit")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="never use more tokens; 0: no limit")] = None,
    proposer: Annotated[
        str | None, typer.Option(help="claude, sweep or replay; default: claude where a key is")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="experiments side by side, one per leased device")] = None,
    model: Annotated[str | None, typer.Option(help="of the LLM; task.toml has its price")] = None,
    base_url: Annotated[str | None, typer.Option(help="another endpoint that speaks the Messages API")] = None,
    key_file: Annotated[Path | None, typer.Option(help="a file of mode 600 that holds the API key")] = None,
    prefetch: Annotated[int | None, typer.Option(help="proposals asked for ahead: 0 or 1")] = None,
    replay: Annotated[Path | None, typer.Option(help="the run to replay: runs/tag")] = None,
    runtime: Annotated[str | None, typer.Option(help="the engine's runtime: runc, runsc, nvidia")] = None,
    accept: Accept = None,
    seed: Annotated[int | None, typer.Option(help="of the sweep")] = None,
    quiet_hours: Annotated[str | None, typer.Option(help="start nothing within: 22:00-06:00")] = None,
    trust: Annotated[str | None, typer.Option(help="audited, or self-reported: the script's own number, at L0")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what a night of the LLM would cost; send nothing")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="build the report after every experiment")] = False,
) -> None:
    """Run experiments: baseline, then propose, run, score, keep what is better, until a limit or Ctrl-C."""
    flags = {
        "tag": target.run or compose.default_tag(), **container_flags(profile, data, accept),
        "limits.experiments": experiments, "limits.hours": hours,
        "limits.max_usd": max_usd, "limits.max_tokens": max_tokens, "prefetch": prefetch, "replay_of": replay,
        "parallel": parallel, "proposer": proposer, "claude.model": model, "claude.base_url": base_url,
        "claude.key_file": key_file, "runtime": runtime, "seed": seed, "quiet_hours": quiet_hours, "trust": trust,
    }  # fmt: skip
    config = propose.choose_proposer(target.load_config(flags), os.environ)
    if dry_run:
        print("\n".join(estimate_cost(config).lines()))
        return
    console = Console(stderr=True)
    interrupted, how = ("", "") if target.run else find_interrupted(config)
    if interrupted:
        config = config.model_copy(update={"tag": interrupted})
        message = f"goes on with {interrupted}, whose last session {how}; RUN=name begins another"
        console.print(message, highlight=False, markup=False, soft_wrap=True)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(logging_to(config.run_path, screen=not console.is_terminal))
        view: LiveView | PlainView = PlainView()
        if console.is_terminal:
            goal, metric = config.limits.experiments, config.task.metric
            view = LiveView(tag=config.tag, console=console, goal=goal, metric=metric, told=PlainView())
            stack.enter_context(view)
        page = Report(config.run_path)
        session = stack.enter_context(compose.open_session(config, Reporting(view, page) if live else view))
        if note := compile_cache.missing(session.runner.facts()):
            console.print(f"note: {note}", highlight=False)
        if isinstance(view, LiveView):
            view.seen(session.journal.experiments(), session.journal.best(), session.journal.spent())
            view.goal += base_of(session.journal).experiments if view.goal else 0
        shown, notifier = stack.enter_context(notifying(config.notify, session.journal, view))
        notifier.end(run_session(replace(session, view=shown)), session.journal)
    print_status(replace(target, run=config.tag))
    print(f"record: {config.run_path}")
    if live:
        print(f"report: {page.build()}")
    print(f"next: {' · '.join(next_steps(config.run_path, target.words(config.tag)))}")


def next_steps(folder: Path, words: str) -> Iterator[str]:
    """Yield what to type after a night, in the order that one would; `words` make it about this run."""
    with Journal.read(folder) as journal:
        best, kept = journal.best(), journal.count("status = ?", Status.KEEP)
    yield f"make report {words}"
    if best is not None:
        yield f"make show EXP={best.id} {words}"
        if kept > 1 and best.level != Level.L0:
            yield f"make confirm EXP={best.id} {words}"


@app.command("pause")
@takes_target
def pause_run(target: Target) -> None:
    """Start no further experiment and give the device back; the one that runs goes on to its end."""
    folder = target.run_dir()
    schedule.pause(folder)
    print(f"paused: {folder.name}; `make resume {target.words(folder.name)}` lets it go on")


@app.command("resume")
@takes_target
def resume_run(target: Target) -> None:
    """Let a paused run go on."""
    folder = target.run_dir()
    if not schedule.resume(folder):
        print(f"was not paused: {folder.name}")
    elif is_live(folder):
        print(f"goes on: {folder.name}")
    else:
        print(f"paused no more: {folder.name}; `make loop {target.words(folder.name)}` goes on with it")


@app.command("fit")
def check_fitness(
    task: Task = CURRENT_DIR,
    profile: Profile = "cpu",
    accept: Accept = None,
    runtime: Annotated[str | None, typer.Option(help="the engine's runtime: runc, runsc, nvidia")] = None,
    parallel: Annotated[int | None, typer.Option(help="experiments side by side, one per leased device")] = None,
) -> None:
    """Fail if experiments of this profile cannot run here: its devices, memory and engine; no image is needed."""
    flags = {"profile_name": profile, "accept": accept or None, "runtime": runtime, "parallel": parallel}
    config = Target(task=task, run="fit").load_config(flags)
    engine = Engine.connect()
    preflight.refuse_gpu(config, engine)
    preflight.refuse_unfit(config, engine)
    preflight.enough(compose.lease_policy(config), config.parallel)


@app.command("data")
def prepare_data(
    task: Task = CURRENT_DIR, profile: Profile = "cpu", data: Data = IN_IMAGE, accept: Accept = None
) -> None:
    """Prepare the data once, in a container without network."""
    config = Target(task=task, run="data").load_config(container_flags(profile, data, accept))
    if is_ready(config.data_path):
        return
    engine = Engine.connect()
    engine.reap()
    cpus = config.active_profile.cpus
    cpus = min(cpus, engine.processors() or cpus)  # this may be another machine than trains on it
    context = compose.verified_context(config.with_profile(cpus=cpus), engine)
    image = engine.image_id(compose.image_name(config) + ("-library" if data == IN_IMAGE else ""))
    prepare(context, data, image, lambda line: print(f"data: {line}", flush=True))


@app.command("warm")
def build_cache(
    task: Task = CURRENT_DIR, profile: Profile = "gpu", data: Data = IN_IMAGE, accept: Accept = None
) -> None:
    """Train your committed train.py once and keep what was compiled, for every experiment to begin with."""
    config = Target(task=task, run="warm").load_config(container_flags(profile, data, accept))
    branch = ResultBranch(path=config.mutable_path, tag=config.tag)
    with compose.leased_context(config, PlainView()) as context:
        made = build(context, branch, lambda line: print(line, flush=True))
    print(f"warm: {len(made.files)} files in {made.folder}")


@app.command("doctor")
def examine_machine(task: Task = CURRENT_DIR, as_json: AsJson = False) -> None:
    """Say whether this machine is fit and safe for it, one line per check; fails if any is unsafe."""
    checks = run_checks(collect(task.resolve()))
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        report(checks, Console(highlight=False))
    if any(check.judgement is Severity.UNSAFE for check in checks):
        raise typer.Exit(1)


@app.command("gc")
@takes_target
def prune_runs(
    target: Target,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    """Remove logs and checkpoints by the retention table of task.toml; every removal is recorded, every diff stays."""
    policy = replace(target, run=target.run or "any").load_config({}).retention
    for folder in [target.run_dir()] if target.run else target.run_dirs():
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
