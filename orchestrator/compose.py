"""The composition root: a Config becomes engine, place, proposer and session."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial

from orchestrator import preflight, propose
from orchestrator.config import Config
from orchestrator.devices.contention import RECENT, UsualLoad, monitor_for
from orchestrator.devices.lease import Lease, LeasePolicy, build_lease_policy, lease
from orchestrator.devices.schedule import StartGate, parse_quiet_hours
from orchestrator.errors import ConfigError, EngineUnavailable
from orchestrator.events import ConditionsChanged, LoopWaiting
from orchestrator.execution import join
from orchestrator.execution.brief import has_brief, run_brief
from orchestrator.execution.experiment import ContainerRunner, ignore
from orchestrator.execution.remote import RayCluster, RemoteRunner
from orchestrator.execution.slot import Slot
from orchestrator.host.compile_cache_build import add_compile_cache
from orchestrator.host.data import needs_data, prepare
from orchestrator.host.image import build_image, start_engine
from orchestrator.host.source import IN_IMAGE, find_change, is_ready
from orchestrator.lifecycle import record_failure
from orchestrator.logger import log
from orchestrator.proposals import Proposals, read_source
from orchestrator.propose import lessons
from orchestrator.propose.lessons_writer import LessonsWriter
from orchestrator.protocols import Proposer, Runner
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.scoring.thresholds import UNBOUNDED
from orchestrator.session import Session
from orchestrator.types import Kept, Role, Stages
from orchestrator.units import SECONDS_PER_HOUR
from orchestrator.walls import compile_cache, gpu_check
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext, build_context, get_image_name
from orchestrator.walls.reaper import reap_in_background

Show = Callable[[int, Role, str], object]  # a line that a container of an experiment printed
PATIENCE = 5  # times the time to load and to score


def build_execution_context(config: Config, engine: Engine, leased: Lease | None = None) -> ExecutionContext:
    """Return the context of experiments of this config, each of whose containers would be strict enough.

    Raises ConfigError, SpecRefused or ImageMissing.
    """
    preflight.require_engine(config, engine)
    context = build_context(config, engine, leased)
    preflight.require_strict_containers(context)
    return context


def build_leased_context(config: Config, engine: Engine, leased: Lease) -> ExecutionContext:
    """Build the context of a lease and check that its GPU works in a container.

    Raises ConfigError or SandboxError with the fix.
    """
    made = build_execution_context(config, engine, leased)
    if leased.device is not None and leased.device.parent and made.tier().startswith("gVisor"):
        raise ConfigError(
            f"{leased.name} is a MIG instance, which gVisor does not support: exclude it in [gpu], or --runtime runc"
        )
    if made.gpu_uuid is not None:
        gpu_check.check_gpu(made)
    return made


def set_up(config: Config, data: str, say: Callable[[str], None]) -> None:
    """Start an engine, build the image and prepare the data, each unless it is there. Raises AutoresearchError."""
    with closing(find_engine(say)) as engine:
        if config.executor == "local":
            preflight.check(config, engine, machine_only=True)  # before minutes and gigabytes are spent
        build_image(config.profile_name, config.root / "build", say)
        prepare_data(config, data, engine, say)


def find_engine(say: Callable[[str], None]) -> Engine:
    """Connect to the user's engine; one is started if none answers. Raises SandboxError."""
    try:
        return Engine.connect()
    except EngineUnavailable:
        start_engine(say)
        return Engine.connect()


def prepare_data(config: Config, data: str, engine: Engine, say: Callable[[str], None]) -> None:
    """Prepare the data of a config unless it is there, and anew if its source has changed.

    Raises ConfigError, where a run depends on what was prepared too, or SandboxError.
    """
    if not needs_data(config):
        return
    if is_ready(config.data_path):
        if data == IN_IMAGE or not (change := find_change(data, config.data_path)):
            return
        preflight.require_no_run_on_data(config, data, change)
        say(f"data: {data} is not what was prepared ({change}): preparing it anew")
    engine.reap()
    cpus = config.active_profile.cpus
    cpus = min(cpus, engine.processors() or cpus)  # this may be another machine than trains on it
    context = build_execution_context(config.with_profile(cpus=cpus), engine)
    image = engine.image_id(f"{get_image_name(config)}-library")  # the whole one: nothing is set apart there
    prepare(context, data, image, say)


def connect_engine(config: Config, journal: Journal | None = None) -> Engine:
    """Connect to the engine and check that experiments can run, before a device is waited for."""
    engine = Engine.connect()
    preflight.check(config, engine, journal)
    return engine


