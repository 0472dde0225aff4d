"""Leases: one GPU, MIG instance or set of cores for one loop, between all users of a machine, freed by any death.

The lock is an flock on the device's own directory in sysfs, opened read-only: nothing is created, so there is nothing
to clean up, to own or to leave behind, and every user may take it. On top of it the GPU must be idle, as people who
have never heard of this project take no locks. The kernel drops a lock with its process.
"""

import fcntl
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.config import Config
from orchestrator.devices import gpu, processes
from orchestrator.devices.cpus import cpu_model, online_cores, ranges
from orchestrator.devices.cuda_visible_devices import allowed_devices
from orchestrator.devices.gpu import Device
from orchestrator.errors import ConfigError, LeaseUnavailable
from orchestrator.units import SECONDS_PER_HOUR

MIG_FILES = ("vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device", "irq")
CHOOSING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """Which devices a loop may lease, and how it checks that they are idle."""

    profile: Literal["cpu", "gpu"]
    cpus: float = 1.0  # per slot; whole cores are leased
    allow: tuple[str, ...] = ()  # UUIDs; none: any
    exclude: tuple[str, ...] = ()
    hardware: str = ""  # "": any; else only devices of this class
    reserve_gpus: int = 1  # idle GPUs that stay so on a host with several
    samples: int = 3
    interval_s: float = 5.0  # between samples
    poll_s: float = 10.0  # between tries, give or take a half
    sysfs: Path = gpu.SYSFS
    proc: Path = processes.PROC
    cores: frozenset[int] | None = None  # None: those this process may run on


@dataclass(frozen=True, slots=True)
class Occupant:
    """Who or what uses a device; the cause stays equal while only a number in the reason changes."""

    reason: str
    cause: str


