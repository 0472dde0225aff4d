"""Two runs side by side: the best so far per experiment, per hour of the device and per dollar."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import files
from orchestrator.records.journal import QUEUED_AGAIN, Journal
from orchestrator.report.night import Turn, gather
from orchestrator.report.page import figure_page
from orchestrator.types import Conditions
from orchestrator.units import SECONDS_PER_HOUR

AXES = {"experiments": "experiments", "hours": "hours of the device", "usd": "dollars"}
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the shorter run, then the end of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a run was after an experiment, and what it had used by then."""

    experiments: int
    hours: float
    usd: float
    best: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A run from its baseline to its end."""

    tag: str
    task: str
    conditions: tuple[Conditions, ...]
    steps: tuple[Step, ...]

    def best_at(self, axis: str, value: float) -> float | None:
        """The best so far when this much of `axis` was used."""
        reached = [step.best for step in self.steps if getattr(step, axis) <= value]
        return reached[-1] if reached else None

    def whole(self, axis: str) -> float:
        """How much of it the run used."""
        return float(getattr(self.steps[-1], axis)) if self.steps else 0.0


def course(folder: Path) -> Course:
    """Read a run. Raises JournalError."""
    with Journal.read(folder) as journal:
        night = gather(journal)
    scored = [turn.experiment for turn in night.turns if turn.experiment.val_bpb is not None]
    tasks = {str(session["task"]) for session in night.sessions if "task" in session}
    return Course(
        tag="".join(c if c.isalnum() or c in "._-" else "_" for c in folder.name),
        task=", ".join(sorted(tasks)),
        conditions=tuple(sorted({e.conditions for e in scored})),
        steps=tuple(_steps(night.turns)),
    )


def compare(one: Course, two: Course, console: Console) -> None:
    """Print the table, and what stands against comparing them at all."""
    for warning in warnings(one, two):
        console.print(f"note: {warning}", style="yellow", markup=False)
    for axis, words in AXES.items():
        marks = _marks(one, two, axis)
        if not marks:
            continue
        table = Table(title=f"best so far, by {words}", title_justify="left", box=None, header_style="dim")
        table.add_column("run")
        for mark in marks:
            table.add_column(f"{mark:.3g}", justify="right")
        table.add_column("end", justify="right")
        for run in (one, two):
            cells = [_number(run.best_at(axis, mark)) for mark in marks]
            end = f"{_number(run.best_at(axis, float('inf')))} at {run.whole(axis):.3g}"
            table.add_row(run.tag, *cells, end)
        console.print(table)


def warnings(one: Course, two: Course) -> Iterator[str]:
    """Why the numbers of the two may not mean the same."""
    if one.task != two.task:
        yield f"not of one task: {one.task!r} and {two.task!r}"
    if one.conditions != two.conditions:
        yield "not on the same hardware, image and compile cache, where scores alone compare"


def write(path: Path, one: Course, two: Course) -> None:
    """Write a page with the three plots and no text of an experiment, for its owner alone. Raises RecordFailed."""
    files.write(path, figure_page(f"{one.tag} and {two.tag}", _figure(one, two)))


def _steps(turns: tuple[Turn, ...]) -> Iterator[Step]:
    """After each turn; ideas are counted, hours and dollars are all that was used."""
    experiments, hours, usd = 0, 0.0, 0.0
    for turn in turns:
        e = turn.experiment
        experiments += e.parent_id is not None and e.measures is None and e.status not in QUEUED_AGAIN
        hours += e.duration_s / SECONDS_PER_HOUR
        usd += e.usage.cost_usd
        yield Step(experiments=experiments, hours=hours, usd=usd, best=turn.after)


def _marks(one: Course, two: Course, axis: str) -> list[float]:
    """Where both are looked at: shares of what the shorter one used."""
    whole = min(one.whole(axis), two.whole(axis))
    marks = [share * whole for share in SHARES]
    if axis == "experiments":
        return [float(mark) for mark in sorted({round(mark) for mark in marks} - {0})]
    return marks if whole > 0 else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _figure(one: Course, two: Course) -> dict[str, Any]:
    """A panel for each axis of which anything was used, with one scale of scores."""
    used = [axis for axis in AXES if max(one.whole(axis), two.whole(axis)) > 0]
    width = 1 / max(1, len(used))
    layout: dict[str, Any] = {
        "height": 420,
        "legend": {"orientation": "h", "y": 1.15},
        "yaxis": {"title": {"text": "best so far"}},
    }
    traces = []
    for panel, axis in enumerate(used, start=1):
        end = "" if panel == 1 else str(panel)
        domain = [(panel - 1) * width, (panel - 0.1) * width]
        layout[f"xaxis{end}"] = {"title": {"text": AXES[axis]}, "domain": domain}
        for colour, run in (("#0072b2", one), ("#d55e00", two)):
            known = [step for step in run.steps if step.best is not None]
            traces.append({
                "x": [getattr(step, axis) for step in known], "y": [step.best for step in known], "name": run.tag,
                "mode": "lines", "line": {"shape": "hv", "color": colour}, "xaxis": f"x{end}", "yaxis": "y",
                "showlegend": panel == 1, "legendgroup": run.tag,
            })  # fmt: skip
    return {"data": traces, "layout": layout}