@contextmanager
def open_session(
    config: Config, subscribe: Callable[[Journal], None], show: Show = ignore, data: str = ""
) -> Iterator[Session]:
    """Assemble everything a session needs; the lease, the journal and every container end with it.

    `subscribe` is given the journal before anything happens; `show` is called with every line a container prints.
    With `data`, where the data is to be made from, what is missing is set up first.
    """
    parse_quiet_hours(config.quiet_hours)  # a typing error is reported before the journal is made
    if config.executor == "ray":
        join.require_cluster(config.address, config.token_file)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal.open(config.run_path))
        subscribe(journal)
        stack.enter_context(record_failure(journal))
        for note in propose.notes(config, os.environ):
            journal.note(note)
        proposer = propose.build(config, journal, os.environ, wait_on(journal))  # before a device is waited for
        stack.callback(getattr(proposer, "stop", lambda: None))  # what it waits for, or runs, ends with the session
        if config.recording.lessons:  # written at the end when the devices are given back, before the proposer stops
            if note := lessons.find_problem(config.runs):
                journal.note(note)
            writer = make_lessons_writer(config, journal, proposer)
            journal.subscribe(writer.handle)
            stack.callback(writer.close)
        if data:
            set_up(config, data, wait_on(journal))
        if note := preflight.require_commits(config, journal):
            journal.note(note)
        branch = ResultBranch(path=config.mutable_path, tag=config.tag)
        leased: tuple[Runner, ...]
        if config.executor == "ray":
            leased = stack.enter_context(open_remote_slots(config, journal, show))
        else:
            engine = connect_engine(config, journal)
            stack.enter_context(reap_in_background(engine.reap))  # before a wait for a device that an orphan may hold
            leased = stack.enter_context(open_slots(config, engine, journal, show, branch))
            if note := compile_cache.describe_missing(leased[0].environment()):
                journal.note(note)
        yield Session(
            config=config,
            journal=journal,
            proposals=Proposals(
                journal=journal,
                proposer=proposer,
                max_attempts=config.claude.max_attempts,
                asks_ahead=config.asks_ahead,
                rules=tuple((rule.pattern, rule.reason) for rule in config.rules),
                needs_contract=config.task.stages is Stages.TRAIN and not config.self_reported,
                file_name=config.task.mutable.name,
                brief=partial(make_brief, config, journal),
                noise=config.noise,
            ),
            runners=leased,
            branch=branch,
        )


def make_lessons_writer(config: Config, journal: Journal, proposer: Proposer) -> LessonsWriter:
    """Return what keeps the lessons of the task up to date, with the LLM of the proposer where it has one."""
    writer = LessonsWriter(
        runs=config.runs,
        task=config.task.name,
        journal=journal,
        distiller=propose.find_distiller(proposer) if config.recording.llm_lessons else None,
        instructions=config.root / config.task.instructions,
        score=propose.describe_metric(config.task),
        file_name=config.task.mutable.name,
    )
    writer.start()
    return writer


def make_brief(config: Config, journal: Journal) -> str:
    """Return what the task tells the proposer besides its instructions; "" for nothing. Raises SandboxError."""
    if not has_brief(config):
        return ""
    with closing(Engine.connect()) as engine:
        return run_brief(build_execution_context(config, engine), list_kept(journal))


def list_kept(journal: Journal) -> list[Kept]:
    """Return the files of the run that are kept now, in the order in which they were kept."""
    return [Kept(id=one.id, source=read_source(one)) for one in journal.history().kept]


def wait_on(journal: Journal) -> Callable[[str], None]:
    """Return what records the reason for a wait."""

    def record(reason: str) -> None:
        journal.append(LoopWaiting(reason=reason))

    return record


@contextmanager
def open_slots(
    config: Config, engine: Engine, journal: Journal, show: Show, branch: ResultBranch
) -> Iterator[tuple[Slot, ...]]:
    """Yield one slot per parallel experiment, of one kind; leases the first device now, the others when used.

    Raises ConfigError or LeaseUnavailable.
    """
    policy = build_lease_policy(config)
    on_wait, gate = wait_on(journal), StartGate(run=config.run_path, hours=parse_quiet_hours(config.quiet_hours))
    gate.wait(on_wait)

    def make(leased: Lease) -> ContainerRunner:
        place = add_compile_cache(build_leased_context(config, engine, leased), branch, on_wait)
        return ContainerRunner(place=place, record=journal.append, show=show, kept=partial(list_kept, journal))

    with ExitStack() as stack:
        first = stack.enter_context(make_slot(config, on_wait, policy, make, gate))
        if config.parallel > 1:  # scores compare only within one class of hardware
            hardware = first.environment().hardware
            preflight.require_devices(replace(policy, hardware=hardware), config.parallel)
            first.policy = replace(first.policy, hardware=hardware)
        more = [make_slot(config, on_wait, first.policy, make, gate) for _ in range(config.parallel - 1)]
        for one in more:
            stack.push(one)
        for one in (first, *more):
            remember_usual_load(one, journal)
        yield first, *more


