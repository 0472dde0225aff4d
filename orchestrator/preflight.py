"""What must be so before experiments run; each failure names the setting and the fix in one line."""

import fcntl
import os
import tempfile

from orchestrator.config import Config
from orchestrator.devices import processes
from orchestrator.devices.lease import LeasePolicy, build_lease_policy, count_leasable
from orchestrator.errors import ConfigError, SpecRefused
from orchestrator.files import explain_write_error
from orchestrator.host.data import check_train, needs_data
from orchestrator.host.doctor import find_blocking_checks, run_checks
from orchestrator.host.host_facts import collect
from orchestrator.host.source import is_ready
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal, is_live
from orchestrator.types import Level
from orchestrator.units import GIB, MIB
from orchestrator.walls import nvidia, staging
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext, build_context
from orchestrator.walls.experiment_sandbox import validate_specs
from orchestrator.walls.mount_check import check_mounts


def check(config: Config, engine: Engine, journal: Journal | None = None, *, machine_only: bool = False) -> None:
    """Raise the first reason why experiments of this config cannot run here; no device is leased for it.

    What a night needs is tried: a lock, a container that reads this machine's files.

    `journal` is that of the run to start or resume, if there is one; with `machine_only` neither image nor data are
    needed yet. Raises ConfigError or SandboxError, each with the fix.
    """
    require_accepted_risks(config)
    require_gpu_support(config, engine)
    require_engine(config, engine)
    require_devices(build_lease_policy(config), config.parallel)
    if machine_only:
        return
    require_storage(config)
    if journal is not None:
        require_same_scoring(config, journal)
    require_data(config)
    context = build_context(config, engine)
    require_strict_containers(context)
    check_mounts(context)


def require_storage(config: Config) -> None:
    """Require room for a night's records, and locks that keep two sessions from writing one record."""
    try:
        config.runs.mkdir(parents=True, exist_ok=True)
        found = os.statvfs(config.runs)
        with tempfile.NamedTemporaryFile(dir=config.runs, prefix=".lock-") as file, open(file.name) as again:  # noqa: PTH123
            locks = [_lock(file.fileno()), _lock(again.fileno())]
    except OSError as error:
        raise explain_write_error(config.runs, error) from error
    free, least = found.f_bavail * found.f_frsize, 2 * config.active_profile.out_mb * MIB  # a checkpoint, and logs
    if free < least or (found.f_files and not found.f_favail):
        left = f"{free / MIB:.0f} MB are free" if free < least else "no inode is free"
        raise ConfigError(
            f"{config.runs}: {left}; a session needs {least / MIB:.0f} MB for records and checkpoints: free some space"
            " or use --runs FOLDER"
        )
    if locks != ["", "taken"]:
        raise ConfigError(
            f"{config.runs}: its file system does not lock files ({locks[0] or 'a lock is given twice'}), so two"
            " sessions could write one record: use a local one with --runs FOLDER"
        )


def _lock(descriptor: int) -> str:
    """Return how locking a file went: "", "taken", or the error."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "taken"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def require_commits(config: Config, journal: Journal | None = None) -> str:
    """Require a repository, if there is one, to take kept changes; return why there will be no commits, or ""."""
    first = journal.span()[0] if journal is not None else ""
    return ResultBranch(path=config.mutable_path, tag=config.tag).check(first)


def check_head(config: Config, engine: Engine, journal: Journal) -> None:
    """Raise the first reason why a head cannot lead experiments of this config; its hosts check themselves.

    Raises ConfigError or SandboxError, each with the fix.
    """
    require_storage(config)
    require_same_scoring(config, journal)
    require_data(config)
    require_strict_containers(build_context(config, engine))


def require_engine(config: Config, engine: Engine) -> None:
    """Require an engine and a machine that can run containers of this config."""
    engine.check_runtime(config.runtime)
    require_resource_limits(config, engine)
    require_capacity(config, engine)
    require_visible_processes(config)


def require_accepted_risks(config: Config) -> None:
    """Require every unsafe finding of doctor to be accepted by name, for a GPU run on a machine with other users."""
    if config.profile_name != "gpu" or not (machine := collect(config.root)).people:
        return
    if blocking := find_blocking_checks(run_checks(machine), config.accept_risk):
        findings = "; ".join(f"{check.name}: {check.detail} ({check.fix})" for check in blocking)
        accept = " ".join(f"--accept-risk {check.name}" for check in blocking)
        raise ConfigError(
            f"unsafe on a machine that {', '.join(machine.people[:3])} use too: {findings}; fix it, or {accept}"
        )


def require_gpu_support(config: Config, engine: Engine) -> None:
    """Require an engine that can pass a GPU to a container."""
    if config.profile_name == "gpu" and engine.is_podman:
        raise ConfigError(
            "--profile gpu: Podman cannot pass a single GPU to a container through Docker's API; use Docker Engine"
            " (DOCKER_HOST), or --profile cpu"
        )
    if config.profile_name == "gpu" and nvidia.is_missing(engine.info()):
        raise ConfigError(f"--profile gpu: {nvidia.NONE}")


def require_resource_limits(config: Config, engine: Engine) -> None:
    """Require an engine that can limit memory, swap, processors and processes, unless that is accepted by name."""
    if not engine.limits and "limits" not in config.accept_risk:
        raise ConfigError(
            f"the engine cannot limit {', '.join(engine.unsupported_limits)}: rootless, this needs cgroup v2 (boot with"
            " systemd.unified_cgroup_hierarchy=1) and its delegation (docs/hardening.md); or --accept-risk limits, and"
            " one experiment may take the whole machine"
        )
    if not engine.limits_swap and "limits" not in config.accept_risk:
        raise ConfigError(
            "the engine cannot limit swap, as this kernel does not count it: boot with swapaccount=1, or with"
            " systemd.unified_cgroup_hierarchy=1; or --accept-risk limits, and one experiment may fill the"
            " machine's swap"
        )


def require_capacity(config: Config, engine: Engine) -> None:
    """Require the machine to have the memory and processors that task.toml gives to experiments."""
    each, memory_gb = config.active_profile.memory_gb, engine.memory_bytes() / GIB
    if memory_gb and config.parallel * each > memory_gb:
        one = config.parallel == 1
        raise ConfigError(
            f"task.toml: [profile.{config.profile_name}] memory_gb = {each:g}"
            f"{'' if one else f' for each of --parallel {config.parallel}'}: this machine has {memory_gb:.1f} GB;"
            f" lower {'memory_gb' if one else 'either'}"
        )
    cpus, processors = config.active_profile.cpus, engine.processors()
    if processors and cpus > processors:
        raise ConfigError(
            f"task.toml: [profile.{config.profile_name}] cpus = {cpus:g}: this machine has {processors}; lower it"
        )


def require_visible_processes(config: Config) -> None:
    """Require /proc to show our own containers' processes, without which every GPU run would count as contended."""
    if config.profile_name == "gpu" and processes.is_hidden():
        raise ConfigError(
            "/proc hides other users' processes (hidepid), and our containers' with them, so they cannot be told from"
            " other users' on the GPU; `mount -o remount,gid=GROUP /proc` with a group of yours"
        )


