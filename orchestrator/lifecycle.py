"""Start, recovery, limits and end of a session."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from orchestrator import files
from orchestrator.claims import reserved_seconds
from orchestrator.errors import AutoresearchError, ConfigError, SandboxError
from orchestrator.events import CountOffset, SessionEnded, SessionFailed, SessionStarted
from orchestrator.experiments import (
    fail_experiment,
    keep_experiment,
    reload_candidate,
    require_same_inputs,
)
from orchestrator.logger import log
from orchestrator.proposals import Remaining, read_source
from orchestrator.record import anchors, experiment_dir, session_log
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import GENESIS
from orchestrator.session import ActiveExperiment, Session
from orchestrator.settings import Limits
from orchestrator.text import counted
from orchestrator.types import Plan, Spent
from orchestrator.units import SECONDS_PER_HOUR

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def recover(session: Session) -> CountOffset:
    """Close what a crash left open, commit what was kept, and return where the limits start counting."""
    journal = session.journal
    require_same_rule(session)
    for begun in journal.unfinished():
        folder = journal.folder / f"{begun.experiment_id:04d}"
        active = ActiveExperiment(
            id=begun.experiment_id,
            candidate=reload_candidate(journal, begun.experiment_id),
            runner=session.runners[0],
            environment=begun.environment,
            folder=folder,
            started_at=journal.events(type(begun), begun.experiment_id)[0].at,
            started=time.monotonic(),
            plan=Plan(train_seed=0, audit_seed=b""),
            trial_folder=folder,
            score_to_beat=None,
        )
        experiment_dir.drop_private(folder)
        fail_experiment(journal, active, "the orchestrator died while it ran; it runs again")
    require_same_inputs(journal, session.environment)
    champion, parent, edited = journal.champion(), journal.parent(), ""
    if parent is not None:
        kept = journal.experiment(parent.id)
        if not kept.commit:
            keep_experiment(journal, session.branch, kept)
        elif files.read_text(session.branch.path) != read_source(kept):
            edited = (
                f"{session.branch.path} was edited by hand, and this run does not use it: it continues from experiment"
                f" {kept.id}; to start from your file, begin another run with --run NAME"
            )
    offset = load_offset(journal)
    task = session.config.task
    proposer = session.proposals.proposer.name
    journal.append(
        SessionStarted(
            task=task.name,
            metric=task.metric,
            unit=task.unit,
            direction=task.direction,
            proposer=proposer,
            environment=session.environment,
            rule=session.config.noise.rule,
            threshold=task.threshold,
        )
    )
    if edited:
        journal.note(edited)
    if champion is not None and (change := champion.conditions.describe_change(session.environment.conditions)):
        journal.note(
            f"conditions have changed ({change}): experiment {champion.id}, the best, is measured again before anything"
            " is compared with it"
        )
    return offset


def require_same_rule(session: Session) -> None:
    """Raise ConfigError if the run was begun under another rule of keeping: its keeps mean something else."""
    journal, rule = session.journal, session.config.noise.rule
    if journal.last_event(SessionStarted) is None or not journal.count() or journal.rule() == rule:
        return
    before = journal.rule() or "an earlier rule of keeping, by the spread of its baseline runs"
    raise ConfigError(
        f"run {journal.folder.name} was begun under {before}, not [noise] rule = {rule!r}: it can be shown, verified"
        " and compared, but goes on only as another run; start one with --run NAME"
    )


def load_offset(journal: Journal) -> CountOffset:
    """Return where the limits start counting: at the last session that ended at one.

    So a session that was killed resumes its count, and one that was done starts another. Money and tokens count over
    the whole run.
    """
    ended = [recorded.event for recorded in journal.events(SessionEnded) if recorded.event.limit_reached]
    return ended[-1].offset if ended else CountOffset()


def limit_reached(session: Session, offset: CountOffset, active: Sequence[ActiveExperiment]) -> str:
    """Return the limit that is met once all active experiments have ended, "" if none.

    Raises SandboxError, and ends the session, after too many failures of the sandbox in a row.
    """
    limits, spent = session.config.limits, session.journal.spent()
    failures = spent.consecutive_infra // session.config.parallel  # one cause fails all that run side by side
    if failures >= limits.consecutive_infra:
        if active:
            return "the sandbox failed too often"
        last = session.journal.newest(1)[0].reason.splitlines()[0]
        message = f"{spent.consecutive_infra} failures of the sandbox in a row, the last: {last}"
        raise SandboxError(end_session(session, message))
    counted_ideas = spent.experiments - offset.experiments + sum(map(_is_idea, active))
    reserved_s = reserved_seconds(session.journal, session.config.noise, limits.hours)
    return describe_limit(limits, replace(spent, experiments=counted_ideas), session.elapsed_s + reserved_s)


def describe_limit(limits: Limits, spent: Spent, elapsed_s: float) -> str:
    """Return the first limit that is met, "" if none; `elapsed_s` is this session's wall-clock time."""
    tokens = spent.usage.total_tokens
    if limits.experiments and spent.experiments >= limits.experiments:
        return f"{counted(spent.experiments, 'experiment')} done"
    if limits.hours and elapsed_s >= limits.hours * SECONDS_PER_HOUR:
        return f"the {limits.hours:g} hours are over"
    if limits.max_usd and spent.usage.cost_usd >= limits.max_usd:
        return f"${spent.usage.cost_usd:.2f} spent"
    if limits.max_tokens and tokens >= limits.max_tokens:
        return f"{tokens} tokens used"
    return ""


def remaining(session: Session, offset: CountOffset, active: Sequence[ActiveExperiment]) -> Remaining:
    """Return what the limits leave to this session, what is under way counted as done."""
    limits = session.config.limits
    done = session.journal.spent().experiments - offset.experiments + sum(map(_is_idea, active))
    hours = limits.hours - session.elapsed_s / SECONDS_PER_HOUR
    return Remaining(
        experiments=max(0, limits.experiments - done) if limits.experiments else None,
        hours=max(0.0, hours) if limits.hours else None,
    )


def _is_idea(active: ActiveExperiment) -> bool:
    """Return whether an experiment counts against a limit: the baseline and repeats of the champion do not."""
    return active.candidate.parent_id is not None and active.candidate.remeasures_id is None


def interrupt_session(session: Session, active: Sequence[ActiveExperiment]) -> str:
    """Record what an interrupt ended; another attempt is due at the next start."""
    for one in active:
        fail_experiment(session.journal, one, "interrupted; it runs again at the next start", interrupted=True)
    return end_session(session, "interrupted")


def end_session(session: Session, reason: str, *, limit_reached: bool = False) -> str:
    """Record how the session ended, and return it."""
    journal = session.journal
    offset = CountOffset(experiments=journal.spent().experiments)
    log.info("session.ended", reason=reason)  # the last line that the digest covers
    digest = session_log.digest(journal.folder)
    journal.append(SessionEnded(reason=reason, limit_reached=limit_reached, offset=offset, log=digest))
    anchors.anchor_head(session.config.anchor_path, journal)
    return reason


@contextmanager
def record_failure(journal: Journal) -> Iterator[None]:
    """Record an error that ends a session; a run that is refused before its first record stays empty."""
    try:
        yield
    except AutoresearchError as error:
        with suppress(AutoresearchError):  # the record itself may be what failed
            if journal.head() != GENESIS:
                journal.append(SessionFailed(reason=str(error), log=session_log.digest(journal.folder)))
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into one KeyboardInterrupt; a second signal is ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