def remember_usual_load(slot: Slot, journal: Journal) -> None:
    """Let a slot record when conditions change, and begin with those of the run's last trials."""
    slot.record = journal.append
    last = journal.last_event(ConditionsChanged)
    slot.usual.told = last.event.others_share if last else 0.0
    slot.usual.recent += [
        load for experiment in reversed(journal.newest(RECENT)) for load in experiment.loads[-1:] if load
    ]


@contextmanager
def open_remote_slots(config: Config, journal: Journal, show: Show) -> Iterator[tuple[RemoteRunner, ...]]:
    """Yield one runner per parallel experiment, each for a slot of a cluster; takes the first slot now.

    Raises ConfigError or LeaseUnavailable.
    """
    token = join.require_cluster(config.address, config.token_file)
    with closing(Engine.connect()) as engine:
        preflight.check_head(config, engine, journal)
        facts = join.collect_facts(config, engine)
    on_wait, gate = wait_on(journal), StartGate(run=config.run_path, hours=parse_quiet_hours(config.quiet_hours))
    gate.wait(on_wait)
    hello = {"address": config.address, "run": config.tag, "facts": join.stamp(facts)}
    driver = (sys.executable, "-m", "orchestrator.cluster.driver")
    runners: list[RemoteRunner] = []

    def own_class() -> str:
        """Return the class of hardware of the run's champion; in a new run that of the first slot."""
        champion = journal.champion()
        known = champion.conditions[0] if champion else ""
        return known or (runners[0].known_hardware if runners else "")

    said = config.run_path / "ray.log"
    with RayCluster(driver, hello, join.cluster_environment(token, os.environ), said) as cluster:
        runners += [
            RemoteRunner(
                cluster=cluster, number=number, config=config, facts=facts, on_wait=on_wait,
                hardware=str if number else own_class, record=journal.append, show=show, gate=gate,
                kept=partial(list_kept, journal),
            )
            for number in range(config.parallel)
        ]  # fmt: skip
        runners[0].ready()
        yield tuple(runners)


def make_single_slot(config: Config, *, refuses: bool = True, holdout: bool = False) -> Slot:
    """Build a slot for runs outside the loop.

    One that does not refuse lets every claim pass, to measure it; one on the holdout scores on text of its own.
    """
    engine = connect_engine(config)
    engine.reap()

    def make(leased: Lease) -> ContainerRunner:
        context = replace(build_leased_context(config, engine, leased), holdout=holdout)
        if not refuses:  # nor is a model refused for what it has to compile first
            context = replace(context, config=relax_deadlines(config), thresholds=UNBOUNDED)
        return ContainerRunner(place=context)

    return make_slot(config, show_wait, build_lease_policy(config), make)


def relax_deadlines(config: Config) -> Config:
    """Return the config with more time to load and to score."""
    return config.with_profile(
        **{key: getattr(config.active_profile, key) * PATIENCE for key in ("load_budget_s", "score_budget_s")}
    )


@contextmanager
def lease_context(config: Config) -> Iterator[ExecutionContext]:
    """Lease one device for work outside an experiment; yields its context."""
    engine, wait_s = connect_engine(config), config.gpu.wait_hours * SECONDS_PER_HOUR
    engine.reap()
    with lease(build_lease_policy(config), wait_s=wait_s, on_wait=log_wait) as leased:
        yield build_leased_context(config, engine, leased)


def make_slot(
    config: Config,
    on_wait: Callable[[str], None],
    policy: LeasePolicy,
    make: Callable[[Lease], ContainerRunner],
    gate: StartGate | None = None,
) -> Slot:
    """Return a device to lease, with the runner that `make` makes for whichever it will be."""
    sampling = config.contention
    return Slot(
        policy=policy,
        wait_s=config.gpu.wait_hours * SECONDS_PER_HOUR,
        make=make,
        on_wait=on_wait,
        gate=gate,
        watch=partial(monitor_for, interval_s=sampling.sample_s),
        back_off_s=sampling.back_off_s,
        usual=UsualLoad(max_extra_wait_share=sampling.max_extra_wait_share),
    )


def log_wait(reason: str) -> None:
    """Log why nothing runs yet, where no run is recorded."""
    log.info("loop.waiting", reason=reason)


def show_wait(reason: str) -> None:
    """Log and print why nothing runs yet, for the commands whose log goes to a file only."""
    log_wait(reason)
    sys.stderr.write(f"{reason}\n")