def require_strict_containers(context: ExecutionContext) -> None:
    """Require every container of an experiment to be as strict as its walls demand; none is made."""
    try:
        validate_specs(context)
    except SpecRefused as error:
        table = f"[profile.{context.config.profile_name}]"
        raise ConfigError(
            f"{error}: fix task.toml {table}, or the option or AUTORESEARCH_* variable that overrides it"
        ) from error


def require_data(config: Config) -> None:
    """Require the prepared data, unchanged since, and in it what the task shares."""
    if needs_data(config):
        if not is_ready(config.data_path):
            raise ConfigError(f"{config.data_path}: the data is not prepared; run `autoresearch prepare-data`")
        check_train(config.data_path)
    for name in config.task.shared_data:
        folder, given = config.data_path / name, list(config.task.shared_data)
        if not folder.is_dir() or not all(path.is_file() for path in folder.iterdir()):
            raise ConfigError(
                f"{config.root / 'task.toml'}: task.shared_data = {given}: {folder} is no folder of files; let"
                f" locked/make_data.py make it and prepare the data anew, or remove {name!r}"
            )


def require_no_run_on_data(config: Config, data: str, change: str) -> None:
    """Require that no running session, nor the run of this config, was scored on the prepared data, as it is to go."""
    prepared = staging.digest(staging.manifests(config.data_path))
    for folder in sorted(path.parent for path in config.runs.glob("*/record.jsonl")):
        if folder.name != config.tag and not is_live(folder):
            continue
        with Journal.read(folder) as journal:
            baseline = journal.baseline()
            used = journal.begun(baseline.id).environment.data_sha256 if baseline else ""
        if used == prepared:
            raise ConfigError(
                f"--data {data}: it has changed since it was prepared ({change}), and run {folder.name} was scored on"
                " what it was; restore the files, or start another run with --run NAME"
            )


def require_holdout(config: Config) -> None:
    """Require a task with a holdout, on which a kept experiment can be confirmed."""
    if not needs_data(config):
        raise ConfigError(
            f"task {config.task.name} has no holdout, as nothing in {config.root / 'locked'} prepares data: its"
            " experiments cannot be confirmed"
        )


def require_noise(config: Config) -> None:
    """Require a metric with noise: elsewhere a new trial says what the first one said."""
    if config.task.noise == "none":
        raise ConfigError(
            f'task {config.task.name} has noise = "none" in task.toml: the same file has the same score, and new trials'
            " show nothing"
        )


def require_same_scoring(config: Config, journal: Journal) -> None:
    """Require the scores of a run to be of one kind: self-reported ones are never compared with audited ones."""
    baseline = journal.baseline()
    level = baseline.score.level if baseline and baseline.score else None
    if level is not None and (level is Level.L0) is not config.self_reported:
        raise ConfigError(
            f"run {config.tag} has scores at {level}, which --scoring {config.scoring} does not produce;"
            " start a new run with --run NAME"
        )


def require_devices(policy: LeasePolicy, wanted: int) -> None:
    """Require so many devices that could ever be leased here."""
    if wanted > (leasable := count_leasable(policy)):
        kind = f" of {policy.hardware}" if policy.hardware else ""
        why = (
            "[profile.cpu] cpus = {:g} each"
            if policy.profile == "cpu"
            else "[gpu] allow, exclude and reserve_gpus = {}"
        )
        setting = why.format(policy.cpus if policy.profile == "cpu" else policy.reserve_gpus)
        raise ConfigError(
            f"--parallel {wanted}: only {leasable}{kind} can be leased here, with {setting} in task.toml; lower either"
        )
