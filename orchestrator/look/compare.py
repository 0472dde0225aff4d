"""Compare two runs: the best so far per experiment, per device hour and per dollar."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import files
from orchestrator.look import figures
from orchestrator.look.history import HistoryEntry, load_history
from orchestrator.look.page import render_comparison
from orchestrator.record.journal import Journal
from orchestrator.types import Conditions
from orchestrator.units import SECONDS_PER_HOUR

AXES = {"experiments": "experiments", "hours": "device hours", "usd": "dollars"}
MINUTES_PER_HOUR = 60.0
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the shorter run, then the end of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The best so far after an experiment, and what the run had used by then."""

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
    usual: str = ""  # how much others work beside it

    def best_at(self, axis: str, value: float) -> float | None:
        """Return the best so far when this much of `axis` was used; None if there was no score yet."""
        reached = [step.best for step in self.steps if getattr(step, axis) <= value]
        return reached[-1] if reached else None

    def total(self, axis: str) -> float:
        """Return how much of `axis` the run used."""
        return float(getattr(self.steps[-1], axis)) if self.steps else 0.0


def load_curve(folder: Path) -> RunCurve:
    """Read a run. Raises JournalError."""
    with Journal.read(folder) as journal:
        history = load_history(journal)
    scored = [entry.experiment for entry in history.entries if entry.experiment.value is not None]
    return RunCurve(
        tag="".join(c if c.isalnum() or c in "._-" else "_" for c in folder.name),
        task=", ".join(sorted(history.tasks)),
        metric=history.scale,
        conditions=tuple(sorted({e.conditions for e in scored})),
        steps=tuple(_steps(history.entries)),
        usual=history.usual,
    )


def print_comparison(first: RunCurve, second: RunCurve, console: Console) -> None:
    """Print a table per axis, after the reasons not to compare the runs at all."""
    for warning in find_differences(first, second):
        console.print(f"note: {warning}", style="yellow", markup=False)
    for axis in AXES:
        marks = _marks(first, second, axis)
        if not marks:
            continue
        words, factor = _unit(first, second, axis)
        metrics = " / ".join(sorted({first.metric, second.metric}))
        table = Table(title=f"best so far, by {words}: {metrics}", title_justify="left", box=None, header_style="dim")
        table.add_column("run")
        for mark in marks:
            table.add_column(f"{mark * factor:.3g}", justify="right")
        table.add_column("end", justify="right")
        for run in (first, second):
            cells = [_number(run.best_at(axis, mark)) for mark in marks]
            end = f"{_number(run.best_at(axis, float('inf')))} at {run.total(axis) * factor:.3g}"
            table.add_row(run.tag, *cells, end)
        console.print(table)


def find_differences(first: RunCurve, second: RunCurve) -> Iterator[str]:
    """Yield why the scores of two runs may not be comparable."""
    if first.task != second.task:
        yield f"different tasks: {first.task!r} and {second.task!r}"
    for run in (first, second):
        if not run.conditions:
            yield f"{run.tag}: no score yet"
        if run.usual:
            yield f"{run.tag}: {run.usual}"
    if first.conditions and second.conditions and first.conditions != second.conditions:
        change = first.conditions[-1].describe_change(second.conditions[-1]) or "within a run"
        yield f"different conditions ({change}): the scores do not compare"


def write(path: Path, first: RunCurve, second: RunCurve) -> None:
    """Write a page with the plots, without any text of an experiment, for its owner alone. Raises RecordFailed."""
    files.write(
        path, render_comparison((first.tag, second.tag), _figures(first, second), list(find_differences(first, second)))
    )


def _steps(entries: tuple[HistoryEntry, ...]) -> Iterator[Step]:
    """Yield a step for each entry; only ideas count as experiments, hours and dollars include everything."""
    experiments, hours, usd = 0, 0.0, 0.0
    for entry in entries:
        e = entry.experiment
        experiments += e.parent_id is not None and e.remeasures_id is None and e.is_judged
        hours += e.duration_s / SECONDS_PER_HOUR
        usd += e.usage.cost_usd
        yield Step(experiments=experiments, hours=hours, usd=usd, best=entry.after)


def _marks(first: RunCurve, second: RunCurve, axis: str) -> list[float]:
    """Return the points at which both are compared: shares of what the shorter one used."""
    total = min(first.total(axis), second.total(axis))
    marks = [share * total for share in SHARES]
    if axis == "experiments":
        return [float(mark) for mark in sorted({round(mark) for mark in marks} - {0})]
    return marks if total > 0 else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _unit(first: RunCurve, second: RunCurve, axis: str) -> tuple[str, float]:
    """Return the unit of an axis and the factor to it: minutes if no whole hour was used."""
    if axis == "hours" and max(first.total(axis), second.total(axis)) < 1:
        return "device minutes", MINUTES_PER_HOUR
    return AXES[axis], 1.0


def _figures(first: RunCurve, second: RunCurve) -> list[dict[str, Any]]:
    """Return a figure for each axis of which anything was used."""
    used = [axis for axis in AXES if max(first.total(axis), second.total(axis)) > 0]
    metric = " / ".join(sorted({figures.plain_name(run.metric) for run in (first, second)}))
    return [_figure(first, second, axis, f"best so far: {metric}") for axis in used]


def _figure(first: RunCurve, second: RunCurve, axis: str, title: str) -> dict[str, Any]:
    """Return one figure; its colours come from the style sheet."""
    words, factor = _unit(first, second, axis)
    known = [(run, [step for step in run.steps if step.best is not None]) for run in (first, second)]
    traces = [
        {
            "x": [getattr(step, axis) * factor for step in steps], "y": [step.best for step in steps], "name": run.tag,
            "mode": "lines", "line": {"shape": "hv", "width": 2}, "uid": f"run{number}",
        }
        for number, (run, steps) in enumerate(known, start=1)
    ]  # fmt: skip
    layout = {
        **figures.base_layout(), "height": 360, "margin": {"l": 70, "r": 12, "t": 12, "b": 50},
        "xaxis": {"title": {"text": words, "standoff": 8}, "zeroline": False, "showgrid": False, "nticks": 6,
            "rangemode": "tozero"},
        "yaxis": {"title": {"text": title, "standoff": 8}, "zeroline": False, "nticks": 7},
    }  # fmt: skip
    return {"data": traces, "layout": layout}
