"""Show a run in a terminal while it happens; redrawn four times a second, gone at the end."""

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.events import (
    ContainerStarted,
    CountOffset,
    Event,
    ExperimentBegun,
    ExperimentDoubted,
    ExperimentFinished,
    LoopWaiting,
    NoteRecorded,
    ScoringBegun,
    SessionStarted,
    TrialRepeated,
)
from orchestrator.look.conditions import describe_usual
from orchestrator.look.history import champion_scores
from orchestrator.look.terminal import is_narrow
from orchestrator.record import claims
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.text import counted, sanitise
from orchestrator.types import Champion, Experiment, Level, Role, Spent, Status

COLOURS = {
    Status.KEEP: "green", Status.DISCARD: "bright_black", Status.CRASH: "red", Status.TIMEOUT: "yellow",
    Status.OOM: "yellow", Status.INVALID: "magenta", Status.CHEAT: "bold red", Status.CONTENDED: "blue",
    Status.INFRA: "blue",
}  # fmt: skip
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60  # experiments in the curve, the last ones
LINES, RECENT = 6, 8
REFRESHES_PER_S = 4
BAR = 40  # columns, at most
NOTE_LIMIT = 500  # characters
CHOOSING = "choosing what to try next"


@dataclass(slots=True)
class ActivePanel:
    """One experiment under way, as it is shown."""

    title: str
    hypothesis: str
    role: Role | None = None
    since: float = 0.0  # monotonic, as is `until`
    until: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    def start(self, role: Role, deadline_s: float, at: str) -> None:
        """Start the progress bar of a container that was started at a time, ISO 8601."""
        age_s = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
        self.role, self.since = role, time.monotonic() - age_s
        self.until = self.since + deadline_s

    def render(self, lines: int) -> RenderableType:
        """Return its title, its hypothesis, a progress bar and the newest lines of output."""
        parts: list[RenderableType] = [Text(self.title, "bold"), Text(self.hypothesis, "italic")]
        if self.role is not None:
            total, left = self.until - self.since, max(0.0, self.until - time.monotonic())
            row = Table.grid(padding=(0, 1))
            for column in ({"no_wrap": True}, {"max_width": BAR, "ratio": 1}, {"no_wrap": True}):
                row.add_column(**column)
            row.add_row(self.role.value, ProgressBar(total=total, completed=total - left), f"{left:3.0f} s left")
            parts.append(row)
        newest = list(self.lines)[-lines:]
        return Group(*parts, *(Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in newest))


