"""Where a session begins and ends: what a crash left open, limits, an interrupt."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import structlog

from orchestrator import limits, measure, turn
from orchestrator.errors import AutoresearchError, SandboxError
from orchestrator.record import anchors, experiment_dir
from orchestrator.record.chain import GENESIS
from orchestrator.record.journal import Journal
from orchestrator.session import Running, Session
from orchestrator.types import INTERRUPTED, Plan, Spent, Trial

if TYPE_CHECKING:
    from orchestrator.execution.pool import Pool

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Where this count of experiments and hours began: at the last session that ended at a limit.

    So a killed session resumes its count, and a finished one starts a new one. Money and tokens count over the
    whole run.
    """

    experiments: int = 0
    device_seconds: float = 0.0

    def since(self, spent: Spent) -> Spent:
        """What was spent since then."""
        return replace(
            spent,
            experiments=spent.experiments - self.experiments,
            device_seconds=spent.device_seconds - self.device_seconds,
        )


def recover(session: Session) -> Base:
    """Close what a crash left open, put keeps into git, and say where the counts began."""
    journal = session.journal
    for begun in journal.unfinished():
        folder = journal.folder / f"{begun.of_experiment:04d}"
        running = Running(
            id=begun.of_experiment,
            candidate=turn.reread(session, begun.of_experiment),
            runner=session.runner,
            facts=session.runner.facts(),
            folder=folder,
            started_at=begun.at,
            started=time.monotonic(),
            plan=Plan(train_seed=0, audit_seed=b""),
            where=folder,
            below=None,
        )
        experiment_dir.drop_private(running.folder)
        turn.finish(session, running, Trial.infra("the orchestrator died while it ran: run again"), None)
    measure.refuse_changed(journal, session.runner.facts())
    best = journal.best()
    if best is not None:
        source = (best.folder / "train.py").read_text(encoding="utf-8")
        if not best.commit:
            turn.keep(session, best, replace(turn.reread(session, best.id), source=source))
        elif session.keeper.path.read_text(encoding="utf-8") != source:
            log.warning("train_py.differs", path=str(session.keeper.path), goes_on_from=best.id)
    base = base_of(journal)
    task = session.config.task
    started = {"task": task.name, "metric": task.metric, "proposer": session.proposer.name}
    journal.note("session.started", {"facts": session.runner.facts(), **started})
    log.info("session.started", head=journal.head())
    return base


def base_of(journal: Journal) -> Base:
    """Where the next session's count begins."""
    ended = [r.body for r in journal.records("session.ended") if r.body["limit"]]
    return Base(**ended[-1]["base"]) if ended else Base()


def limit(session: Session, base: Base, at_work: Sequence[Running]) -> str:
    """The limit that is met once all those at work have ended, "" if none. Raises SandboxError after many failures."""
    config, spent = session.config, session.journal.spent()
    events = spent.consecutive_infra // config.parallel  # what fails, fails all that run side by side
    if limits.gave_up(config.limits, replace(spent, consecutive_infra=events)):
        if at_work:
            return "the sandbox failed too often"
        last = session.journal.experiments(order="id DESC", limit=1)[0]
        message = f"{spent.consecutive_infra} failures of the sandbox in a row, the last: {last.reason.splitlines()[0]}"
        raise SandboxError(end(session, message))
    since = base.since(spent)
    since = replace(since, experiments=since.experiments + sum(_counts(running) for running in at_work))
    return limits.reached(config.limits, since, time.monotonic() - session.started) or ""


def _counts(running: Running) -> bool:
    """Whether it is one of the experiments that a limit counts: neither the baseline nor the best once more."""
    return running.candidate.parent_id is not None and running.candidate.remeasures_id is None


def interrupt(session: Session, pool: "Pool") -> str:
    """End what runs; it is owed another attempt."""
    pool.stop()
    for running in pool.at_work:
        turn.finish(session, running, Trial.infra(f"{INTERRUPTED}run again at the next start"), None)
    return end(session, "interrupted")


@contextmanager
def last_word(journal: Journal) -> Iterator[None]:
    """An error that ends a session is on record too; a run that is refused before its first record stays empty."""
    try:
        yield
    except AutoresearchError as error:
        with suppress(AutoresearchError):  # the record itself may be what failed
            if journal.head() != GENESIS:
                journal.note("session.failed", {"reason": str(error)})
        raise


def end(session: Session, reason: str, *, limit: bool = False) -> str:
    """Close the session's record."""
    spent = session.journal.spent()
    base = asdict(Base(experiments=spent.experiments, device_seconds=spent.device_seconds))
    session.journal.note("session.ended", {"reason": reason, "limit": limit, "base": base})
    anchors.name_head(session.config, session.journal)
    log.info("session.ended", reason=reason, head=session.journal.head())
    return reason
