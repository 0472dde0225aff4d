"""The composition root: a Config becomes engine, place, proposer and session."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from orchestrator import preflight, propose
from orchestrator.bounds import last_word
from orchestrator.config import Config
from orchestrator.devices.contention import monitor_for
from orchestrator.devices.lease import Lease, LeasePolicy, lease, lease_policy
from orchestrator.devices.schedule import StartGate, parse_quiet_hours
from orchestrator.errors import ConfigError
from orchestrator.execution.experiment import ContainerRunner
from orchestrator.execution.slot import Slot
from orchestrator.host.compile_cache_build import with_compile_cache
from orchestrator.host.data import IN_IMAGE, is_ready, prepare
from orchestrator.host.image import build_image, start_engine
from orchestrator.look.live_view import PlainView
from orchestrator.protocols import View
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.scoring.thresholds import UNBOUNDED
from orchestrator.session import Session
from orchestrator.units import SECONDS_PER_HOUR
from orchestrator.walls import gpu_check
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext, build_context, image_name
from orchestrator.walls.reaper import reap_in_background

PATIENCE = 5  # times the time to load and to score


def verified_context(config: Config, engine: Engine, leased: Lease | None = None) -> ExecutionContext:
    """Return the context of experiments of this config, each of whose containers would be strict enough.

    Raises ConfigError, SpecRefused or ImageMissing.
    """
    preflight.require_engine(config, engine)
    context = build_context(config, engine, leased)
    preflight.require_strict_containers(context)
    return context


def load_verified_profile(config: Config, engine: Engine, leased: Lease) -> ExecutionContext:
    """The place of a lease, whose GPU works in a container. Raises ConfigError or SandboxError with the fix."""
    made = verified_context(config, engine, leased)
    if leased.device is not None and leased.device.parent and made.tier().startswith("gVisor"):
        raise ConfigError(
            f"{leased.name} is a MIG instance, which gVisor does not support: exclude it in [gpu], or --runtime runc"
        )
    if made.gpu_uuid is not None:
        gpu_check.check_gpu(made)
    return made


def set_up(config: Config, data: str, say: Callable[[str], None]) -> None:
    """Start an engine, build the image and prepare the data, each unless it is there. Raises AutoresearchError."""
    start_engine(say)
    with closing(Engine.connect()) as engine:
        preflight.check(config, engine, machine_only=True)  # before minutes and gigabytes are spent
        build_image(config.profile_name, config.root / "build", say)
        prepare_data(config, data, engine, say)


def prepare_data(config: Config, data: str, engine: Engine, say: Callable[[str], None]) -> None:
    """Prepare the data of a config unless it is there. Raises ConfigError or SandboxError."""
    if is_ready(config.data_path):
        return
    engine.reap()
    cpus = config.active_profile.cpus
    cpus = min(cpus, engine.processors() or cpus)  # this may be another machine than trains on it
    context = verified_context(config.with_profile(cpus=cpus), engine)
    image = engine.image_id(image_name(config) + ("-library" if data == IN_IMAGE else ""))
    prepare(context, data, image, say)


def connect_checked(config: Config, journal: Journal | None = None) -> Engine:
    """Connect to the engine and check that experiments can run, before a device is waited for."""
    engine = Engine.connect()
    preflight.check(config, engine, journal)
    return engine


@contextmanager
def open_session(config: Config, view: View, data: str = "") -> Iterator[Session]:
    """Everything a session needs; the lease, the journal and every container end with it.

    With `data`, where the data is to be made from, what is missing is set up first.
    """
    gate = StartGate(run=config.run_path, hours=parse_quiet_hours(config.quiet_hours))
    with ExitStack() as stack:
        journal = stack.enter_context(Journal.open(config.run_path))
        stack.enter_context(last_word(journal))
        proposer = propose.build(config, journal, os.environ, view.waiting)  # before a device is waited for
        stack.callback(getattr(proposer, "stop", lambda: None))  # what it waits for, or runs, ends with the session
        if data:
            set_up(config, data, view.waiting)
        engine = connect_checked(config, journal)
        stack.enter_context(reap_in_background(engine.reap))  # before a device is waited for, which an orphan may hold
        keeper = ResultBranch(path=config.mutable_path, tag=config.tag)
        leased = stack.enter_context(slots(config, engine, view, keeper, gate))
        yield Session(
            config=config,
            journal=journal,
            proposer=proposer,
            runners=leased,
            keeper=keeper,
            view=view,
            ready=lambda runner: ready(gate, next(slot for slot in leased if slot is runner), view),
        )


def ready(gate: StartGate, leased: Slot, view: View) -> bool:
    """Wait until an experiment may start on an idle device, which others may have meanwhile; whether it had to."""
    if not gate.closed():
        return leased.ready()
    leased.give_back()
    gate.wait(view.waiting)
    return True


@contextmanager
def slots(
    config: Config, engine: Engine, view: View, keeper: ResultBranch, gate: StartGate
) -> Iterator[tuple[Slot, ...]]:
    """As many devices of one kind as experiments run side by side; the first is leased, the others when they are used.

    Raises ConfigError or LeaseUnavailable.
    """
    policy = lease_policy(config)
    gate.wait(view.waiting)

    def make(leased: Lease) -> ContainerRunner:
        return ContainerRunner(
            place=with_compile_cache(load_verified_profile(config, engine, leased), keeper, view), view=view
        )

    with ExitStack() as stack:
        first = stack.enter_context(slot(config, view, policy, make))
        if config.parallel > 1:  # scores compare only within one class of hardware
            preflight.require_devices(replace(policy, hardware=first.facts()["hardware"]), config.parallel)
            first.policy = replace(first.policy, hardware=first.facts()["hardware"])
        more = [slot(config, view, first.policy, make) for _ in range(config.parallel - 1)]
        for one in more:
            stack.push(one)
        yield first, *more


def single_slot(config: Config, *, refuses: bool = True, holdout: bool = False) -> Slot:
    """A device for runs outside the loop.

    One that does not refuse lets every claim pass, to measure it; one on the holdout scores on text of its own.
    """
    engine, view = connect_checked(config), PlainView()
    engine.reap()

    def make(leased: Lease) -> ContainerRunner:
        there = replace(load_verified_profile(config, engine, leased), holdout=holdout)
        if not refuses:  # nor is a model refused for what it has to compile first
            there = replace(there, config=with_relaxed_deadlines(config), thresholds=UNBOUNDED)
        return ContainerRunner(place=there, view=view)

    return slot(config, view, lease_policy(config), make)


def with_relaxed_deadlines(config: Config) -> Config:
    """With more time to load and to score."""
    return config.with_profile(
        **{key: getattr(config.active_profile, key) * PATIENCE for key in ("load_budget_s", "score_budget_s")}
    )


@contextmanager
def leased_context(config: Config, view: View) -> Iterator[ExecutionContext]:
    """Lease one device, for something other than an experiment."""
    engine, wait_s = connect_checked(config), config.gpu.wait_hours * SECONDS_PER_HOUR
    engine.reap()
    with lease(lease_policy(config), wait_s=wait_s, on_wait=view.waiting) as leased:
        yield load_verified_profile(config, engine, leased)


def slot(config: Config, view: View, policy: LeasePolicy, make: Callable[[Lease], ContainerRunner]) -> Slot:
    """A device to lease, with the runner that `make` makes for whichever it will be."""
    sampling = config.contention
    return Slot(
        policy=policy,
        wait_s=config.gpu.wait_hours * SECONDS_PER_HOUR,
        make=make,
        waiting=view.waiting,
        watch=partial(monitor_for, interval_s=sampling.sample_s, max_foreign_cpu_share=sampling.max_foreign_cpu_share),
        back_off_s=sampling.back_off_s,
    )


def default_tag() -> str:
    """The date, as upstream names its runs: nov23."""
    return f"{datetime.now(UTC).astimezone():%b%d}".lower()
