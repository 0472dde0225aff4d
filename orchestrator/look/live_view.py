"""What a person sees while the loop runs: a live picture in a terminal, plain structlog lines elsewhere."""

import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Self

import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.text import counted, sanitise
from orchestrator.types import Candidate, Experiment, Level, Role, Spent, Status

COLOURS = {
    Status.KEEP: "green", Status.DISCARD: "bright_black", Status.CRASH: "red", Status.TIMEOUT: "yellow",
    Status.OOM: "yellow", Status.INVALID: "magenta", Status.CHEAT: "bold red", Status.CONTENDED: "blue",
    Status.INFRA: "blue",
}  # fmt: skip
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60  # steps that are drawn, the last ones
LINES, RECENT = 6, 8
REFRESHES_PER_S = 4

log = structlog.get_logger()


@dataclass(slots=True)
class PlainView:
    """One structlog line per event; for logs and pipes."""

    def waiting(self, reason: str) -> None:
        """Say why nothing runs."""
        log.info("loop.waiting", reason=reason)

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """Say what is tried."""
        log.info(
            "experiment.begun",
            experiment_id=experiment_id,
            max_attempts=sanitise(candidate.proposal.hypothesis, limit=200),
        )

    def again(self, experiment_id: int, run: int, most: int, value: float) -> None:
        """Say that it runs once more, and what it has so far."""
        log.info("experiment.run_again", experiment_id=experiment_id, run=run, at_most=most, value=value)

    def phase(self, experiment_id: int, role: Role, deadline_s: float) -> None:
        """Say that a container started."""
        log.info("container.started", experiment_id=experiment_id, role=role.value, deadline_s=round(deadline_s))

    def line(self, experiment_id: int, role: Role, text: str) -> None:
        """Training lines are in the experiment's log."""

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """The loop's own event says it."""


@dataclass(slots=True)
class ActivePanel:
    """One experiment that runs, as it is shown."""

    title: str
    hypothesis: str
    role: Role | None = None
    since: float = 0.0
    until: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    def picture(self, lines: int) -> RenderableType:
        """Its title, its idea, a bar and the newest lines."""
        parts: list[RenderableType] = [Text(self.title, "bold"), Text(self.hypothesis, "italic")]
        if self.role is not None:
            total, left = self.until - self.since, max(0.0, self.until - time.monotonic())
            bar = Table.grid(padding=(0, 1))
            done = ProgressBar(total=total, completed=total - left, width=40)
            bar.add_row(self.role.value, done, f"{left:3.0f} s left")
            parts.append(bar)
        shown = list(self.lines)[-lines:]
        return Group(*parts, *(Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in shown))


