"""What the machine was like, in words: during one trial, and what is usual in a run."""

from collections.abc import Iterator

from orchestrator.events import ConditionsChanged
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, MachineLoad

WORTH_SAYING = 0.1  # of the leased processors' time


def describe_load(load: MachineLoad | None) -> str:
    """Return what the host saw of its machine during a trial; "" for nothing, as in older records."""
    return "; ".join(_parts(load)) if load else ""


def describe_loads(experiment: Experiment) -> str:
    """Return the load of each trial of an experiment, "-" where nothing is known."""
    loads = [describe_load(load) or "-" for load in experiment.loads]
    if len(loads) < 2 or not any(experiment.loads):  # noqa: PLR2004  # one trial
        return loads[0] if loads else "-"
    return "\n".join(f"{value:.6f}: {load}" for value, load in zip(experiment.scores, loads, strict=False))


def describe_usual(journal: Journal) -> str:
    """Return in one line how much others work beside a run, trial after trial; "" where they hardly do."""
    last = journal.last_event(ConditionsChanged)
    return last.event.describe if last and last.event.others_share >= WORTH_SAYING else ""


def _parts(load: MachineLoad) -> Iterator[str]:
    if load.waited_s is not None:
        share = "" if load.wait_share is None else f" ({load.wait_share:.0%} of its time)"
        yield f"waited {load.waited_s:.1f} s{share}"
    if load.pressure_s is not None:
        yield f"pressure {load.pressure_s:.1f} s"
    if load.others_share is not None:
        yield f"others used {load.others_share:.0%} of {load.cpus} processors"
    if load.steal_s:
        yield f"steal {load.steal_s:.1f} s"
    if load.clock_mhz is not None:
        yield f"{load.clock_mhz:.0f} MHz"
    if load.pace_before is not None and load.pace_after is not None:
        yield f"pace {load.pace_before:.0f} MiB/s before, {load.pace_after:.0f} after"
    yield from _gpu_parts(load)


def _gpu_parts(load: MachineLoad) -> Iterator[str]:
    if load.gpu_clock_mhz is not None:
        yield f"GPU at {load.gpu_clock_mhz:.0f} MHz"
    if load.gpu_power_w is not None:
        yield f"{load.gpu_power_w:.0f} W"
    if load.gpu_temperature_c is not None:
        yield f"{load.gpu_temperature_c:.0f} °C"
    if load.gpu_throttled_s:
        yield f"throttled {load.gpu_throttled_s:.0f} s ({', '.join(load.gpu_throttled)})"
