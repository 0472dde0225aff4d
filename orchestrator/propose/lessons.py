"""What the runs of a task taught, in one file that every prompt shows: kept changes, near misses, failures by kind.

`runs/lessons.md` is written again after each session and now and then within one, by rules, from the records of all
runs of the task. What a person writes into it stays: text above the generated part, and the generated part too once it
was edited; what it was made from is then not generated again. Whatever it contains is shown to the LLM as data.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orchestrator import files
from orchestrator.errors import AutoresearchError
from orchestrator.events import Event, ExperimentFinished, SessionStarted
from orchestrator.propose import prompt_text
from orchestrator.propose.history import FAILED, select_history, subtract_parent
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.types import Experiment

log = structlog.get_logger()

NAME = "lessons.md"
EVERY = 25  # experiments, within a session
RUNS = 20  # the newest ones are read
KEPT, NEAR_MISSES, DIFFS, FAILURES = 15, 8, 3, 3  # FAILURES: of each kind
LINE_CHARS, DIFF_CHARS = 200, 600
SHOWN_CHARS = 16_000  # of the file are shown in a prompt
MAX_BYTES = 1 << 20  # a larger file is not read
ABOVE = (
    "# Lessons\n\nShown in every prompt, as data. Write above the next line what you want to keep; instructions belong"
    " into program.md.\n"
)
_MARK = re.compile(r"^<!-- autoresearch (generated|edited) (\{.*\}) -->$", re.MULTILINE)
DIFF_HEADERS = ("--- ", "+++ ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a line of ours says of the part below it."""

    sha256: str = ""  # of the part, as it was generated
    covers: Mapping[str, int] = field(default_factory=dict)  # by run, the newest experiment that it rests on


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLessons:
    """What one run taught."""

    tag: str
    metric: str
    newest: int  # experiment that it rests on
    kept: tuple[Experiment, ...] = ()  # oldest first, without the baseline
    near_misses: tuple[Experiment, ...] = ()  # smallest loss first
    failures: tuple[Experiment, ...] = ()  # newest first
    parents: Mapping[int, Experiment] = field(default_factory=dict)

    def after(self, experiment_id: int) -> "RunLessons":
        """Return what experiments after this one taught."""

        def newer(experiments: Iterable[Experiment]) -> tuple[Experiment, ...]:
            return tuple(e for e in experiments if e.id > experiment_id)

        return RunLessons(
            tag=self.tag, metric=self.metric, newest=self.newest, kept=newer(self.kept),
            near_misses=newer(self.near_misses), failures=newer(self.failures), parents=self.parents,
        )  # fmt: skip

    def difference(self, e: Experiment) -> float | None:
        """Return a score minus its parent's; None where one is missing, or they were scored under other conditions."""
        parent = self.parents.get(e.parent_id) if e.parent_id is not None else None
        return subtract_parent(e, self.parents) if parent and parent.conditions == e.conditions else None


# ---- the text; pure


def update_text(before: str, runs: Iterable[RunLessons]) -> str:
    """Return the file with its generated part made anew from these runs; what a person wrote stays."""
    text = before if before.strip() else ABOVE
    marks = list(_MARK.finditer(text))
    if marks and marks[-1][1] == "generated":
        body, facts = text[marks[-1].end() + 1 :], _read_mark(marks[-1])
        if facts.sha256 == _sha256(body):
            text = text[: marks[-1].start()]
        else:  # a person's, from now on
            text = f"{text[: marks[-1].start()]}{_mark('edited', {'covers': dict(facts.covers)})}\n{body}"
    covered: dict[str, int] = {}
    for mark in _MARK.finditer(text):
        for tag, newest in _read_mark(mark).covers.items():
            covered[tag] = max(covered.get(tag, -1), newest)
    new = [run.after(covered.get(run.tag, -1)) for run in runs]
    body = "\n".join(_render(new))
    body += "\n" if body else ""
    covers = {run.tag: run.newest for run in new}
    return f"{text.rstrip()}\n\n{_mark('generated', {'covers': covers, 'sha256': _sha256(body)})}\n{body}"


def shown_text(text: str) -> str:
    """Return what a prompt shows of the file, without the program's own lines; its beginning where it is too long."""
    plain = _MARK.sub("", text).replace(ABOVE, "").strip()
    left_out = len(plain) - SHOWN_CHARS
    return plain if left_out <= 0 else f"{plain[:SHOWN_CHARS]}\n[{left_out} characters more]"


def _render(runs: list[RunLessons]) -> Iterator[str]:
    kept = [(run.difference(e), run, e) for run in runs for e in run.kept]
    kept.sort(key=lambda one: one[0] if one[0] is not None else 0.0)
    near = [(loss, run, e) for run in runs for e in run.near_misses if (loss := run.difference(e)) is not None]
    near.sort(key=lambda one: one[0])
    if kept:
        yield "## Kept, the largest gain over its parent first\n"
        yield from _list(kept[:KEPT])
    if near:
        yield f"{chr(10) if kept else ''}## Near misses: discarded, the smallest loss against its parent first\n"
        yield from _list(near[:NEAR_MISSES])
    failures = [(run, e) for run in runs for e in run.failures]
    kinds = Counter(e.status for _, e in failures)
    if kinds:
        yield f"{chr(10) if kept or near else ''}## Failures by kind\n"
    for status in FAILED:
        ended = [(run, e) for run, e in failures if e.status is status]
        if ended:
            yield f"- {status.value}, {len(ended)} of the newest failures"
        for run, e in ended[:FAILURES]:
            first = next((text for text in e.message.splitlines() if text.strip()), e.reason)
            yield f"  - {run.tag}/{e.id}: {_flat(e.hypothesis)} ({_flat(first)})"


