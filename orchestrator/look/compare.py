"""Two runs side by side: the best so far per experiment, per hour of the device and per dollar."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import files
from orchestrator.look import figures
from orchestrator.look.history import HistoryEntry, gather
from orchestrator.look.page import comparison
from orchestrator.record.journal import QUEUED_AGAIN, Journal
from orchestrator.types import Conditions
from orchestrator.units import SECONDS_PER_HOUR

AXES = {"experiments": "experiments", "hours": "hours of the device", "usd": "dollars"}
MINUTES_PER_HOUR = 60.0
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the shorter run, then the end of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a run was after an experiment, and what it had used by then."""

    experiments: int
    hours: float
    usd: float
    best: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCurve:
    """A run from its baseline to its end."""

    tag: str
    task: str
    metric: str
    conditions: tuple[Conditions, ...]
    steps: tuple[Step, ...]

    def best_at(self, axis: str, value: float) -> float | None:
        """The best so far when this much of `axis` was used."""
        reached = [step.best for step in self.steps if getattr(step, axis) <= value]
        return reached[-1] if reached else None

    def whole(self, axis: str) -> float:
        """How much of it the run used."""
        return float(getattr(self.steps[-1], axis)) if self.steps else 0.0


def course(folder: Path) -> RunCurve:
    """Read a run. Raises JournalError."""
    with Journal.read(folder) as journal:
        night = gather(journal)
    scored = [turn.experiment for turn in night.turns if turn.experiment.value is not None]
    tasks = {str(session["task"]) for session in night.sessions if "task" in session}
    return RunCurve(
        tag="".join(c if c.isalnum() or c in "._-" else "_" for c in folder.name),
        task=", ".join(sorted(tasks)),
        metric=night.metric,
        conditions=tuple(sorted({e.conditions for e in scored})),
        steps=tuple(_steps(night.turns)),
    )


def compare(one: RunCurve, two: RunCurve, console: Console) -> None:
    """Print the table, and what stands against comparing them at all."""
    for warning in warnings(one, two):
        console.print(f"note: {warning}", style="yellow", markup=False)
    for axis in AXES:
        marks = _marks(one, two, axis)
        if not marks:
            continue
        words, factor = _unit(one, two, axis)
        table = Table(title=f"best so far, by {words}", title_justify="left", box=None, header_style="dim")
        table.add_column("run")
        for mark in marks:
            table.add_column(f"{mark * factor:.3g}", justify="right")
        table.add_column("end", justify="right")
        for run in (one, two):
            cells = [_number(run.best_at(axis, mark)) for mark in marks]
            end = f"{_number(run.best_at(axis, float('inf')))} at {run.whole(axis) * factor:.3g}"
            table.add_row(run.tag, *cells, end)
        console.print(table)


def warnings(one: RunCurve, two: RunCurve) -> Iterator[str]:
    """Why the numbers of the two may not mean the same."""
    if one.task != two.task:
        yield f"not of one task: {one.task!r} and {two.task!r}"
    for run in (one, two):
        if not run.conditions:
            yield f"{run.tag}: no score yet"
    if one.conditions and two.conditions and one.conditions != two.conditions:
        yield "not on the same hardware, image and compile cache, where scores alone compare"


def write(path: Path, one: RunCurve, two: RunCurve) -> None:
    """Write a page with the plots and no text of an experiment, for its owner alone. Raises RecordFailed."""
    files.write(path, comparison((one.tag, two.tag), _figures(one, two), list(warnings(one, two))))


def _steps(turns: tuple[HistoryEntry, ...]) -> Iterator[Step]:
    """After each turn; ideas are counted, hours and dollars are all that was used."""
    experiments, hours, usd = 0, 0.0, 0.0
    for turn in turns:
        e = turn.experiment
        experiments += e.parent_id is not None and e.remeasures_id is None and e.status not in QUEUED_AGAIN
        hours += e.duration_s / SECONDS_PER_HOUR
        usd += e.usage.cost_usd
        yield Step(experiments=experiments, hours=hours, usd=usd, best=turn.after)


def _marks(one: RunCurve, two: RunCurve, axis: str) -> list[float]:
    """Where both are looked at: shares of what the shorter one used."""
    whole = min(one.whole(axis), two.whole(axis))
    marks = [share * whole for share in SHARES]
    if axis == "experiments":
        return [float(mark) for mark in sorted({round(mark) for mark in marks} - {0})]
    return marks if whole > 0 else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _unit(one: RunCurve, two: RunCurve, axis: str) -> tuple[str, float]:
    """What an axis counts, and how many of that its numbers are: minutes, where no hour was used."""
    if axis == "hours" and max(one.whole(axis), two.whole(axis)) < 1:
        return "minutes of the device", MINUTES_PER_HOUR
    return AXES[axis], 1.0


def _figures(one: RunCurve, two: RunCurve) -> list[dict[str, Any]]:
    """One for each axis of which anything was used."""
    used = [axis for axis in AXES if max(one.whole(axis), two.whole(axis)) > 0]
    metric = " / ".join(sorted({figures.plain(run.metric) for run in (one, two)}))
    return [_figure(one, two, axis, f"best {metric} so far") for axis in used]


def _figure(one: RunCurve, two: RunCurve, axis: str, title: str) -> dict[str, Any]:
    """The colours of both runs are the style sheet's."""
    words, factor = _unit(one, two, axis)
    known = [(run, [step for step in run.steps if step.best is not None]) for run in (one, two)]
    traces = [
        {
            "x": [getattr(step, axis) * factor for step in steps], "y": [step.best for step in steps], "name": run.tag,
            "mode": "lines", "line": {"shape": "hv", "width": 2}, "uid": f"run{number}",
        }
        for number, (run, steps) in enumerate(known, start=1)
    ]  # fmt: skip
    layout = {
        **figures.unpainted(), "height": 360, "margin": {"l": 70, "r": 12, "t": 12, "b": 50},
        "xaxis": {"title": {"text": words, "standoff": 8}, "zeroline": False, "showgrid": False, "nticks": 6,
            "rangemode": "tozero"},
        "yaxis": {"title": {"text": title, "standoff": 8}, "zeroline": False, "nticks": 7},
    }  # fmt: skip
    return {"data": traces, "layout": layout}