@dataclass(slots=True)
class LiveView:
    """A screen that is redrawn four times a second, and gone at the end; a context manager.

    Callbacks come from any thread.
    """

    tag: str
    console: Console = field(default_factory=Console)
    goal: int = 0
    metric: str = "val_bpb"
    told: PlainView | None = None  # what session.log is told too; nobody, where a loop is only looked at
    _now: str = "starting"
    _shown: dict[int, ActivePanel] = field(default_factory=dict)
    _done: list[Experiment] = field(default_factory=list)
    _best: Experiment | None = None
    _spent: Spent = field(default_factory=Spent)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _live: Live | None = None

    def __enter__(self) -> Self:
        self._live = Live(
            console=self.console, get_renderable=self.picture, refresh_per_second=REFRESHES_PER_S, transient=True
        )
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def seen(self, experiments: list[Experiment], best: Experiment | None, spent: Spent | None = None) -> None:
        """What the run holds already."""
        with self._guard:
            self._done, self._best, self._spent = list(experiments), best, spent or self._spent

    def waiting(self, reason: str) -> None:
        """Say why nothing starts."""
        with self._guard:
            self._now = f"waiting: {sanitise(reason, limit=200)}"
        if self.told:
            self.told.waiting(reason)

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """Say what is tried."""
        with self._guard:
            hypothesis = sanitise(candidate.proposal.hypothesis, limit=300)
            self._now = ""
            self._shown[experiment_id] = ActivePanel(title=f"experiment {experiment_id}", hypothesis=hypothesis)
        if self.told:
            self.told.begun(experiment_id, candidate)

    def again(self, experiment_id: int, run: int, most: int, value: float) -> None:
        """Say that it runs once more, and what it has so far."""
        title = f"experiment {experiment_id}, run {run} of {most} to tell luck from progress · {value:.4f} so far"
        with self._guard:
            if shown := self._shown.get(experiment_id):
                shown.title = title
        if self.told:
            self.told.again(experiment_id, run, most, value)

    def phase(self, experiment_id: int, role: Role, deadline_s: float) -> None:
        """Start the progress bar of the trainer or the scorer; predictors only wait."""
        if role in (Role.TRAINER, Role.SCORER):
            with self._guard:
                if shown := self._shown.get(experiment_id):
                    shown.role, shown.since, shown.until = role, time.monotonic(), time.monotonic() + deadline_s
        if self.told:
            self.told.phase(experiment_id, role, deadline_s)

    def line(self, experiment_id: int, role: Role, text: str) -> None:
        """Show a line that a container printed."""
        with self._guard:
            if text.strip() and (shown := self._shown.get(experiment_id)):
                shown.lines.append(f"{role.value:>11}  {text}")

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """Add it to the picture."""
        with self._guard:
            self._shown.pop(experiment.id, None)
            self._done.append(experiment)
            self._best, self._spent = best, spent
            self._now = "" if self._shown else "choosing what to try next"

    def picture(self) -> RenderableType:
        """The whole screen."""
        with self._guard:
            parts: list[RenderableType] = [self._head(), self._running(), self._recent()]
        return Group(*parts)

    def _head(self) -> RenderableType:
        best = (
            "no score yet"
            if self._best is None
            else f"{self._best.value:.4f} {self.metric}{self._best.trust_suffix} (experiment {self._best.id})"
        )
        text = Text.assemble(("best so far  ", "dim"), (best, "bold green"))
        if picture := draw_best_so_far(self._done):
            text.append(f"\n{picture}", "green")
        spent = self._spent
        text.append(
            f"\n{summary_line(spent, self.goal)} · {spent.device_seconds / 60:.0f} min · ${spent.usage.cost_usd:.2f}",
            "dim",
        )
        return Panel(text, title=f"autoresearch · {self.tag}", title_align="left", border_style="dim")

    def _running(self) -> RenderableType:
        parts = [shown.picture(max(1, LINES // len(self._shown))) for shown in self._shown.values()]
        if self._now:
            parts.append(Text(self._now, "bold"))
        return Panel(Group(*parts), border_style="dim")

    def _recent(self) -> RenderableType:
        return experiments_table(self._done[-RECENT:], self.metric)


def summary_line(spent: Spent, goal: int = 0) -> str:
    """How many experiments a run has, as every view counts them: without its baseline and the best measured again."""
    done = f"{spent.experiments} of {counted(goal, 'experiment')}" if goal else counted(spent.experiments, "experiment")
    return f"{done}, {spent.inconclusive} more not judged" if spent.inconclusive else done


def draw_best_so_far(experiments: list[Experiment]) -> str:
    """Best so far after each scored experiment, as a line of blocks that goes down; "" where none is lower."""
    steps: list[float] = []
    for experiment in experiments:
        if experiment.judged_value is not None and (experiment.status is Status.KEEP or steps):
            kept = experiment.judged_value if experiment.status is Status.KEEP else steps[-1]
            steps.append(min([kept, *steps[-1:]]))
    steps = steps[-WIDTH:]
    low, high = min(steps, default=0.0), max(steps, default=0.0)
    if low == high:
        return ""
    scale = (len(BARS) - 1) / (high - low)
    return f"{high:.4f} " + "".join(BARS[round((step - low) * scale)] for step in steps) + f" {low:.4f}"


def experiments_table(experiments: list[Experiment], metric: str = "val_bpb", confirmed: Collection[int] = ()) -> Table:
    """One row per experiment; those confirmed on the holdout are at L3."""
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    for name, justify in (
        ("id", "right"),
        ("status", "left"),
        (metric, "right"),
        ("level", "left"),
        ("seconds", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("what was tried", ratio=1, no_wrap=True, overflow="ellipsis")
    for experiment in experiments:
        table.add_row(
            str(experiment.id),
            Text(experiment.outcome, COLOURS[experiment.status]),
            "" if experiment.judged_value is None else f"{experiment.judged_value:.4f}",
            Level.L3 if experiment.id in confirmed else experiment.level if experiment.is_judged else "",
            f"{experiment.duration_s:.0f}",
            Text(sanitise(experiment.hypothesis, limit=200)),
        )
    return table
