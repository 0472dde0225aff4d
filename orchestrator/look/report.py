"""The report of a run: one HTML file, for its owner alone, that needs neither a server nor a network."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import files
from orchestrator.look.details import FactTable, bounds, detail
from orchestrator.look.history import gather
from orchestrator.look.page import render
from orchestrator.record.journal import Journal

NAME = "report.html"
POLL_S = 2.0


@dataclass(slots=True)
class Report:
    """Builds the page of one run, again and again; what is finished is read once."""

    folder: Path
    read: Callable[[Path], Journal] = Journal.read
    _details: dict[int, str] = field(default_factory=dict)
    _shared: FactTable = field(default_factory=FactTable)
    _size: int = 0
    _head: str = ""

    def build(self, *, live: bool = False) -> Path:
        """Write runs/<tag>/report.html; a live one loads itself anew. Raises JournalError or RecordFailed."""
        with self.read(self.folder) as journal:
            night = gather(journal)
            self._head = night.head
            size = bounds_for(len(night.turns))
            if size != self._size:
                self._details, self._size = {}, size
            for turn in night.turns:
                number = turn.experiment.id
                if number not in self._details:
                    self._details[number] = detail(journal, turn, bounds(size), self._shared, night.metric)
        path = self.folder / NAME
        files.write(path, render(night, self._details, self._shared.block(), live=live))
        return path

    def wait(self) -> None:
        """Block until the record has grown since the page was built."""
        with Journal.read(self.folder) as journal:
            while journal.head() == self._head:
                time.sleep(POLL_S)


def bounds_for(experiments: int) -> int:
    """The number of experiments to plan for: a power of two, so that a growing run is not read anew each time."""
    return 1 << max(5, (experiments - 1).bit_length())
