"""Brings the lessons up to date: every so many experiments beside the loop, and after the session.

An LLM is asked where one proposes, in a thread of its own: only the end of a session waits for it, when the
device is given back, and for minutes at most. Where it cannot be asked, refuses or answers without lessons, the lessons
are those of the rules, and a note says so once.
"""

import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator.errors import AutoresearchError
from orchestrator.events import Event, ExperimentFinished, LessonsDistilled, LoopWaiting, SessionEnded
from orchestrator.logger import log
from orchestrator.propose import lessons
from orchestrator.propose.distil import LESSONS, Distiller, build_prompt, read_lessons
from orchestrator.propose.lessons import Distilled, RunLessons
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.types import Experiment, Reply

EVERY = 25  # judged ideas
LONGEST_S = 600.0  # that the end of a session waits for the LLM
INTERRUPTED_S = 5.0  # that it waits after an interrupt


@dataclass(slots=True, kw_only=True)
class LessonsWriter:
    """Writes the lessons of one session's task; a failure is logged, and the loop continues."""

    runs: Path
    task: str
    journal: Journal | None = None
    distiller: Distiller | None = None  # None: by rules alone
    instructions: Path | None = None
    score: str = "lower is better"
    file_name: str = "train.py"
    every: int = EVERY
    longest_s: float = LONGEST_S
    _new: int = 0  # judged ideas since the lessons were last brought up to date
    _at_limit: bool = False  # the session ended as it should
    _useless: bool = False  # the LLM was asked, and its answer was none
    _told: bool = False  # why the lessons are by rules alone
    _thread: threading.Thread | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def start(self) -> None:
        """Count what earlier sessions of the run have left undone."""
        if self.journal is not None and self.distiller is not None:
            last = self.journal.last_event(LessonsDistilled)
            known = last.event.newest if last else 0
            self._new = sum(_is_idea(e) for e in self.journal.newest(self.every - 1) if e.id > known)

    def handle(self, recorded: Recorded[Event]) -> None:
        """Bring them up to date after so many experiments, in a thread."""
        match recorded.event:
            case ExperimentFinished(experiment=e) if _is_idea(e):
                self._new += 1
                if self._new >= self.every and not self._is_busy:
                    self._begin()
            case SessionEnded(limit_reached=at_limit):
                self._at_limit = at_limit

    def close(self) -> None:
        """Bring them up to date at the end of a session; an interrupt ends the wait for the LLM."""
        try:
            if not self._at_limit:
                self._join(INTERRUPTED_S)
            elif self.distiller is not None and (self._is_busy or (self._new and not self._useless)):
                self._wait_for_llm()
        except KeyboardInterrupt:
            log.warning("lessons.by_rules", reason="interrupted")
        self.write()

    def write(self) -> None:
        """Write the file from the records, now."""
        try:
            with self._guard:
                lessons.write_lessons(self.runs, self.task)
        except (AutoresearchError, OSError) as error:
            log.warning("lessons.not_written", reason=str(error))

    @property
    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self) -> None:
        self._new = 0
        self._thread = threading.Thread(target=self._update, name="lessons", daemon=True)
        self._thread.start()

    def _wait_for_llm(self) -> None:
        """Wait for an answer that is on its way, and ask for what came since."""
        if self.journal is not None:
            self.journal.append(LoopWaiting(reason="the LLM distils the lessons of the run; Ctrl-C skips that"))
        self._join(self.longest_s)
        if self._new and not self._is_busy:
            self._begin()
            self._join(self.longest_s)

    def _join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                log.warning("lessons.by_rules", reason=f"no answer within {seconds:g} s")

    def _update(self) -> None:
        """Ask the LLM, if there is one and it answers, and write the file in any case."""
        try:
            if self.distiller is not None and self.journal is not None and not self._useless:
                self._distil(self.distiller, self.journal)
        except Exception as error:  # noqa: BLE001 - a thread beside the loop, which goes on without lessons
            log.warning("lessons.by_rules", reason=str(error))
        self.write()

    def _distil(self, distiller: Distiller, journal: Journal) -> None:
        """Ask the LLM and record what it answered, or why there is no answer."""
        found = lessons.load_runs(self.runs, self.task)
        written, covered = lessons.split_text(lessons.read_file(self.runs))
        runs = [new for run in found if (new := run.after(covered.get(run.tag, -1))).experiments]
        runs.sort(key=lambda run: run.tag != journal.folder.name)  # this run's first
        if not runs:
            return
        event = self._ask(distiller, runs, lessons.newest_distilled(found, covered), written)
        journal.append(event)
        if event.reason and not self._told:
            self._told = True
            journal.note(f"lessons.md is by rules alone: {event.reason}; [recording] llm_lessons = false asks no LLM")

    def _ask(
        self, distiller: Distiller, runs: list[RunLessons], earlier: Distilled | None, written: str
    ) -> LessonsDistilled:
        newest, reply = runs[0].newest, Reply(proposer=distiller.name)
        build = partial(
            build_prompt, runs=runs, earlier=earlier, written=lessons.shown_text(written), score=self.score,
            instructions=self._read_instructions(), file_name=self.file_name,
        )  # fmt: skip
        try:
            reply = distiller.ask_for(LESSONS, build, beside_loop=not self._at_limit)
            found = read_lessons(distiller.read_as(LESSONS, reply), runs, earlier)
        except AutoresearchError as error:
            self._useless = bool(reply.text)
            return LessonsDistilled(reply=reply, newest=newest, reason=str(error).partition(";")[0])
        return LessonsDistilled(reply=reply, newest=newest, lessons=found)

    def _read_instructions(self) -> str:
        try:
            return self.instructions.read_text(encoding="utf-8") if self.instructions else ""
        except (OSError, UnicodeDecodeError):
            return ""


def _is_idea(e: Experiment) -> bool:
    return e.is_judged and e.parent_id is not None and e.remeasures_id is None