@dataclass(frozen=True, slots=True)
class Occupied:
    """Why nothing can be leased now."""

    reason: str
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A leased device; the lease lasts as long as its `with` block."""

    name: str
    hardware: str  # only scores of the same hardware are comparable
    device: Device | None = None
    cpuset: str = ""  # as the engine wants it: "0-1"


@contextmanager
def lease(policy: LeasePolicy, *, wait_s: float, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[Lease]:
    """Lease an idle device for the length of the block; `on_wait` is called with the reason whenever it changes.

    Raises LeaseUnavailable if none became free within `wait_s`, ConfigError if none ever can.
    """
    count_leasable(policy)
    deadline = time.monotonic() + wait_s
    causes: tuple[str, ...] | None = None
    with gpu.open_nvml() if policy.profile == "gpu" else nullcontext(), ExitStack() as locks:
        while True:
            taken = _take_gpu(policy, locks) if policy.profile == "gpu" else _take_cores(policy, locks)
            if isinstance(taken, Lease):
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise LeaseUnavailable(
                    f"nothing could be leased within {_hours(wait_s)}: {taken.reason}; try later, or raise [gpu]"
                    " wait_hours"
                )
            if taken.causes != causes:
                on_wait(f"waiting, at most {_hours(left)} more: {taken.reason}")
                causes = taken.causes
            time.sleep(min(left, policy.poll_s * random.uniform(0.5, 1.5)))  # noqa: S311  # jitter, no secret
        yield taken


def build_lease_policy(config: Config) -> LeasePolicy:
    """Return what may be leased for a config. Raises ConfigError, or LeaseUnavailable if no GPU answers."""
    return LeasePolicy(
        profile=config.profile_name,
        cpus=config.active_profile.cpus,
        allow=allowed_devices(config.gpu.allow, os.environ) if config.profile_name == "gpu" else (),
        exclude=config.gpu.exclude,
        reserve_gpus=config.gpu.reserve_gpus,
    )


def count_leasable(policy: LeasePolicy) -> int:
    """Return the maximum number of leases that this policy allows on this machine.

    Raises ConfigError if none, or for unknown UUIDs; LeaseUnavailable if a GPU that does not answer may be the cause.
    """
    if policy.profile == "cpu":
        size, cores = math.ceil(policy.cpus), _cores(policy)
        if size > len(cores):
            raise ConfigError(
                f"task.toml: [profile.cpu] cpus = {policy.cpus:g}: this machine has {len(cores)}; lower it"
            )
        return len(cores) // size
    known, lost = gpu.list_devices(policy.sysfs)
    wanted = _wanted(policy, known, lost)
    count = min(len(wanted), len(known) - policy.reserve_gpus) if len(known) > 1 else len(wanted)
    if count < 1 and lost:
        raise LeaseUnavailable(
            f"[gpu] allow, exclude and reserve_gpus leave none of the {len(known)} GPUs that answer: {lost}"
        )
    if count < 1:
        raise ConfigError(
            f"task.toml: [gpu] allow, exclude and reserve_gpus = {policy.reserve_gpus} leave none of {len(known)} GPUs;"
            " loosen one of them, or use --profile cpu"
        )
    return count


def count_by_hardware(policy: LeasePolicy) -> dict[str, int]:
    """Return how many leases this policy allows here at best, by hardware class. Raises as `count_leasable` does."""
    left = count_leasable(policy)
    if policy.profile == "cpu":
        return {_cpu_class(policy, math.ceil(policy.cpus), len(_cores(policy))): left}
    counts: dict[str, int] = {}
    for device in _wanted(policy, *gpu.list_devices(policy.sysfs))[:left]:
        counts[device.hardware] = counts.get(device.hardware, 0) + 1
    return counts


def _wanted(policy: LeasePolicy, known: tuple[Device, ...], lost: str) -> list[Device]:
    """Select the devices that the lists allow; a list may name a MIG instance or the GPU that it is a part of.

    Raises ConfigError for an unknown UUID, unless a GPU is lost, whose UUID it may be.
    """
    names = {device.uuid for device in known} | {device.parent for device in known}
    for key, uuids in (("allow", policy.allow), ("exclude", policy.exclude)):
        for uuid in uuids:
            if uuid not in names and not lost:
                present = ", ".join(device.uuid for device in known) or "no GPU"
                raise ConfigError(
                    f"task.toml: [gpu] {key} names {uuid!r}, but this machine has {present}; fix the list"
                )
    return [
        device
        for device in known
        if not {device.uuid, device.parent} & set(policy.exclude)
        and (not policy.allow or {device.uuid, device.parent} & set(policy.allow))
        and policy.hardware in ("", device.hardware)
    ]


def _take_gpu(policy: LeasePolicy, locks: ExitStack) -> Lease | Occupied:
    """Return a lease, its locks put into `locks`; or why nothing can be leased."""
    known, lost = gpu.list_devices(policy.sysfs)
    wanted = _wanted(policy, known, lost)
    with _choosing(policy.sysfs / "bus/pci/devices", policy.proc) as others:
        if others:
            return Occupied(others, (others,))
        with ExitStack() as probed:
            free: dict[str, ExitStack] = {}
            occupants: list[Occupant] = []
            for device in known:
                held = probed.enter_context(ExitStack())
                holder = _lock_gpu(device, held, policy.proc)
                occupant = Occupant(holder, holder) if holder else find_occupant(device, policy.proc)
                if occupant is None:
                    free[device.uuid] = held
                elif device in wanted:
                    reason = f"{device.uuid} is taken: {occupant.reason}"
                    occupants.append(Occupant(reason, f"{device.uuid} {occupant.cause}"))
            candidates = [device for device in wanted if device.uuid in free]
            if candidates and len(known) > 1 and len(free) <= policy.reserve_gpus:
                reason = (
                    f"{len(free)} of {len(known)} GPUs idle; [gpu] reserve_gpus = {policy.reserve_gpus} keeps them so"
                )
                return Occupied(reason, (reason,))
            if not candidates:
                reasons = "; ".join([*(occupant.reason for occupant in occupants), *([lost] if lost else [])])
                return Occupied(reasons, (*(occupant.cause for occupant in occupants), lost))
            chosen = random.choice(candidates)  # noqa: S311  # so that one flickering GPU does not hold us up
            mine = free[chosen.uuid].pop_all()
    return _confirm_idle(chosen, mine, policy, locks)


def _confirm_idle(device: Device, mine: ExitStack, policy: LeasePolicy, locks: ExitStack) -> Lease | Occupied:
    """Return the lease if the locked device stays idle over all samples."""
    with mine:
        for sample in range(policy.samples):
            if sample:
                time.sleep(policy.interval_s)
            if occupant := find_occupant(device, policy.proc):
                return Occupied(f"{device.uuid} is taken: {occupant.reason}", (f"{device.uuid} {occupant.cause}",))
        locks.push(mine.pop_all())
    return Lease(name=device.uuid, hardware=device.hardware, device=device)


def find_occupant(device: Device, proc: Path) -> Occupant | None:
    """Return who or what uses a device now, None if nothing does. Raises LeaseUnavailable."""
    if daemon := processes.mps_daemon(proc):
        return Occupant(f"an MPS daemon shares it, {daemon}", daemon)
    now = gpu.activity(device)
    if now.pids:
        process = processes.describe(min(now.pids), proc)
        return Occupant(process, process)
    reason = now.busy(device)
    return Occupant(reason, "load") if reason else None


def _lock_gpu(device: Device, held: ExitStack, proc: Path) -> str:
    """Lock a whole GPU's directory; for a MIG instance share that lock and lock its own file in it."""
    if device.mig_index is None:
        return _lock(device.pci, held, proc)
    file = MIG_FILES[device.mig_index % len(MIG_FILES)]
    return _lock(device.pci, held, proc, fcntl.LOCK_SH) or _lock(device.pci / file, held, proc)


