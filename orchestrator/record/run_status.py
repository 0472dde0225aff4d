"""What happens in a run now, or why nothing does any more, in one line."""

from orchestrator.devices.schedule import is_paused
from orchestrator.errors import JournalError
from orchestrator.events import LoopWaiting, SessionEnded, SessionFailed
from orchestrator.record.journal import Journal, is_live
from orchestrator.text import sanitise
from orchestrator.types import Experiment


def describe_status(journal: Journal) -> str:
    """Return what runs; if nothing does, that the run is paused or waits, or why its last session ended."""
    live, last, paused = is_live(journal.folder), journal.last_session(), is_paused(journal.folder)
    ideas = [f"{begun.experiment_id}: {begun.proposal.hypothesis}" for begun in journal.unfinished()]
    if live and ideas:
        status = f"running experiment {'; experiment '.join(ideas)}"
    elif live:
        status = "" if paused else _describe_waiting(journal)
    elif last is None:
        status = "nothing ran yet"
    elif isinstance(last.event, SessionEnded | SessionFailed):
        status = f"ended: {last.event.reason}"
    else:
        status = f"ended unexpectedly; resume it with `autoresearch loop --run {journal.folder.name}`"
    return sanitise(", ".join(filter(None, (status, "paused" if paused else ""))), limit=300)


def _describe_waiting(journal: Journal) -> str:
    waiting = journal.last_event(LoopWaiting)
    if waiting is None or journal.events_after(waiting.seq):
        return "waiting, between two experiments"
    return f"waiting: {waiting.event.reason}"


def require_finished(journal: Journal, experiment_id: int) -> Experiment:
    """Return a finished experiment. Raises JournalError, which says so if it still runs or was interrupted."""
    if experiment_id in {begun.experiment_id for begun in journal.unfinished()}:
        run = f"--run {journal.folder.name}"
        if is_live(journal.folder):
            raise JournalError(f"experiment {experiment_id} is running; see `autoresearch watch {run}`")
        raise JournalError(f"experiment {experiment_id} was interrupted; resume with `autoresearch loop {run}`")
    return journal.experiment(experiment_id)


def why_incomplete(journal: Journal) -> str:
    """Return how its last session ended other than at a limit; "" if it met one, still runs, or there was none."""
    last = journal.last_session()
    match last.event if last else None:
        case None | SessionEnded(limit_reached=True):
            return ""
        case _ if is_live(journal.folder):
            return ""
        case SessionEnded(reason=reason) | SessionFailed(reason=reason):
            return sanitise(f"ended: {reason}", limit=200)
    return "was interrupted"
