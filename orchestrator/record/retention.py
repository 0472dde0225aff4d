"""What may go when a run grows old or large: logs and checkpoints, never a record, a source, a diff or a reply.

Each removal is itself an event, recorded before the file is removed, so that verify knows what is missing and why.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestrator.errors import RecordFailed
from orchestrator.events import ExperimentFinished, FilesRemoved
from orchestrator.record import checkpoint
from orchestrator.record.journal import Journal
from orchestrator.settings import Retention
from orchestrator.types import Status

MB = 1_000_000
SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file that may go."""

    experiment_id: int
    name: str  # in the experiment's folder
    size: int
    age_days: float
    status: Status

    @property
    def is_checkpoint(self) -> bool:
        """True for a checkpoint, False for a log."""
        return self.name == checkpoint.NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A file to be removed, and the rule that applies."""

    item: Item
    why: str


def plan(items: Iterable[Item], policy: Retention, best_id: int | None) -> list[Removal]:
    """Choose what this policy removes; the best experiment keeps everything. Pure."""
    left = sorted((item for item in items if item.experiment_id != best_id), key=lambda item: -item.age_days)
    gone = [Removal(item=item, why=why) for item in left if (why := _too_old(item, policy))]
    kept = [item for item in left if item.is_checkpoint and item not in {removal.item for removal in gone}]
    if policy.checkpoints:
        surplus = kept[: max(0, len(kept) - policy.checkpoints)]
        gone += [Removal(item=item, why=f"only the newest {policy.checkpoints} checkpoints stay") for item in surplus]
    return gone + list(_too_much(left, {removal.item for removal in gone}, policy))


def _too_old(item: Item, policy: Retention) -> str:
    days = policy.checkpoint_days if item.is_checkpoint else policy.log_days
    if not days or item.age_days <= days or (not item.is_checkpoint and item.status in policy.keep_logs_of):
        return ""
    return f"older than {days:g} days"


def _too_much(left: list[Item], gone: set[Item], policy: Retention) -> Iterator[Removal]:
    """Yield the oldest first, checkpoints before logs, until the rest is small enough."""
    if not policy.max_mb:
        return
    stays = [item for item in left if item not in gone]
    size = sum(item.size for item in stays)
    protected = [item for item in stays if not item.is_checkpoint and item.status in policy.keep_logs_of]
    for item in sorted((item for item in stays if item not in protected), key=lambda item: not item.is_checkpoint):
        if size <= policy.max_mb * MB:
            return
        size -= item.size
        yield Removal(item=item, why=f"the run's logs and checkpoints hold more than {policy.max_mb:g} MB")


def items(journal: Journal, now: datetime) -> Iterator[Item]:
    """Yield every removable file of a finished experiment that is recorded and on disk."""
    for finished in journal.events(ExperimentFinished):
        experiment = journal.experiment(finished.event.experiment_id)
        age = (now - datetime.fromisoformat(experiment.started_at)).total_seconds() / SECONDS_PER_DAY
        for name in finished.event.files:
            path = experiment.folder / name
            if (name == checkpoint.NAME or name.endswith(".log")) and path.is_file() and not path.is_symlink():
                yield Item(
                    experiment_id=experiment.id, name=name, size=path.stat().st_size, age_days=age,
                    status=experiment.status,
                )  # fmt: skip


def planned(journal: Journal, policy: Retention, now: datetime) -> list[Removal]:
    """List what would be removed from a run."""
    champion, away = journal.champion(), {one.id for one in journal.history().champions_away()}
    found = (item for item in items(journal, now) if item.experiment_id not in away)
    return plan(found, policy, champion.id if champion else None)


def remove(journal: Journal, removals: list[Removal]) -> None:
    """Record each experiment's removals, then remove them. Raises RecordFailed; done again, it does the rest."""
    for number in sorted({removal.item.experiment_id for removal in removals}):
        mine = [removal for removal in removals if removal.item.experiment_id == number]
        journal.append(FilesRemoved(experiment_id=number, files={removal.item.name: removal.why for removal in mine}))
        for removal in mine:
            _unlink(journal.folder / f"{number:04d}" / removal.item.name)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RecordFailed(
            f"{path}: cannot be removed: {error.strerror}; fix the permissions and run it again"
        ) from error