def _take_cores(policy: LeasePolicy, locks: ExitStack) -> Lease | Occupied:
    """Lease whole cores, siblings together; all of a slot's cores or none."""
    root, cores = policy.sysfs / "devices/system/cpu", _cores(policy)
    size, mine, reasons = math.ceil(policy.cpus), [], []
    with _choosing(root, policy.proc) as others, ExitStack() as held:
        if others:
            return Occupied(others, (others,))
        for core in cores:
            if reason := _lock(root / f"cpu{core}", held, policy.proc):
                reasons.append(f"cpu{core} is taken: {reason}")
            else:
                mine.append(core)
            if len(mine) == size:
                locks.push(held.pop_all())
                name = ranges(mine)
                return Lease(name=f"cpu {name}", hardware=_cpu_class(policy, size, len(cores)), cpuset=name)
    return Occupied("; ".join(reasons), tuple(reasons))


def _cpu_class(policy: LeasePolicy, size: int, cores: int) -> str:
    return f"{cpu_model(policy.proc)}, {size} of {cores} processors"


def _cores(policy: LeasePolicy) -> list[int]:
    return online_cores(policy.sysfs, os.sched_getaffinity(0) if policy.cores is None else policy.cores)


@contextmanager
def _choosing(path: Path, proc: Path) -> Iterator[str]:
    """Let only one loop choose at a time, so that its counts stay valid; yields the reason if another is choosing."""
    deadline = time.monotonic() + CHOOSING_S
    with ExitStack() as held:
        while (reason := _lock(path, held, proc)) and time.monotonic() < deadline:
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311  # jitter, no secret
        yield f"another loop is choosing: {reason}" if reason else ""


def _lock(path: Path, held: ExitStack, proc: Path, how: int = fcntl.LOCK_EX) -> str:
    """Lock a path that every user may open; return its holder, or "" if it is ours until `held` ends."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LeaseUnavailable(f"{path}: cannot be opened for its lock: {error.strerror}; is sysfs mounted?") from error
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        reason = processes.describe_holder(file, proc)
        os.close(file)
        return reason
    held.callback(os.close, file)
    return ""


def _hours(seconds: float) -> str:
    return f"{seconds / SECONDS_PER_HOUR:.1f} h" if seconds >= SECONDS_PER_HOUR else f"{seconds / 60:.0f} min"