@dataclass(slots=True, kw_only=True)
class LiveView:
    """The screen; a context manager. `handle` takes events and `show_output` lines of output, from any thread.

    The journal, once attached, is only read.
    """

    tag: str
    console: Console = field(default_factory=Console)
    goal: int = 0  # experiments at which the session ends; 0: no limit
    metric: str = ""
    _journal: Journal | None = None
    _now: str = "starting"
    _active: dict[int, ActivePanel] = field(default_factory=dict)
    _recent: deque[Experiment] = field(default_factory=lambda: deque(maxlen=RECENT))
    _curve: list[float | None] = field(default_factory=list)
    _champion: Champion | None = None
    _usual: str = ""  # how much others work beside it
    _claims: tuple[str, ...] = ()  # what the newest duel says, what is in doubt, what can be shown here
    _spent: Spent = field(default_factory=Spent)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _live: Live | None = None

    def __enter__(self) -> Self:
        self._live = Live(
            console=self.console, get_renderable=self.render, refresh_per_second=REFRESHES_PER_S, transient=True
        )
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def attach(self, journal: Journal, offset: CountOffset | None = None) -> None:
        """Show the experiments of a journal; `offset` is where the session started counting towards the goal."""
        experiments = journal.experiments()
        with self._guard:
            self._journal = journal
            self._recent.extend(experiments)
            self._curve = champion_scores(experiments, journal.best_after(), journal.history().away)
            if self.goal and offset is not None:
                self.goal += offset.experiments
        self._sum_up(journal)

    def handle(self, recorded: Recorded[Event]) -> None:
        """Update the screen with an event."""
        event = recorded.event
        if isinstance(event, ExperimentFinished) and self._journal is not None:
            self._sum_up(self._journal)
        if isinstance(event, NoteRecorded):  # above the screen, where it stays
            self.console.print(Text(f"note: {sanitise(event.text, limit=NOTE_LIMIT)}"), soft_wrap=True)
        with self._guard:
            match event:
                case SessionStarted(metric=metric):
                    self.metric = metric
                case LoopWaiting(reason=reason):
                    self._now = f"waiting: {sanitise(reason, limit=200)}"
                case ExperimentBegun(experiment_id=number, proposal=proposal, environment=environment):
                    hypothesis = sanitise(proposal.hypothesis, limit=300)
                    self._now = ""
                    where = f" on {sanitise(environment.host, limit=40)}" if environment.host else ""
                    self._active[number] = ActivePanel(title=f"experiment {number}{where}", hypothesis=hypothesis)
                case ExperimentFinished(experiment=experiment):
                    self._active.pop(experiment.id, None)
                    self._recent.append(experiment)
                    self._curve.append(self._champion.value if self._champion else None)
                    self._now = "" if self._active else CHOOSING
                case ContainerStarted() | ScoringBegun() | TrialRepeated() | ExperimentDoubted():
                    if panel := self._active.get(event.experiment_id):
                        _update(panel, event, recorded.at)

    def show_output(self, experiment_id: int, role: Role, text: str) -> None:
        """Show a line that a container printed."""
        with self._guard:
            if text.strip() and (panel := self._active.get(experiment_id)):
                panel.lines.append(text if is_narrow(self.console) else f"{role.value:>11}  {text}")

    def render(self) -> RenderableType:
        """Return the whole screen."""
        with self._guard:
            height = max(1, LINES // max(1, len(self._active)))
            active: list[RenderableType] = [panel.render(height) for panel in self._active.values()]
            if self._now:
                active.append(Text(self._now, "bold"))
            return Group(
                Panel(self._head(), title=f"autoresearch · {self.tag}", title_align="left",
                      border_style="dim"),
                Panel(Group(*active), border_style="dim"),
                experiments_table(self._recent, self.metric, narrow=is_narrow(self.console)),
            )  # fmt: skip

    def _head(self) -> Text:
        champion, spent = self._champion, self._spent
        best = "no score yet"
        if champion is not None:
            best = f"{champion.figure(self.metric, 4)} (experiment {champion.id})"
        text = Text.assemble(("best so far  ", "dim"), (best, "bold green"))
        if champion is not None:
            text.append(f"\n{champion.basis(4)}", "dim")
        if curve := draw_best_so_far(self._curve, self.console.width - len("│ 0.0000  0.0000 │")):
            text.append(f"\n{curve}", "green")
        used = f"{spent.device_seconds / 60:.0f} min · ${spent.usage.cost_usd:.2f}"
        text.append(f"\n{summary_line(spent, self.goal)} · {used}", "dim")
        for line in self._claims:
            text.append(f"\n{sanitise(line, limit=300)}", "dim")
        return text.append(f"\n{self._usual}", "yellow") if self._usual else text

    def _sum_up(self, journal: Journal) -> None:
        champion, spent, usual = journal.champion(), journal.spent(), describe_usual(journal)
        told = claims.describe(journal)
        with self._guard:
            self._champion, self._spent, self._usual, self._claims = champion, spent, usual, told


def _update(
    panel: ActivePanel, event: ContainerStarted | ScoringBegun | TrialRepeated | ExperimentDoubted, at: str
) -> None:
    """Show the phase of an experiment; predictors, and the scorer before the training is over, only wait."""
    match event:
        case ContainerStarted(role=Role.TRAINER, deadline_s=deadline_s):
            panel.start(Role.TRAINER, deadline_s, at)
        case ScoringBegun(deadline_s=deadline_s):
            panel.start(Role.SCORER, deadline_s, at)
        case TrialRepeated():
            panel.title = (
                f"experiment {event.experiment_id}, trial {event.trial} of at most {event.at_most}"
                f" · {event.mean_so_far:.4f} so far"
            )
        case ExperimentDoubted():
            panel.title = f"experiment {event.experiment_id}, run again: {sanitise(event.reason, limit=200)}"


def summary_line(spent: Spent, goal: int = 0) -> str:
    """Return how many experiments a run has: without its baseline and repeats of the champion."""
    done = f"{spent.experiments} of {counted(goal, 'experiment')}" if goal else counted(spent.experiments, "experiment")
    return f"{done}, {spent.inconclusive} more not judged" if spent.inconclusive else done


def draw_best_so_far(scores: Sequence[float | None], width: int = WIDTH) -> str:
    """Return the champion's score after each experiment as a line of blocks; "" if it never changed."""
    steps = [score for score in scores if score is not None][-max(1, min(WIDTH, width)) :]
    low, high = min(steps, default=0.0), max(steps, default=0.0)
    if low == high:
        return ""
    scale = (len(BARS) - 1) / (high - low)
    return f"{steps[0]:.4f} " + "".join(BARS[round((step - low) * scale)] for step in steps) + f" {steps[-1]:.4f}"


def experiments_table(
    experiments: Collection[Experiment],
    metric: str,
    confirmed: Collection[int] = (),
    *,
    narrow: bool = False,
    wrap: bool = False,
) -> Table:
    """Return one row per experiment; those confirmed on the holdout are at L3.

    A narrow table has neither level nor seconds; with `wrap` a hypothesis takes as many lines as it needs.
    """
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    for name, justify in (("id", "right"), ("status", "left"), (metric, "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    if not narrow:
        table.add_column("level")
        table.add_column("seconds", justify="right")
    with_hosts = any(experiment.host for experiment in experiments) and not narrow
    if with_hosts:
        table.add_column("host")
    table.add_column("hypothesis", ratio=1, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")
    for experiment in experiments:
        level = Level.L3 if experiment.id in confirmed else experiment.level if experiment.is_judged else ""
        table.add_row(
            str(experiment.id),
            Text(experiment.outcome, COLOURS[experiment.status]),
            "" if experiment.judged_value is None else f"{experiment.judged_value:.4f}",
            *(() if narrow else (level, f"{experiment.duration_s:.0f}")),
            *([sanitise(experiment.host, limit=40)] if with_hosts else []),
            Text(sanitise(experiment.hypothesis, limit=200)),
        )
    return table
