"""Notify the user: run their command, with JSON on its standard input, for a new best, stagnation, a cheat, or the end.

It runs next to the loop, in bounded time; whatever it does, the loop continues.
"""

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Self

from orchestrator.events import Event, ExperimentFinished, SessionEnded, SessionFailed
from orchestrator.logger import log
from orchestrator.look.conditions import describe_usual
from orchestrator.record.claims import (
    describe_claim,
    describe_elsewhere,
    find_doubtful,
    find_refuted,
    smallest_gain,
)
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.settings import Notify
from orchestrator.types import Experiment, Status

SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


@dataclass(slots=True, kw_only=True)
class Notifier:
    """Starts the command for each occasion that is asked for.

    A context manager: it notifies of the end of the session at its exit, after which no command runs.
    """

    settings: Notify
    journal: Journal
    _end: dict[str, object] | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._start("end", self._end)
        for thread in self._threads:
            thread.join(self.settings.timeout_s + 1.0)

    def handle(self, recorded: Recorded[Event]) -> None:
        """Notify of an event that the user wants to know of; never raises for what the command does."""
        match recorded.event:
            case ExperimentFinished(experiment=experiment):
                self._handle_finished(experiment)
            case SessionEnded(reason=reason):
                self._end = self._facts() | {"reason": reason, "failed": False}
            case SessionFailed(reason=reason):  # also after a SessionEnded: too many failures of the sandbox
                self._end = self._facts() | {"reason": reason, "failed": True}

    def _handle_finished(self, experiment: Experiment) -> None:
        facts = self._facts() | {"experiment": self._describe(experiment)}
        if experiment.status is Status.KEEP:
            self._start("best", facts)
            return
        if experiment.needs_review:
            self._start("cheat", facts)
        parent, every = self.journal.parent(), self.settings.stagnation_after
        is_idea = experiment.is_judged and experiment.remeasures_id is None
        if parent is not None and every and is_idea:
            since = self.journal.since_improvement(parent.id)
            if since and since % every == 0:
                self._start("stagnation", facts | {"since_improvement": since})

    def _facts(self) -> dict[str, object]:
        champion, folder = self.journal.champion(), self.journal.folder
        return {
            "run": folder.name,
            "folder": str(folder),
            "metric": self.journal.metric_facts(),
            "best": self._describe(champion.experiment) | champion.facts(self.journal.metric()) if champion else None,
            "spent": asdict(self.journal.spent()),
            "conditions": describe_usual(self.journal),
            "claim": describe_claim(self.journal),
            "in_doubt": find_doubtful(self.journal),
            "refuted": find_refuted(self.journal),
            "smallest_gain": smallest_gain(self.journal),
            "elsewhere": describe_elsewhere(self.journal),
        }

    def _start(self, occasion: str, facts: dict[str, object]) -> None:
        """Start the command, if there is one for this occasion."""
        if not self.settings.command or occasion not in self.settings.on:
            return
        text = json.dumps({"event": occasion, **facts})
        thread = threading.Thread(target=self._call, args=(occasion, text), daemon=True, name=f"notify {occasion}")
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def _describe(self, experiment: Experiment) -> dict[str, object]:
        return {
            "id": experiment.id,
            "status": experiment.status.value,
            self.journal.metric(): experiment.value,
            "hypothesis": experiment.hypothesis,
            "reason": experiment.reason,
            "commit": experiment.commit,
            "host": experiment.host,
            "hardware": experiment.hardware,
        }

    def _call(self, occasion: str, text: str) -> None:
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
                log.warning("notify.failed", occasion=occasion, exit_code=process.returncode)
        except (OSError, ValueError) as error:
            log.warning("notify.failed", occasion=occasion, error=str(error))
