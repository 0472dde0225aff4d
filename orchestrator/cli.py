"""The command line; compose.py puts the parts together."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from typer.exceptions import TyperException

from orchestrator import __version__, compose, preflight, propose
from orchestrator.bounds import base_of
from orchestrator.commands import records, trust
from orchestrator.commands.options import (
    HERE,
    Accept,
    AsJson,
    Data,
    Profile,
    Run,
    Runs,
    Task,
    given,
    listing,
    looked_at,
    machine,
    run_folder,
    run_folders,
    settings,
    unfinished,
)
from orchestrator.devices import schedule
from orchestrator.errors import AutoresearchError
from orchestrator.host.compile_cache_build import build
from orchestrator.host.data import IN_IMAGE, is_ready, prepare
from orchestrator.host.doctor import Severity, run_checks
from orchestrator.host.doctor import report as doctor_report
from orchestrator.host.host_facts import collect
from orchestrator.interrupt import interruptible
from orchestrator.look.live_view import LiveView, PlainView, draw_best_so_far, experiments_table, summary_line
from orchestrator.look.notify import notifying
from orchestrator.look.report import Report
from orchestrator.look.report_on_finish import Reporting
from orchestrator.loop import run_session
from orchestrator.propose.estimate import estimate_cost
from orchestrator.record.confirmations import confirmed_ids
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.record.run_status import state
from orchestrator.record.session_log import logging_to
from orchestrator.record.verify import is_live
from orchestrator.types import Level, Status
from orchestrator.walls import compile_cache
from orchestrator.walls.engine import Engine

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An overnight research loop for shared GPU servers: propose, run, score, keep.",
)
app.add_typer(records.app)
app.add_typer(trust.app)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def data(task: Task = HERE, profile: Profile = "cpu", data: Data = IN_IMAGE, accept: Accept = None) -> None:
    """Prepare the data once, in a container without network."""
    config = settings(task, "data", None, machine(profile, data, accept))
    if is_ready(config.data_path):
        return
    engine = Engine.connect()
    engine.reap()
    wanted = config.active_profile.cpus
    cpus = min(wanted, engine.processors() or wanted)  # this may be another machine than trains on it
    where = compose.verified_context(config.with_profile(cpus=cpus), engine)
    image = engine.image_id(compose.image_name(config) + ("-library" if data == IN_IMAGE else ""))
    prepare(where, data, image, lambda line: print(f"data: {line}", flush=True))


@app.command()
def fit(
    task: Task = HERE,
    profile: Profile = "cpu",
    accept: Accept = None,
    runtime: Annotated[str | None, typer.Option(help="the engine's runtime: runc, runsc, nvidia")] = None,
    parallel: Annotated[int | None, typer.Option(help="experiments side by side, one per leased device")] = None,
) -> None:
    """Fail if experiments of this profile cannot run here: its devices, memory and engine; no image is needed."""
    flags = {"profile_name": profile, "accept": accept or None, "runtime": runtime, "parallel": parallel}
    config = settings(task, "fit", None, flags)
    engine = Engine.connect()
    preflight.refuse_gpu(config, engine)
    preflight.refuse_unfit(config, engine)
    preflight.enough(compose.lease_policy(config), config.parallel)


@app.command()
def warm(task: Task = HERE, profile: Profile = "gpu", data: Data = IN_IMAGE, accept: Accept = None) -> None:
    """Train your committed train.py once and keep what was compiled, for every experiment to begin with."""
    config = settings(task, "warm", None, machine(profile, data, accept))
    keeper = ResultBranch(path=config.mutable_path, tag=config.tag)
    with compose.leased_context(config, PlainView()) as place:
        made = build(place, keeper, lambda line: print(line, flush=True))
    print(f"warm: {len(made.files)} files in {made.folder}")


@app.command()
def loop(
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
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
        **machine(profile, data, accept), "limits.experiments": experiments, "limits.hours": hours,
        "limits.max_usd": max_usd, "limits.max_tokens": max_tokens, "prefetch": prefetch, "replay_of": replay,
        "parallel": parallel, "proposer": proposer, "claude.model": model, "claude.base_url": base_url,
        "claude.key_file": key_file, "runtime": runtime, "seed": seed, "quiet_hours": quiet_hours, "trust": trust,
    }  # fmt: skip
    config = propose.choose_proposer(settings(task, run or compose.default_tag(), runs, flags), os.environ)
    if dry_run:
        print("\n".join(estimate_cost(config).lines()))
        return
    console = Console(stderr=True)
    before, how = ("", "") if run else unfinished(config)
    if before:
        config = config.model_copy(update={"tag": before})
        said = f"goes on with {before}, whose last session {how}; RUN=name begins another"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
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
    status(task, config.tag, runs)
    print(f"record: {config.run_path}")
    if live:
        print(f"report: {page.build()}")
    print(f"next: {' · '.join(steps(config.run_path, given(task, config.tag, runs)))}")


def steps(folder: Path, where: str) -> Iterator[str]:
    """What to type after a night, in the order that one would."""
    with Journal.read(folder) as journal:
        best, kept = journal.best(), journal.count("status = ?", Status.KEEP)
    yield f"make report {where}"
    if best is not None:
        yield f"make show EXP={best.id} {where}"
        if kept > 1 and best.level != Level.L0:
            yield f"make confirm EXP={best.id} {where}"


@app.command()
def runs(task: Task = HERE, runs: Runs = None) -> None:
    """List the runs on record, newest last."""
    for folder in run_folders(task, runs):
        with Journal.read(folder) as journal:
            best, spent = journal.best(), journal.spent()
        print(
            f"{folder.name:16} best {f'{best.value:.6f}{best.trust_suffix}' if best else '-':10} {summary_line(spent)}"
        )


@app.command()
def status(task: Task = HERE, run: Run = "", runs: Runs = None, as_json: AsJson = False) -> None:
    """List the experiments of a run and its best."""
    with looked_at(run_folder(task, run, runs)) as journal:
        experiments, best, spent, metric = journal.experiments(), journal.best(), journal.spent(), journal.metric()
        if as_json:
            rows = [Journal.as_json(experiment) | {"val_bpb": experiment.value} for experiment in experiments]
            told = {"tag": journal.folder.name, "state": state(journal), "best": best.id if best else None}
            facts = {"experiments": rows, "spent": asdict(spent), "unfinished": len(journal.unfinished())}
            print(json.dumps(told | facts, indent=1))
            return
        console = listing()
        console.print(Text.assemble((f"{journal.folder.name}: ", "bold"), state(journal)), soft_wrap=True)
        table = experiments_table(experiments, metric, confirmed_ids(journal))
        table.expand = console.is_terminal
        console.print(table)
        if best is not None:
            console.print(
                f"best: [bold green]{best.value:.6f}[/] {escape(metric)}{best.trust_suffix}, experiment {best.id}"
            )
        console.print(summary_line(spent))
        if used := spent.usage.total_tokens:
            console.print(f"spent: ${spent.usage.cost_usd:.2f} for {used:,} tokens")
        if picture := draw_best_so_far(experiments):
            console.print(picture, style="green")


@app.command()
def report(
    task: Task = HERE,
    run: Run = "",
    runs: Runs = None,
    live: Annotated[
        bool, typer.Option("--live", help="build it again whenever the record grows, until Ctrl-C")
    ] = False,
) -> None:
    """Write the report of a run: one HTML file that needs neither a server nor a network."""
    page = Report(run_folder(task, run, runs), looked_at)
    print(f"report: {page.build(live=live)}", flush=True)
    with interruptible():
        try:
            while live:
                page.wait()
                page.build(live=True)
        except KeyboardInterrupt:
            page.build()


@app.command()
def doctor(task: Task = HERE, as_json: AsJson = False) -> None:
    """Say whether this machine is fit and safe for it, one line per check; fails if any is unsafe."""
    checks = run_checks(collect(task.resolve()))
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        doctor_report(checks, Console(highlight=False))
    if any(check.judgement is Severity.UNSAFE for check in checks):
        raise typer.Exit(1)


@app.command()
def pause(task: Task = HERE, run: Run = "", runs: Runs = None) -> None:
    """Start no further experiment and give the device back; the one that runs goes on to its end."""
    folder = run_folder(task, run, runs)
    schedule.pause(folder)
    print(f"paused: {folder.name}; `make resume {given(task, folder.name, runs)}` lets it go on")


@app.command()
def resume(task: Task = HERE, run: Run = "", runs: Runs = None) -> None:
    """Let a paused run go on."""
    folder = run_folder(task, run, runs)
    if not schedule.resume(folder):
        print(f"was not paused: {folder.name}")
    elif is_live(folder):
        print(f"goes on: {folder.name}")
    else:
        print(f"paused no more: {folder.name}; `make loop {given(task, folder.name, runs)}` goes on with it")


def main() -> None:
    """Run a command; what is wrong is said in one line and ends in a non-zero exit."""
    try:
        sys.exit(app(standalone_mode=not sys.argv[1:]))  # to no command at all, the help is the answer
    except TyperException as error:
        say(misused(error))
        sys.exit(error.exit_code)
    except AutoresearchError as error:
        say(str(error))
        sys.exit(1)


def misused(error: TyperException) -> str:
    """What is wrong with a command's words; an option by the name that make has for it."""
    if not isinstance(error, typer.BadParameter) or error.param is None:
        return error.format_message()
    name = error.param.opts[0].lstrip("-").replace("-", "_").upper()
    return f"{name}: {error.message.removeprefix('Value error, ') or 'is missing'}"


def say(error: str) -> None:
    """Say what is wrong."""
    Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "red"), error), soft_wrap=True)
