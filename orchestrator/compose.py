"""The composition root: a Config becomes engine, place, proposer and session."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from orchestrator import propose
from orchestrator.bounds import last_word
from orchestrator.config import Config
from orchestrator.data import check_train, is_ready
from orchestrator.devices import who
from orchestrator.devices.contention import watching
from orchestrator.devices.lease import Lease, LeasePolicy, lease, most
from orchestrator.devices.quiet import Gate, quiet_hours
from orchestrator.devices.visible import allowed
from orchestrator.doctor import examine, unaccepted
from orchestrator.errors import ConfigError, SpecRefused
from orchestrator.executors.slot import Slot
from orchestrator.experiment import ContainerRunner
from orchestrator.machine import look
from orchestrator.records.journal import Journal
from orchestrator.records.keep import Keeper
from orchestrator.score import thresholds
from orchestrator.score.thresholds import UNBOUNDED
from orchestrator.session import Session
from orchestrator.types import Level, Status, View
from orchestrator.walls import compile_cache, cuda, nvidia
from orchestrator.walls.box import refuse_weak_specs
from orchestrator.walls.containers import Engine
from orchestrator.walls.place import Place
from orchestrator.walls.profile import for_runtime, must_be
from orchestrator.walls.reaper import reaping
from orchestrator.warm import warmed
from orchestrator.watch import PlainView

SECONDS_PER_HOUR = 3600
GIB = 1 << 30
PATIENCE = 5  # times the time to load and to score
SECCOMP = Path(__file__).parents[1] / "sandbox" / "seccomp.json"


def image_name(config: Config) -> str:
    """The image of a profile, as sandbox/image.sh names it."""
    return f"autoresearch-sandbox:{config.profile_name}"


def place(config: Config, engine: Engine, leased: Lease | None = None) -> Place:
    """Where experiments of this config run; nothing is made yet. Raises ConfigError, SpecRefused or ImageMissing."""
    hardware = leased.hardware if leased else ""
    seccomp = profile(SECCOMP, config.runtime)
    refuse_unfit(config, engine)
    image_id = engine.image_id(image_name(config))
    found = Place(
        engine=engine,
        config=config,
        image_id=image_id,
        seccomp=seccomp,
        thresholds=thresholds.load(config, hardware),
        hardware=hardware,
        gpu_uuid=leased.device.uuid if leased and leased.device else None,
        driver=leased.device.driver if leased and leased.device else "",
        cpuset=leased.cpuset if leased else "",
        warm=compile_cache.find(compile_cache.folder(config), leased.hardware if leased else "", image_id),
    )
    refuse_weak(found)
    return found


def refuse_unfit(config: Config, engine: Engine) -> None:
    """Stop where this machine and its engine run no container of this config; no image is needed to know it."""
    engine.check_runtime(config.runtime)
    refuse_unlimited(config, engine)
    refuse_too_large(config, engine)
    refuse_hidden(config)


def profile(path: Path, runtime: str) -> str:
    """The text of the seccomp profile, for a runtime. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; restore it") from error
    if wanted := must_be(text):
        raise ConfigError(f"{path}: it must be {wanted}; fix or restore it")
    return for_runtime(text, runtime)


def refuse_weak(there: Place) -> None:
    """Stop before the first experiment if one of its containers would be refused."""
    try:
        refuse_weak_specs(there)
    except SpecRefused as error:
        table = f"[profile.{there.config.profile_name}]"
        raise ConfigError(
            f"{error}: fix task.toml {table}, or what the command line or AUTORESEARCH_* says instead"
        ) from error


def tried(config: Config, engine: Engine, leased: Lease) -> Place:
    """The place of a lease, whose GPU works in a container. Raises ConfigError or SandboxError with the fix."""
    made = place(config, engine, leased)
    if leased.device is not None and leased.device.parent and made.tier().startswith("gVisor"):
        raise ConfigError(
            f"{leased.name} is a MIG instance, which gVisor does not know: exclude those in [gpu], or RUNTIME=runc"
        )
    if made.gpu_uuid is not None:
        cuda.check(made)
    return made


def connected(config: Config) -> Engine:
    """The engine, for a config that may run on it: the machine is fit, the data is prepared. Raises ConfigError."""
    engine = Engine.connect()
    refuse_unsafe(config)
    refuse_gpu(config, engine)
    if not is_ready(config.data_path):
        raise ConfigError(f"{config.data_path}: the data is not prepared; `make data` does it")
    check_train(config.data_path)
    place(config, engine)  # what is wrong with it is said before a device is waited for
    return engine


