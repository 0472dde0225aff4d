"""A run as its journal records it, gathered for a page. What cannot be read is named, and the rest is shown."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from orchestrator import policy
from orchestrator.errors import JournalError
from orchestrator.events import ExperimentBegun, SessionEnded, SessionFailed, SessionStarted
from orchestrator.look.conditions import describe_usual
from orchestrator.record import claims
from orchestrator.record.journal import Journal
from orchestrator.text import sanitise
from orchestrator.types import Champion, Environment, Experiment, Spent, Status

ENVIRONMENT_LABELS = {
    "host": "host", "hardware": "hardware", "gpu_uuid": "GPU", "driver": "driver", "engine": "engine",
    "runtime": "runtime",
    "tier": "isolation", "kernel": "kernel", "accepted_risks": "accepted risks", "image_id": "image",
    "seccomp_sha256": "seccomp profile", "locked_sha256": "locked files", "data_sha256": "data",
    "cache_sha256": "compile cache",
}  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A finished experiment, and the champion's score before it and after it."""

    experiment: Experiment
    rank: int  # how many finished before it
    before: float | None
    after: float | None

    @property
    def delta(self) -> float | None:
        """Return its score minus the champion's before it; None if one of them is missing."""
        value = self.experiment.judged_value
        return None if value is None or self.before is None else value - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How many experiments ended with a status, and what they took."""

    status: Status
    count: int
    device_seconds: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """A run as its journal records it."""

    tag: str
    at: str  # ISO 8601, UTC
    entries: tuple[HistoryEntry, ...]  # in the order they finished, not that of their ids where several run at once
    champion: Champion | None = None
    baseline_value: float | None = None  # estimated as the champion's is; measured where it is not
    seed_std: float | None = None  # between trials of one source, under the champion's conditions
    spent: Spent = field(default_factory=Spent)
    running: tuple[str, ...] = ()  # a line for each
    environment: Environment = field(default_factory=Environment)  # of the newest session
    tasks: frozenset[str] = frozenset()
    ended: str = ""  # why the newest session ended; "" while it runs
    claims: tuple[str, ...] = ()  # what the newest duel says, what is in doubt, what can be shown here
    usual: str = ""  # how much others work beside it
    damaged: tuple[str, ...] = ()  # a line for each
    head: str = ""
    events: int = 0
    metric: str = ""
    scale: str = ""  # the metric, in what it is, and which scores are better
    sign: int = 1  # makes costs of its scores: -1 where the higher one is better

    @property
    def kept(self) -> tuple[HistoryEntry, ...]:
        """Return the entries of kept experiments."""
        return tuple(entry for entry in self.entries if entry.experiment.status is Status.KEEP)

    @property
    def baseline(self) -> Experiment | None:
        """Return the first kept experiment."""
        return next((entry.experiment for entry in self.kept), None)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Return one outcome for each status that occurred, in the order of Status."""
        by_status = {s: [e.experiment for e in self.entries if e.experiment.status is s] for s in Status}
        return tuple(
            Outcome(
                status=status,
                count=len(experiments),
                device_seconds=sum(e.duration_s for e in experiments),
                cost_usd=sum(e.usage.cost_usd for e in experiments),
            )
            for status, experiments in by_status.items()
            if experiments
        )


def load_history(journal: Journal) -> RunHistory:
    """Return everything the overview needs. Raises JournalError if the journal cannot be read at all."""
    damaged = list(journal.damaged)

    def read(query: Callable[[], T], otherwise: T) -> T:
        try:
            return query()
        except JournalError as error:
            damaged.append(str(error))
            return otherwise

    rank = {number: rank for rank, number in enumerate(journal.finish_order())}
    experiments = sorted(journal.experiments(), key=lambda e: rank[e.id])
    champion = journal.champion()
    baseline = next((e for e in experiments if e.status is Status.KEEP), None)
    level = journal.history().level(baseline, champion.conditions) if champion and baseline else None
    started = read(lambda: [recorded.event for recorded in journal.events(SessionStarted)], list[SessionStarted]())
    last = read(journal.last_session, None)
    unfinished = read(journal.unfinished, list[ExperimentBegun]())
    return RunHistory(
        tag=journal.folder.name,
        at=datetime.now(UTC).isoformat(timespec="minutes"),
        entries=make_entries(experiments, journal.best_after(), journal.history().away),
        champion=champion,
        baseline_value=level if level is not None or baseline is None else baseline.value,
        seed_std=journal.history().seed_std(champion.conditions) if champion else None,
        spent=journal.spent(),
        running=tuple(f"experiment {begun.experiment_id}: {begun.proposal.hypothesis}" for begun in unfinished),
        environment=started[-1].environment if started else Environment(),
        tasks=frozenset(session.task for session in started),
        ended=last.event.reason if last and isinstance(last.event, SessionEnded | SessionFailed) else "",
        usual=read(lambda: describe_usual(journal), ""),
        claims=read(lambda: claims.describe(journal), ()),
        damaged=tuple(damaged),
        head=journal.head(),
        events=journal.span()[1],
        metric=sanitise(started[0].metric if started else "", 40),
        scale=sanitise(journal.describe_metric(), 100),
        sign=next((e.sign for e in experiments if e.score), 1),
    )


def make_entries(
    experiments: Iterable[Experiment],
    estimated: Mapping[int, float | None] = MappingProxyType({}),
    away: Collection[int] = (),
) -> tuple[HistoryEntry, ...]:
    """Return an entry for each experiment, given in the order they finished."""
    known = list(experiments)
    after = champion_scores(known, estimated, away)
    before = [None, *after]
    return tuple(
        HistoryEntry(experiment=e, rank=rank, before=before[rank], after=after[rank]) for rank, e in enumerate(known)
    )


def champion_scores(
    experiments: Iterable[Experiment],
    estimated: Mapping[int, float | None] = MappingProxyType({}),
    away: Collection[int] = (),
) -> list[float | None]:
    """Return the champion's score after each experiment, where known as estimated; it rises where one did not hold.

    What is kept or measured again `away`, on another class of hardware than the run's own, does not change it.
    """
    if estimated:
        return [estimated.get(experiment.id) for experiment in experiments]
    kept: list[Experiment] = []
    remeasurements: list[Experiment] = []
    scores: list[float | None] = []
    champion: Champion | None = None
    for experiment in experiments:
        again = experiment.remeasures_id is not None and experiment.judged_value is not None
        if (experiment.status is Status.KEEP or again) and experiment.id not in away:
            (remeasurements if again else kept).append(experiment)
            champion = policy.choose_champion(kept, remeasurements)
        scores.append(champion.value if champion else None)
    return scores


def describe_environment(environment: Environment) -> list[tuple[str, str]]:
    """Return the parts of an environment that are known, each with its label."""
    values = ((label, getattr(environment, name)) for name, label in ENVIRONMENT_LABELS.items())
    known = [(label, sanitise(value, 200)) for label, value in values if value]
    settings = ", ".join(f"{name} {value}" for name, value in sorted(environment.settings.items()))
    return [*known, ("budgets and limits", sanitise(settings, 1000))] if settings else known
