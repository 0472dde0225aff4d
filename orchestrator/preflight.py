"""What must be so before a session may begin, each refused in one line that says how to fix it."""

from pathlib import Path

from orchestrator.config import Config
from orchestrator.devices import processes
from orchestrator.devices.lease import LeasePolicy, count_leasable
from orchestrator.errors import ConfigError, SpecRefused
from orchestrator.host.doctor import blocking_checks, run_checks
from orchestrator.host.host_facts import collect
from orchestrator.record.journal import Journal
from orchestrator.types import Level, Status
from orchestrator.units import GIB
from orchestrator.walls import nvidia
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import validate_specs
from orchestrator.walls.seccomp import adapt_for_runtime, profile_error


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
    if wanted := profile_error(text):
        raise ConfigError(f"{path}: it must be {wanted}; fix or restore it")
    return adapt_for_runtime(text, runtime)


def refuse_weak(there: ExecutionContext) -> None:
    """Stop before the first experiment if one of its containers would be refused."""
    try:
        validate_specs(there)
    except SpecRefused as error:
        table = f"[profile.{there.config.profile_name}]"
        raise ConfigError(
            f"{error}: fix task.toml {table}, or what the command line or AUTORESEARCH_* says instead"
        ) from error


def refuse_unsafe(config: Config) -> None:
    """Stop a GPU run on a machine that other people use until what doctor calls unsafe is accepted by name."""
    if config.profile_name != "gpu" or not (machine := collect(config.root)).people:
        return
    if found := blocking_checks(run_checks(machine), config.accept_risk):
        said = "; ".join(f"{check.name}: {check.detail} ({check.fix})" for check in found)
        accept = " ".join(f"--accept-risk {check.name}" for check in found)
        raise ConfigError(
            f"unsafe on a machine that {', '.join(machine.people[:3])} use too: {said}; fix it, or {accept}"
        )


def refuse_gpu(config: Config, engine: Engine) -> None:
    """Stop before a GPU is waited for that this engine hands out to nobody."""
    if config.profile_name == "gpu" and engine.is_podman:
        raise ConfigError(
            "--profile gpu: Podman cannot pass a single GPU to a container through Docker's API; use Docker Engine"
            " (DOCKER_HOST), or --profile cpu"
        )
    if config.profile_name == "gpu" and nvidia.is_missing(engine.info()):
        raise ConfigError(f"--profile gpu: {nvidia.NONE}")


def refuse_unlimited(config: Config, engine: Engine) -> None:
    """Stop on an engine that limits nothing until that is accepted by name."""
    if not engine.limits and "limits" not in config.accept_risk:
        raise ConfigError(
            f"the engine cannot limit {', '.join(engine.unlimited)}: without root that takes cgroup v2 (boot with"
            " systemd.unified_cgroup_hierarchy=1) and its delegation (docs/hardening.md); or --accept-risk limits, and"
            " one experiment may take the whole machine"
        )
    if not engine.limits_swap and "limits" not in config.accept_risk:
        raise ConfigError(
            "the engine cannot limit swap, as this kernel does not count it: boot with swapaccount=1, or with"
            " systemd.unified_cgroup_hierarchy=1; or --accept-risk limits, and one experiment may fill the"
            " machine's swap"
        )


def refuse_too_large(config: Config, engine: Engine) -> None:
    """A limit that is more than the machine has is none, or refused by the engine without a word of task.toml."""
    each, there = config.active_profile.memory_gb, engine.memory_bytes() / GIB
    if there and config.parallel * each > there:
        one = config.parallel == 1
        raise ConfigError(
            f"task.toml: [profile.{config.profile_name}] memory_gb = {each:g}"
            f"{'' if one else f' for each of --parallel {config.parallel}'}: this machine has {there:.1f} GB;"
            f" lower {'memory_gb' if one else 'either'}"
        )
    cpus, processors = config.active_profile.cpus, engine.processors()
    if processors and cpus > processors:
        raise ConfigError(
            f"task.toml: [profile.{config.profile_name}] cpus = {cpus:g}: this machine has {processors}; lower it"
        )


def refuse_hidden(config: Config) -> None:
    """Where nobody may see our own containers' processes, every GPU run would count as contended."""
    if config.profile_name == "gpu" and processes.is_hidden():
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
            f"run {config.tag} has scores at {level}, which --scoring {config.scoring} does not produce;"
            " start a new run with --run NAME"
        )


def enough(policy: LeasePolicy, wanted: int) -> None:
    """Raise ConfigError if so many devices can never be leased here."""
    if wanted > (there := count_leasable(policy)):
        kind = f" of {policy.hardware}" if policy.hardware else ""
        why = (
            "[profile.cpu] cpus = {:g} each"
            if policy.profile == "cpu"
            else "[gpu] allow, exclude and reserve_gpus = {}"
        )
        asked = why.format(policy.cpus if policy.profile == "cpu" else policy.reserve_gpus)
        raise ConfigError(
            f"--parallel {wanted}: only {there}{kind} can be leased here, with {asked} in task.toml; lower either"
        )
