"""What the runs of a task taught, in one file that every prompt shows: what an LLM concluded, and the outcomes.

`runs/lessons.md` is written again after each session and now and then within one, from the records of all runs of the
task: the newest lessons that an LLM distilled (distil.py), then kept changes, near misses and failures by kind, by
rules. What a person writes into it stays: text above the generated part, and the generated part too once it was edited;
what it was made from is then not generated again. Whatever it contains is shown to the LLM as data.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import files
from orchestrator.errors import AutoresearchError, ConfigError
from orchestrator.events import LessonsDistilled, SessionStarted
from orchestrator.logger import log
from orchestrator.propose import prompt_text
from orchestrator.propose.history import FAILED, difference_error, select_history, subtract_parent
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, Lesson

NAME = "lessons.md"
RUNS = 20  # the newest ones are read
KEPT, NEAR_MISSES, DIFFS, FAILURES = 15, 8, 3, 3  # FAILURES: of each kind
LINE_CHARS, DIFF_CHARS, LESSON_CHARS = 200, 600, 300
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
class Distilled:
    """What an LLM concluded from the runs that it was shown."""

    at: str  # ISO 8601
    model: str
    lessons: tuple[Lesson, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLessons:
    """What one run taught."""

    tag: str
    metric: str
    newest: int  # experiment that it rests on
    kept: tuple[Experiment, ...] = ()  # oldest first, without the baseline
    near_misses: tuple[Experiment, ...] = ()  # smallest loss first
    failures: tuple[Experiment, ...] = ()  # newest first
    recent: tuple[Experiment, ...] = ()  # oldest first
    parents: Mapping[int, Experiment] = field(default_factory=dict)
    trial_std: float | None = None  # of repeated trials of one file
    distilled: Distilled | None = None  # the newest of this run

    def after(self, experiment_id: int) -> "RunLessons":
        """Return what experiments after this one taught."""

        def newer(experiments: Iterable[Experiment]) -> tuple[Experiment, ...]:
            return tuple(e for e in experiments if e.id > experiment_id)

        return replace(
            self, kept=newer(self.kept), near_misses=newer(self.near_misses), failures=newer(self.failures),
            recent=newer(self.recent),
        )  # fmt: skip

    @property
    def experiments(self) -> list[Experiment]:
        """Every experiment that is shown, once, oldest first."""
        found = {e.id: e for e in (*self.kept, *self.near_misses, *self.failures, *self.recent)}
        return [found[number] for number in sorted(found)]

    def difference(self, e: Experiment) -> float | None:
        """Return a score minus its parent's; None where one is missing, or they were scored under other conditions."""
        parent = self.parents.get(e.parent_id) if e.parent_id is not None else None
        return subtract_parent(e, self.parents) if parent and parent.conditions == e.conditions else None

    def error(self, e: Experiment) -> float | None:
        """Return the standard error of the difference to its parent, None where the noise is unknown."""
        return difference_error(e, self.parents, self.trial_std)


# ---- the text; pure


def update_text(before: str, runs: Iterable[RunLessons]) -> str:
    """Return the file with its generated part made anew from these runs; what a person wrote stays."""
    found = tuple(runs)
    text, covered = split_text(before)
    new = [run.after(covered.get(run.tag, -1)) for run in found]
    body = "\n".join(_render(new, newest_distilled(found, covered)))
    body += "\n" if body else ""
    covers = {run.tag: run.newest for run in new}
    return f"{text.rstrip()}\n\n{_mark('generated', {'covers': covers, 'sha256': _sha256(body)})}\n{body}"


def split_text(before: str) -> tuple[str, dict[str, int]]:
    """Return what a person wrote or edited, and by run the newest experiment that the edited parts rest on."""
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
    return text, covered


def newest_distilled(runs: Iterable[RunLessons], covered: Mapping[str, int]) -> Distilled | None:
    """Return what an LLM distilled last, without what rests on nothing newer than the parts that a person edited."""
    last = max((run.distilled for run in runs if run.distilled), key=lambda one: one.at, default=None)
    if last is None:
        return None

    def is_new(name: str) -> bool:
        tag, _, number = name.rpartition("/")
        return int(number) > covered.get(tag, -1)

    lessons = tuple(lesson for lesson in last.lessons if any(map(is_new, lesson.experiments)))
    return replace(last, lessons=lessons) if lessons else None