@contextmanager
def session(config: Config, view: View) -> Iterator[Session]:
    """Everything a session needs; the lease, the journal and every container end with it."""
    gate = Gate(run=config.run_path, hours=quiet_hours(config.quiet_hours))
    with ExitStack() as stack:
        journal = stack.enter_context(Journal.open(config.run_path))
        stack.enter_context(last_word(journal))
        refuse_mixed(config, journal)
        proposer = propose.build(config, journal, os.environ, view.waiting)  # before a device is waited for
        engine = connected(config)
        stack.enter_context(reaping(engine.reap))  # before a device is waited for, which an orphan may hold
        keeper = Keeper(path=config.mutable_path, tag=config.tag)
        keeper.check()
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


def ready(gate: Gate, leased: Slot, view: View) -> bool:
    """Wait until an experiment may start on an idle device, which others may have meanwhile; whether it had to."""
    if not gate.closed():
        return leased.ready()
    leased.give_back()
    gate.wait(view.waiting)
    return True


def refuse_unsafe(config: Config) -> None:
    """Stop a GPU run on a machine that other people use until what doctor calls unsafe is accepted by name."""
    if config.profile_name != "gpu" or not (machine := look(config.root)).people:
        return
    if found := unaccepted(examine(machine), config.accept):
        said = "; ".join(f"{check.name}: {check.detail} ({check.fix})" for check in found)
        accept = f"ACCEPT='{' '.join(check.name for check in found)}'"
        raise ConfigError(
            f"unsafe on a machine that {', '.join(machine.people[:3])} use too: {said}; fix it, or {accept}"
        )


def refuse_gpu(config: Config, engine: Engine) -> None:
    """Stop before a GPU is waited for that this engine hands out to nobody."""
    if config.profile_name == "gpu" and engine.is_podman:
        raise ConfigError(
            "PROFILE=gpu: Podman takes no request for one GPU through Docker's API; use Docker Engine (DOCKER_HOST), or"
            " PROFILE=cpu"
        )
    if config.profile_name == "gpu" and nvidia.is_missing(engine.info()):
        raise ConfigError(f"PROFILE=gpu: {nvidia.NONE}")


def refuse_unlimited(config: Config, engine: Engine) -> None:
    """Stop on an engine that limits nothing until that is accepted by name."""
    if not engine.limits and "limits" not in config.accept:
        raise ConfigError(
            f"the engine cannot limit {', '.join(engine.unlimited)}: without root that takes cgroup v2 (boot with"
            " systemd.unified_cgroup_hierarchy=1) and its delegation (docs/hardening.md); or ACCEPT=limits, and one"
            " experiment may take the whole machine"
        )
    if not engine.limits_swap and "limits" not in config.accept:
        raise ConfigError(
            "the engine cannot limit swap, as this kernel does not count it: boot with swapaccount=1, or with"
            " systemd.unified_cgroup_hierarchy=1; or ACCEPT=limits, and one experiment may fill the machine's swap"
        )


def refuse_too_large(config: Config, engine: Engine) -> None:
    """A limit that is more than the machine has is none, or refused by the engine without a word of task.toml."""
    each, there = config.active_profile.memory_gb, engine.memory_bytes() / GIB
    if there and config.parallel * each > there:
        one = config.parallel == 1
        raise ConfigError(
            f"task.toml: [profile.{config.profile_name}] memory_gb = {each:g}"
            f"{'' if one else f' for each of PARALLEL={config.parallel}'}: this machine has {there:.1f} GB;"
            f" lower {'memory_gb' if one else 'either'}"
        )
    cpus, processors = config.active_profile.cpus, engine.processors()
    if processors and cpus > processors:
        raise ConfigError(
            f"task.toml: [profile.{config.profile_name}] cpus = {cpus:g}: this machine has {processors}; lower it"
        )


def refuse_hidden(config: Config) -> None:
    """Where nobody may see our own containers' processes, every GPU run would count as contended."""
    if config.profile_name == "gpu" and who.is_hidden():
        raise ConfigError(
            "/proc hides other users' processes (hidepid), and our containers' with them: none could be told from a"
            " stranger's on the GPU; `mount -o remount,gid=GROUP /proc` with a group of yours"
        )


