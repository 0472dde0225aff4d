"""Build the report of a run: one HTML file, for its owner alone, that needs neither a server nor a network."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import files
from orchestrator.events import Event, ExperimentCommitted, ExperimentFinished
from orchestrator.logger import log
from orchestrator.look.details import FactTable, byte_limits, detail_block
from orchestrator.look.history import HistoryEntry, load_history
from orchestrator.look.page import render_report
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.types import Status

NAME = "report.html"
POLL_S = 2.0


@dataclass(slots=True)
class Report:
    """Builds the page of one run, as often as it is asked to; the details of an experiment are read once."""

    folder: Path
    read: Callable[[Path], Journal] = Journal.read
    _details: dict[int, tuple[HistoryEntry, str]] = field(default_factory=dict)
    _shared: FactTable = field(default_factory=FactTable)
    _size: int = 0
    _head: str = ""

    def build(self, *, live: bool = False) -> Path:
        """Write runs/<tag>/report.html; a live one reloads itself. Raises JournalError or RecordFailed."""
        with self.read(self.folder) as journal:
            history = load_history(journal)
            self._head = history.head
            size = round_up(len(history.entries))
            if size != self._size:
                self._details, self._size = {}, size
            limits = byte_limits(size)
            for entry in history.entries:
                number = entry.experiment.id
                if self._details.get(number, (None, ""))[0] != entry:  # a verdict may have been revised
                    block = detail_block(journal, entry, limits, self._shared, history.metric)
                    self._details[number] = entry, block
        path = self.folder / NAME
        details = {number: block for number, (_, block) in self._details.items()}
        files.write(path, render_report(history, details, self._shared.block(), live=live))
        return path

    def handle(self, recorded: Recorded[Event]) -> None:
        """Build a live page after each experiment; a failure is logged, and the loop continues."""
        match recorded.event:
            case ExperimentFinished(experiment=e) if e.status is Status.KEEP:
                return  # its commit follows
            case ExperimentFinished() | ExperimentCommitted():
                try:
                    self.build(live=True)
                except Exception as error:  # noqa: BLE001  # a picture of a run must not end it
                    log.warning("report.failed", error=str(error))

    def wait(self) -> None:
        """Block until the record has grown since the page was built."""
        with self.read(self.folder) as journal:
            while journal.head() == self._head:
                time.sleep(POLL_S)
                journal.refresh()


def round_up(experiments: int) -> int:
    """Return the number of experiments to plan for: a power of two, so that few builds of a growing run read it all."""
    return 1 << max(5, (experiments - 1).bit_length())