def _list(ranked: Iterable[tuple[float | None, RunLessons, Experiment]]) -> Iterator[str]:
    """Yield a line for each, and what the first ones changed."""
    for number, one in enumerate(ranked):
        yield _line(*one)
        yield from _diff(one[2]) if number < DIFFS else ()


def _line(difference: float | None, run: RunLessons, e: Experiment) -> str:
    change = "" if difference is None else f"{difference:+.4f} against its parent, "
    score = "" if e.value is None else f"{run.metric} {e.value:.4f}{e.trust_suffix}"
    where = ", ".join(
        filter(None, (_flat(e.hardware), f"{budget} s" if (budget := e.settings.get("time_budget_s")) else ""))
    )
    return f"- {run.tag}/{e.id}: {change}{score}{f' ({where})' if where else ''}: {_flat(e.hypothesis)}"


def _diff(e: Experiment) -> Iterator[str]:
    """Yield what an experiment changed, bounded and indented, so that it is a block of code."""
    try:
        with (e.folder / "patch.diff").open(encoding="utf-8", errors="replace") as file:
            text = file.read(4 * DIFF_CHARS)
    except OSError:
        return
    changed = "\n".join(line for line in text.splitlines() if not line.startswith(DIFF_HEADERS))
    if changed:
        yield ""
        yield from (f"      {line}" for line in prompt_text.head_and_tail(changed, DIFF_CHARS).splitlines())
        yield ""


def _flat(text: str) -> str:
    """Return what a model or a program wrote as a part of one line, which begins and ends no comment."""
    return prompt_text.line(text, LINE_CHARS).replace("<!--", "<! --").replace("-->", "-- >")


def _mark(kind: str, facts: Mapping[str, object]) -> str:
    return f"<!-- autoresearch {kind} {json.dumps(facts, sort_keys=True)} -->"


def _read_mark(mark: re.Match[str]) -> Mark:
    """Return what a mark says; nothing where somebody has damaged it."""
    try:
        facts = json.loads(mark[2])
        covers = {str(tag): int(newest) for tag, newest in dict(facts.get("covers") or {}).items()}
        return Mark(sha256=str(facts.get("sha256", "")), covers=covers)
    except (ValueError, TypeError, AttributeError):
        return Mark()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.strip().encode("utf-8", "replace")).hexdigest()


# ---- the file


def read_lessons(path: Path) -> str:
    """Return what a prompt shows of the file; "" where there is none that can be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            log.warning("lessons.not_shown", path=str(path), reason=f"more than {MAX_BYTES} bytes; shorten it")
            return ""
        return shown_text(files.read_text(path))
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        log.warning("lessons.not_shown", path=str(path), reason=str(error))
        return ""


def load_run(folder: Path, task: str) -> RunLessons | None:
    """Return what a run of this task taught; None for another task, and for a run without experiments."""
    with Journal.read(folder) as journal:
        started, champion = journal.last_event(SessionStarted), journal.champion()
        if started is None or started.event.task != task or champion is None:
            return None
        memory = select_history(journal, champion)
        return RunLessons(
            tag=folder.name,
            metric=journal.metric(),
            newest=max((e.id for e in journal.newest(1)), default=0),
            kept=tuple(e for e in memory.kept if e.parent_id is not None),
            near_misses=memory.near_misses,
            failures=memory.failures,
            parents=memory.parents,
        )


def write_lessons(runs: Path, task: str) -> Path:
    """Bring `lessons.md` in the folder of all runs up to date. Raises RecordFailed, OSError or UnicodeDecodeError."""
    path, found = runs / NAME, []
    records = sorted(runs.glob("*/record.jsonl"), key=lambda record: -record.stat().st_mtime)
    for record in records[:RUNS]:
        try:
            run = load_run(record.parent, task)
        except AutoresearchError as error:  # one damaged record does not hide the others
            log.warning("lessons.run_left_out", run=record.parent.name, reason=str(error))
            continue
        found += [run] if run else []
    before = files.read_text(path) if path.exists() else ""
    if found or before:
        files.write(path, update_text(before, found))
    return path


@dataclass(slots=True, kw_only=True)
class LessonsWriter:
    """Writes the lessons now and then within a session; a failure is logged, and the loop continues."""

    runs: Path
    task: str
    _finished: int = 0

    def handle(self, recorded: Recorded[Event]) -> None:
        """Write after so many experiments."""
        if isinstance(recorded.event, ExperimentFinished):
            self._finished += 1
            if self._finished % EVERY == 0:
                self.write()

    def write(self) -> None:
        """Write now."""
        try:
            write_lessons(self.runs, self.task)
        except (AutoresearchError, OSError, UnicodeDecodeError) as error:
            log.warning("lessons.not_written", path=str(self.runs / NAME), reason=str(error))
