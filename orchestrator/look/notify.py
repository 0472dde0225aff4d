"""A command of the user's, told as JSON on its standard input about a new best, a drought, a cheat, or the end.

It runs beside the loop, in bounded time; whatever it does, the loop goes on.
"""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from orchestrator.errors import AutoresearchError
from orchestrator.protocols import View
from orchestrator.record.journal import QUEUED_AGAIN, Journal
from orchestrator.settings import Notify
from orchestrator.types import Candidate, Experiment, Role, Spent, Status

SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Notifier:
    """Starts the command for each event that is asked for; never raises, and never waits but at the end."""

    settings: Notify
    run: str
    _threads: list[threading.Thread] = field(default_factory=list)

    def tell(self, event: str, **facts: Any) -> None:  # noqa: ANN401  # whatever is plain data
        """Start the command, if there is one for this event."""
        if not self.settings.command or event not in self.settings.on:
            return
        text = json.dumps({"event": event, "run": self.run, **facts})
        thread = threading.Thread(target=self._call, args=(event, text), daemon=True, name=f"notify {event}")
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def end(self, reason: str, journal: Journal, *, failed: bool = False) -> None:
        """Tell that the session is over."""
        best, spent = _facts(journal.best()), asdict(journal.spent())
        self.tell("end", reason=reason, failed=failed, best=best, spent=spent, folder=str(journal.folder))

    def close(self) -> None:
        """Give commands that still run the rest of their time."""
        for thread in self._threads:
            thread.join(self.settings.timeout_s + 1.0)

    def _call(self, event: str, text: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own argv list, no shell
                self.settings.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment, start_new_session=True, text=True,
            )  # fmt: skip
            try:
                process.communicate(text, timeout=self.settings.timeout_s)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            if process.returncode != 0:
                log.warning("notify.failed", about=event, exit_code=process.returncode)
        except (OSError, ValueError) as error:
            log.warning("notify.failed", about=event, error=str(error))


@dataclass(slots=True, kw_only=True)
class NotifyingView:
    """A view that also notifies."""

    view: View
    notifier: Notifier
    folder: str
    stagnation_after: int
    since_improvement: int = 0

    def waiting(self, reason: str) -> None:
        """Pass on."""
        self.view.waiting(reason)

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """Pass on."""
        self.view.begun(experiment_id, candidate)

    def again(self, experiment_id: int, run: int, most: int, value: float) -> None:
        """Pass on."""
        self.view.again(experiment_id, run, most, value)

    def phase(self, experiment_id: int, role: Role, deadline_s: float) -> None:
        """Pass on."""
        self.view.phase(experiment_id, role, deadline_s)

    def line(self, experiment_id: int, role: Role, text: str) -> None:
        """Pass on."""
        self.view.line(experiment_id, role, text)

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """Pass on, and tell what the user wants to hear of."""
        self.view.finished(experiment, best, spent)
        facts = {"experiment": _facts(experiment), "best": _facts(best), "spent": asdict(spent), "folder": self.folder}
        if experiment.status is Status.KEEP:
            self.since_improvement = 0
            self.notifier.tell("best", **facts)
            return
        self.since_improvement += experiment.status not in QUEUED_AGAIN
        if experiment.needs_review:
            self.notifier.tell("cheat", **facts)
        if self.stagnation_after and self.since_improvement and self.since_improvement % self.stagnation_after == 0:
            self.notifier.tell("stagnation", since_improvement=self.since_improvement, **facts)


@contextmanager
def notifying(settings: Notify, journal: Journal, view: View) -> Iterator[tuple[View, Notifier]]:
    """A view that notifies, and the one to tell why the session ended; an error is told by itself."""
    notifier = Notifier(settings=settings, run=journal.folder.name)
    best = journal.best()
    since = 0
    if best is not None:
        queued = [status.value for status in QUEUED_AGAIN]
        since = journal.count("id > ? AND status NOT IN (?, ?)", best.id, *queued)
    try:
        yield (
            NotifyingView(
                view=view,
                notifier=notifier,
                folder=str(journal.folder),
                stagnation_after=settings.stagnation_after,
                since_improvement=since,
            ),
            notifier,
        )
    except AutoresearchError as error:
        notifier.end(str(error), journal, failed=True)
        raise
    finally:
        notifier.close()


def _facts(experiment: Experiment | None) -> dict[str, Any] | None:
    if experiment is None:
        return None
    return {
        "id": experiment.id,
        "status": experiment.status.value,
        "val_bpb": experiment.value,
        "hypothesis": experiment.hypothesis,
        "reason": experiment.reason,
        "commit": experiment.commit,
    }
