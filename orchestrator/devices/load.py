"""How busy the machine was while a trainer ran: from samples of it to one `MachineLoad`."""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from orchestrator.devices.gpu import Clocks
from orchestrator.types import ExecutionResult, MachineLoad, Role, Trial
from orchestrator.units import MIB

PACE_MIB = 8  # hashed on each processor: 5 to 25 ms
PACE_CPUS = 4  # at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one look saw of the time since the look before it; None where it could not tell."""

    from_s: float  # by the host's monotonic clock
    to_s: float
    others_cpu_s: float | None = None
    steal_s: float | None = None
    clock_mhz: float | None = None
    gpu: Clocks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What was seen from before a trial's first container until after its last one."""

    samples: Sequence[Sample] = ()
    cpus: int | None = None  # leased
    pace_before: float | None = None
    pace_after: float | None = None


def with_load(trial: Trial, seen: Watched) -> Trial:
    """Return the trial with the load of its trainer."""

    def add(one: ExecutionResult) -> ExecutionResult:
        return replace(one, load=load_of(one, seen)) if one.role is Role.TRAINER else one

    return replace(trial, executions=tuple(add(one) for one in trial.executions))


def load_of(trainer: ExecutionResult, seen: Watched, now: Callable[[], float] = time.time) -> MachineLoad:
    """Return what was seen of the machine while a trainer ran."""
    during = [(one, overlap) for one in seen.samples if (overlap := _overlap_s(one, trainer)) > 0]
    clocks = [one.gpu for one, _ in during if one.gpu is not None]
    reasons = sorted({reason for one in clocks for reason in one.throttled})
    return MachineLoad(
        started_unix_s=round(now() - (time.monotonic() - trainer.started_s), 1),
        duration_s=round(trainer.duration_s, 3),
        cpus=seen.cpus,
        waited_s=trainer.waited_s,
        pressure_s=trainer.pressure_s,
        cpu_s=trainer.cpu_s,
        others_cpu_s=_total([(s.others_cpu_s, s.to_s - s.from_s, part) for s, part in during], trainer.duration_s),
        steal_s=_total([(s.steal_s, s.to_s - s.from_s, part) for s, part in during], trainer.duration_s),
        clock_mhz=_mean([one.clock_mhz for one, _ in during]),
        pace_before=seen.pace_before,
        pace_after=seen.pace_after,
        gpu_clock_mhz=_mean([one.sm_mhz for one in clocks]),
        gpu_throttled_s=round(sum(part for s, part in during if s.gpu and s.gpu.throttled), 1) if clocks else None,
        gpu_throttled=tuple(reasons),
        gpu_power_w=_mean([one.power_w for one in clocks]),
        gpu_temperature_c=_mean([one.temperature_c for one in clocks]),
    )


def measure_pace(cpus: Collection[int]) -> float | None:
    """Return the MiB that this thread hashes per second of processor time, the median of up to four processors.

    Time in which it waits is not counted: it shows what /proc does not, clocks and neighbours beyond this kernel.
    None where it may not run on these processors.
    """
    block, paces = bytes(PACE_MIB * MIB), list[float]()
    allowed = os.sched_getaffinity(0)  # of this thread
    try:
        for cpu in sorted(cpus)[:PACE_CPUS]:
            os.sched_setaffinity(0, {cpu})
            began = time.thread_time()
            hashlib.sha256(block).digest()
            paces.append(PACE_MIB / max(time.thread_time() - began, 1e-9))
    except OSError:
        return None
    finally:
        os.sched_setaffinity(0, allowed)
    return round(median(paces), 1) if paces else None


def _overlap_s(sample: Sample, trainer: ExecutionResult) -> float:
    end = trainer.started_s + trainer.duration_s
    return min(sample.to_s, end) - max(sample.from_s, trainer.started_s)


def _total(parts: Sequence[tuple[float | None, float, float]], duration_s: float) -> float | None:
    """Return seconds in all, from those seen in each sample, its length, and the part of it that counts.

    Where some samples could not tell, the others stand for them.
    """
    known = [(seen * part / length, part) for seen, length, part in parts if seen is not None]
    covered = sum(part for _, part in known)
    return round(max(0.0, sum(seen for seen, _ in known) * duration_s / covered), 3) if covered > 0 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 1) if known else None