def shown_text(text: str) -> str:
    """Return what a prompt shows of the file, without the program's own lines; its beginning where it is too long."""
    plain = _without_marks(text)
    left_out = len(plain) - SHOWN_CHARS
    return plain if left_out <= 0 else f"{plain[:SHOWN_CHARS]}\n[{left_out} characters more]"


def _without_marks(text: str) -> str:
    return _MARK.sub("", text).replace(ABOVE, "").strip()


def _render(runs: list[RunLessons], distilled: Distilled | None) -> Iterator[str]:
    kept = [(run.difference(e), run, e) for run in runs for e in run.kept]
    kept.sort(key=lambda one: one[2].sign * one[0] if one[0] is not None else 0.0)
    near = [(loss, run, e) for run in runs for e in run.near_misses if (loss := run.difference(e)) is not None]
    near.sort(key=lambda one: one[2].sign * one[0])
    if distilled:
        yield f"## Lessons, distilled by {_flat(distilled.model)} from the experiments named\n"
        yield from (f"- {_flat(one.text, LESSON_CHARS)} ({', '.join(one.experiments)})" for one in distilled.lessons)
    if kept:
        yield f"{chr(10) if distilled else ''}## Kept, the largest gain over its parent first\n"
        yield from _list(kept[:KEPT])
    if near:
        before = chr(10) if kept or distilled else ""
        yield f"{before}## Near misses: discarded, the closest to its parent first\n"
        yield from _list(near[:NEAR_MISSES])
    failures = [(run, e) for run in runs for e in run.failures]
    kinds = Counter(e.status for _, e in failures)
    if kinds:
        yield f"{chr(10) if kept or near or distilled else ''}## Failures by kind\n"
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
    error = run.error(e)
    change = "" if difference is None else f"{difference:+.4f}{f' ± {error:.2g}' if error else ''} against its parent, "
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


def _flat(text: str, limit: int = LINE_CHARS) -> str:
    """Return what a model or a program wrote as a part of one line, which begins and ends no comment."""
    return prompt_text.line(text, limit).replace("<!--", "<! --").replace("-->", "-- >")


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
        return shown_text(read_file(path.parent))
    except ConfigError as error:
        log.warning("lessons.not_shown", reason=str(error))
        return ""


def read_file(runs: Path) -> str:
    """Return the file as it is, "" where there is none. Raises ConfigError where it cannot be used."""
    path = runs / NAME
    until_then = "until then it is neither shown nor added to"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: has more than {MAX_BYTES:,} bytes; shorten it: {until_then}")
        return files.read_text(path)
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); fix or delete it: {until_then}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; fix or delete it: {until_then}") from error


def find_problem(runs: Path) -> str:
    """Return in one line what keeps the file, or a part of it, from being shown, with the mend; "" for nothing."""
    try:
        left_out = len(_without_marks(read_file(runs))) - SHOWN_CHARS
    except ConfigError as error:
        return str(error)
    if left_out <= 0:
        return ""
    return (
        f"{runs / NAME}: prompts show its first {SHOWN_CHARS:,} characters, and not the other {left_out:,}; shorten it"
    )


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
            recent=memory.recent,
            parents=memory.parents,
            trial_std=journal.history().trial_std(champion.conditions),
            distilled=_last_distilled(journal),
        )


def _last_distilled(journal: Journal) -> Distilled | None:
    for recorded in reversed(journal.events(LessonsDistilled)):
        if lessons := recorded.event.lessons:
            return Distilled(at=recorded.at, model=recorded.event.reply.model, lessons=lessons)
    return None


def load_runs(runs: Path, task: str) -> list[RunLessons]:
    """Return what the newest runs of a task taught, the newest first; a damaged record is left out, and logged."""
    found = list[RunLessons]()
    for record in sorted(runs.glob("*/record.jsonl"), key=lambda record: -record.stat().st_mtime)[:RUNS]:
        try:
            run = load_run(record.parent, task)
        except AutoresearchError as error:  # one damaged record does not hide the others
            log.warning("lessons.run_left_out", run=record.parent.name, reason=str(error))
            continue
        found += [run] if run else []
    return found


def write_lessons(runs: Path, task: str) -> Path:
    """Bring `lessons.md` in the folder of all runs up to date. Raises RecordFailed or ConfigError."""
    found, before = load_runs(runs, task), read_file(runs)
    if found or before:
        files.write(runs / NAME, update_text(before, found))
    return runs / NAME