def refuse_mixed(config: Config, journal: Journal) -> None:
    """One run holds scores of one kind: what a script says of itself is never compared with what was audited."""
    kept = journal.experiments("status = ?", Status.KEEP, limit=1)
    level = kept[0].score.level if kept and kept[0].score else None
    if level is not None and (level is Level.L0) is not config.self_reported:
        raise ConfigError(
            f"run {config.tag} holds scores at {level}, TRUST={config.trust} makes others; use another RUN=tag"
        )


@contextmanager
def slots(config: Config, engine: Engine, view: View, keeper: Keeper, gate: Gate) -> Iterator[tuple[Slot, ...]]:
    """As many devices of one kind as experiments run side by side; the first is leased, the others when they are used.

    Raises ConfigError or LeaseUnavailable.
    """
    policy = policy_of(config)
    enough(policy, config.parallel)
    gate.wait(view.waiting)

    def make(leased: Lease) -> ContainerRunner:
        return ContainerRunner(place=warmed(tried(config, engine, leased), keeper, view), view=view)

    with ExitStack() as stack:
        first = stack.enter_context(slot(config, view, policy, make))
        if config.parallel > 1:  # scores compare only within one class of hardware
            enough(replace(policy, hardware=first.facts()["hardware"]), config.parallel)
            first.policy = replace(first.policy, hardware=first.facts()["hardware"])
        more = [slot(config, view, first.policy, make) for _ in range(config.parallel - 1)]
        for one in more:
            stack.push(one)
        yield first, *more


def policy_of(config: Config) -> LeasePolicy:
    """What may be leased. Raises ConfigError, or LeaseUnavailable where no GPU answers."""
    allow = allowed(config.gpu.allow, os.environ) if config.profile_name == "gpu" else ()
    return LeasePolicy(
        profile=config.profile_name, cpus=config.active_profile.cpus, allow=allow, exclude=config.gpu.exclude,
        leave_free=config.gpu.leave_free,
    )  # fmt: skip


def alone(config: Config, *, refuses: bool = True, holdout: bool = False) -> Slot:
    """A device for runs outside the loop.

    One that does not refuse lets every claim pass, to measure it; one on the holdout scores on text of its own.
    """
    engine, view = connected(config), PlainView()
    engine.reap()

    def make(leased: Lease) -> ContainerRunner:
        there = replace(tried(config, engine, leased), holdout=holdout)
        if not refuses:  # nor is a model refused for what it has to compile first
            there = replace(there, config=patient(config), thresholds=UNBOUNDED)
        return ContainerRunner(place=there, view=view)

    return slot(config, view, policy_of(config), make)


def patient(config: Config) -> Config:
    """With more time to load and to score."""
    return config.with_profile(
        **{key: getattr(config.active_profile, key) * PATIENCE for key in ("load_s", "score_budget_s")}
    )


@contextmanager
def leased_place(config: Config, view: View) -> Iterator[Place]:
    """One leased device, for what is no experiment."""
    refuse_unsafe(config)
    engine, wait_s = Engine.connect(), config.gpu.wait_hours * SECONDS_PER_HOUR
    engine.reap()
    refuse_gpu(config, engine)
    with lease(policy_of(config), wait_s=wait_s, on_wait=view.waiting) as leased:
        yield tried(config, engine, leased)


def enough(policy: LeasePolicy, wanted: int) -> None:
    """Raise ConfigError if so many devices can never be leased here."""
    if wanted > (there := most(policy)):
        kind = f" of {policy.hardware}" if policy.hardware else ""
        why = (
            "[profile.cpu] cpus = {:g} each" if policy.profile == "cpu" else "[gpu] allow, exclude and leave_free = {}"
        )
        asked = why.format(policy.cpus if policy.profile == "cpu" else policy.leave_free)
        raise ConfigError(
            f"PARALLEL={wanted}: only {there}{kind} can be leased here, with {asked} in task.toml; lower either"
        )


def slot(config: Config, view: View, policy: LeasePolicy, make: Callable[[Lease], ContainerRunner]) -> Slot:
    """A device to lease, with the runner that `make` makes for whichever it will be."""
    sampling = config.contention
    return Slot(
        policy=policy,
        wait_s=config.gpu.wait_hours * SECONDS_PER_HOUR,
        make=make,
        waiting=view.waiting,
        watch=partial(watching, interval_s=sampling.sample_s, others=sampling.others),
        back_off_s=sampling.back_off_s,
    )


def default_tag() -> str:
    """The date, as upstream names its runs: nov23."""
    return f"{datetime.now(UTC).astimezone():%b%d}".lower()
