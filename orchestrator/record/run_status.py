"""What goes on in a run, or why nothing does any more, in a line."""

from orchestrator.devices.schedule import is_paused
from orchestrator.errors import JournalError
from orchestrator.record.journal import Journal
from orchestrator.record.verify import is_live
from orchestrator.text import sanitise
from orchestrator.types import Experiment


def state(journal: Journal) -> str:
    """The experiments that run; where none does, that it is paused, waits, or why its last session ended."""
    live, last, paused = is_live(journal.folder), journal.last_word(), is_paused(journal.folder)
    ideas = [f"{begun.of_experiment}: {begun.body['proposal']['hypothesis']}" for begun in journal.unfinished()]
    if live and ideas:
        found = f"running experiment {'; experiment '.join(ideas)}"
    elif live:
        found = "" if paused else "waiting, between two experiments"
    elif last is None:
        found = "nothing ran yet"
    elif last.kind == "session.started":
        found = f"ended unexpectedly; resume it with `autoresearch loop --run {journal.folder.name}`"
    else:
        found = f"ended: {last.body['reason']}"
    return sanitise(", ".join(filter(None, (found, "paused" if paused else ""))), limit=300)


def ended(journal: Journal, experiment_id: int) -> Experiment:
    """A finished experiment. Raises JournalError, which says so of one that still runs or was cut off."""
    if experiment_id in {begun.of_experiment for begun in journal.unfinished()}:
        run = f"--run {journal.folder.name}"
        now = (
            f"is running; see `autoresearch watch {run}`"
            if is_live(journal.folder)
            else f"was interrupted; resume with `autoresearch loop {run}`"
        )
        raise JournalError(f"experiment {experiment_id} {now}")
    return journal.experiment(experiment_id)


def cut_short(journal: Journal) -> str:
    """How its last session came to an end that was no limit; "" if it met one, still runs, or there was none."""
    last = journal.last_word()
    if last is None or last.body.get("limit") or is_live(journal.folder):
        return ""
    return "was cut off" if last.kind == "session.started" else sanitise(f"ended: {last.body['reason']}", limit=200)
