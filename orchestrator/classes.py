"""Several classes of hardware in one run, as on a cluster: what may run on a slot, and what it is told.

Scores compare only within a class. The session's own class has the run's champion; each other class starts with that
one, measured there, and has a champion of its own from then on (policy.History).
"""

from orchestrator.errors import LeaseUnavailable
from orchestrator.execution.pool import Pool
from orchestrator.protocols import Runner
from orchestrator.record.journal import Journal
from orchestrator.session import Session
from orchestrator.types import QUEUED_AGAIN, Champion, Environment, Experiment


def class_of(runner: Runner) -> str:
    """Return the class of hardware of a runner; "" before it has leased a device."""
    try:
        return runner.environment().hardware
    except LeaseUnavailable:
        return ""


def find_environment(session: Session, runner: Runner) -> Environment:
    """Return the environment that decides what runs on a runner: the session's own, but on another class of hardware.

    So a device of the session's own class that differs in something else judges nothing, and starts nothing new.
    """
    here = runner.environment()
    return here if session.journal.history().is_away(here.hardware) else session.environment


def find_champion(journal: Journal, here: Environment) -> tuple[Champion | None, Champion | None]:
    """Return what an experiment here is compared with, and what the next idea begins with.

    Where the class of hardware has no champion yet they are the run's own: what is measured first.
    """
    history, conditions = journal.history(), here.conditions
    champion = history.champion_of_class(conditions) or history.champion
    return champion, history.parent_of_class(conditions) or history.parent


def may_run_on(session: Session, pool: Pool, runner: Runner) -> bool:
    """Return whether something may start on a runner, by its class of hardware.

    On another class than the session's own the champion is measured first, alone; where it had no score, nothing
    follows.
    """
    history, here = session.journal.history(), runner.environment()
    if not history.champion or not history.is_away(here.hardware):
        return True
    if history.champion_of_class(here.conditions):
        return not pool.active or not session.proposals.prefetcher.is_asking
    starts = any(one.environment.hardware == here.hardware for one in pool.active)
    return not starts and not has_no_score(session.journal, history.champion, here)


def has_no_score(journal: Journal, champion: Champion, here: Environment) -> bool:
    """Return whether the champion was measured again under conditions, and ended there without a score."""
    last = journal.last_remeasurement(champion.id, here.conditions)
    return last is not None and last.status not in QUEUED_AGAIN and last.score is None


def find_next(session: Session, pool: Pool) -> tuple[Champion, Environment] | None:
    """Return what the next idea changes and where it will run, as far as can be told; None if nothing is to be asked.

    On the first runner that waits, else on the one whose experiment began first, whose class has no idea yet.
    """
    history = session.journal.history()
    for runner in (*pool.waiting, *(one.runner for one in pool.active)):
        if class_of(runner):
            here = find_environment(session, runner)
            parent = history.parent_of_class(here.conditions)
            if parent is not None and session.proposals.find_pending(here) is None:
                return parent, here
    return None


def note_start(journal: Journal, experiment: Experiment) -> None:
    """Note, once a session, what becomes of another class of hardware once the champion was measured there."""
    if experiment.remeasures_id is None or experiment.status in QUEUED_AGAIN:
        return
    where = f"{experiment.hardware} is another class of hardware than {journal.history().home}, the run's own"
    number = experiment.remeasures_id
    if experiment.score is None:
        journal.note(f"{where}: experiment {number} ended as {experiment.status} there, so its slots stay idle")
    else:
        journal.note(f"{where}: its champion, first experiment {number}, is compared with nothing elsewhere")
