"""A view that also builds the report after every experiment."""

from dataclasses import dataclass

import structlog

from orchestrator.look.report import Report
from orchestrator.protocols import View
from orchestrator.types import Candidate, Experiment, Role, Spent

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reporting:
    """Shows what the other view shows. Whatever is wrong with a report, the loop goes on."""

    shown: View
    report: Report

    def waiting(self, reason: str) -> None:
        """Pass it on."""
        self.shown.waiting(reason)

    def begun(self, experiment_id: int, candidate: Candidate) -> None:
        """Pass it on."""
        self.shown.begun(experiment_id, candidate)

    def again(self, experiment_id: int, run: int, most: int, value: float) -> None:
        """Pass it on."""
        self.shown.again(experiment_id, run, most, value)

    def phase(self, experiment_id: int, role: Role, deadline_s: float) -> None:
        """Pass it on."""
        self.shown.phase(experiment_id, role, deadline_s)

    def line(self, experiment_id: int, role: Role, text: str) -> None:
        """Pass it on."""
        self.shown.line(experiment_id, role, text)

    def finished(self, experiment: Experiment, best: Experiment | None, spent: Spent) -> None:
        """Pass it on, then build the page: between two experiments, when nothing is timed."""
        self.shown.finished(experiment, best, spent)
        try:
            self.report.build(live=True)
        except Exception as error:  # noqa: BLE001  # a night's work is not lost to a picture of it
            log.warning("report.failed", error=str(error))
