"""One experiment as a block of data in the page; the page's script shows it, as text, on request."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.errors import JournalError
from orchestrator.events import ExperimentBegun, ExperimentFinished
from orchestrator.look.conditions import describe_load
from orchestrator.look.containers import FIRST_TRIAL, Container, Fact, describe_containers
from orchestrator.look.history import HistoryEntry, describe_environment
from orchestrator.record.experiment_files import ByteLimit, Excerpt, ExperimentFolder
from orchestrator.record.journal import Journal
from orchestrator.scoring.self_reported import describe_figures
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Role
from orchestrator.units import MIB

TOTAL_BYTES = 16_000_000  # of all details: a page opens in a second or two
LEAST, MOST = 6_000, 60_000  # bytes of one experiment's texts
SHARES = {"diff": 0.35, Role.TRAINER.value: 0.25, "other": 0.05, "prompt": 0.1, "reply": 0.1}
HEAD = 0.4  # of a log; errors are at the end
HEADS = {"diff": 1.0, "prompt": 0.5, "reply": 1.0}
MINUS = "\N{MINUS SIGN}"
MAX_FILES = 64


def byte_limits(experiments: int) -> dict[str, ByteLimit]:
    """Return how much of each text is shown: less of each where there are many."""
    each = max(LEAST, min(MOST, TOTAL_BYTES // max(1, experiments)))
    limits = {}
    for name, share in SHARES.items():
        head = HEADS.get(name, HEAD)
        limits[name] = ByteLimit(head=int(each * share * head), tail=int(each * share * (1 - head)))
    return limits


@dataclass(slots=True)
class FactTable:
    """Facts that most containers have in common: in the page once, and referred to by number."""

    facts: list[Fact] = field(default_factory=list)
    _numbers: dict[Fact, int] = field(default_factory=dict)

    def number(self, fact: Fact) -> int:
        """Return where it is in the list, added if it is new."""
        if fact not in self._numbers:
            self._numbers[fact] = len(self.facts)
            self.facts.append(fact)
        return self._numbers[fact]

    def block(self) -> str:
        """Return all of them as JSON, for the page's script."""
        return json_block(
            [[fact.name, ", ".join(filter(None, (fact.value, fact.used))), fact.good] for fact in self.facts]
        )


def detail_block(
    journal: Journal, entry: HistoryEntry, limits: dict[str, ByteLimit], shared: FactTable, metric: str
) -> str:
    """Return everything about an experiment as JSON, without a `<` that could end the block it is put into."""
    experiment, problems = entry.experiment, list[str]()
    begun: ExperimentBegun | None = None
    finished: ExperimentFinished | None = None
    try:
        begun, finished = journal.begun(experiment.id), journal.finished(experiment.id)
    except JournalError as error:
        problems.append(str(error))
    texts: dict[str, Any] = {}
    try:
        with ExperimentFolder.open(experiment.folder) as folder:
            texts = _texts(folder, finished, limits, shared)
    except OSError as error:
        problems.append(f"the folder of this experiment cannot be read: {error.strerror}")
    value = {
        "id": experiment.id,
        "hypothesis": sanitise(experiment.hypothesis, 4000),
        "expected": sanitise(experiment.expected_effect, 2000),
        "reason": sanitise(experiment.reason, 4000),
        "message": sanitise(experiment.message, 4000) if experiment.message != experiment.reason else "",
        "parent": experiment.parent_id,
        "figures": [[name, sanitise(text, 300)] for name, text in _figures(entry, metric)],
        "facts": [[name, sanitise(text, 300)] for name, text in _facts(experiment, begun, finished)],
        "files": [[sanitise(name), sha256[:64]] for name, sha256 in finished.files.items()][:MAX_FILES]
        if finished
        else [],
        "problems": [sanitise(problem, 500) for problem in problems],
        **texts,
    }
    return json_block(value)


def json_block(value: object) -> str:
    """Return JSON that may be the content of a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _texts(
    folder: ExperimentFolder, finished: ExperimentFinished | None, limits: dict[str, ByteLimit], shared: FactTable
) -> dict[str, Any]:
    """Return the texts of the folder, bounded."""
    containers = describe_containers(folder, finished.executions if finished else (), limits)
    texts = [(name, folder.text(f"{name}.txt", limits[name])) for name in ("prompt", "reply")]
    trials = dict.fromkeys(container.trial for container in containers)
    return {
        "verdict": _verdict(containers),
        "trials": [
            {
                "name": "" if trial == FIRST_TRIAL else trial,
                "containers": [_plain(c, shared) for c in containers if c.trial == trial],
            }
            for trial in trials
        ],
        "diff": asdict(folder.text("patch.diff", limits["diff"])),
        "texts": [[name, asdict(text)] for name, text in texts if text != Excerpt()],
    }


def _plain(container: Container, shared: FactTable) -> dict[str, Any]:
    execution = container.execution
    return {
        "role": container.role,
        "ended": container.ended,
        "outcome": container.outcome,
        "duration_s": execution.duration_s if execution else None,
        "deadline_s": execution.deadline_s if execution else None,
        "facts": [shared.number(fact) for fact in container.facts],
        "mounts": container.mounts,
        "command": container.command,
        "differences": container.differences,
        "log": asdict(container.log),
    }


def _figures(entry: HistoryEntry, metric: str) -> Iterator[tuple[str, str]]:
    """Yield the main facts of an experiment: names and values."""
    e = entry.experiment
    if e.score is not None:
        several = f", mean of {len(e.scores)} trials" if len(e.scores) > 1 else ""
        yield f"{metric}{several}{'' if e.is_judged else ', not judged'}", f"{e.value:.6f}"
        if e.is_judged:
            yield (
                "against the best before",
                "first" if entry.delta is None else f"{entry.delta:+.6f}".replace("-", MINUS),
            )
        if e.score.standard_error is not None:
            yield "standard error of the score", f"{e.score.standard_error:.1e}"
        yield f"positions audited (K), level {e.score.level}", f"{e.score.audited_positions:,}"
    for number, load in enumerate(e.loads, start=1):
        if text := describe_load(load):
            yield f"machine{f', trial {number}' if len(e.loads) > 1 else ''}", text
    yield "device time", f"{e.duration_s:.1f} s"
    if e.train_s:
        yield "training", f"{e.train_s:.1f} s"
    if e.peak_memory_bytes is not None:
        yield "peak memory of training", f"{e.peak_memory_bytes / MIB:,.0f} MiB"
    yield "cost of the proposal", f"${e.usage.cost_usd:.4f}"


def _facts(
    e: Experiment, begun: ExperimentBegun | None, finished: ExperimentFinished | None
) -> Iterator[tuple[str, str]]:
    """Yield the remaining facts of an experiment: names and values."""
    usage = e.usage
    if len(e.scores) > 1:
        yield "each trial", ", ".join(f"{value:.6f}" for value in e.scores)
    if e.remeasures_id is not None:
        yield "remeasures", f"experiment {e.remeasures_id}"
    if e.removes_id is not None:
        yield "takes out", f"experiment {e.removes_id}"
    yield "proposed by", e.proposed_by
    if usage.input_tokens or usage.output_tokens:
        cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        yield "tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out, {cached:,} cached"
    yield "started", e.started_at
    if finished and finished.self_reported:
        yield "the program reports", describe_figures(finished.self_reported)
    if e.attempt > 1:
        yield "attempt", f"{e.attempt}" + ("" if e.retry_of is None else f", of experiment {e.retry_of}")
    for name, value in (
        ("commit", e.commit),
        ("file sha256", e.source_sha256),
        ("claims sha256", e.score.claims_sha256 if e.score else ""),
        ("audit seed", e.score.audit_seed if e.score else ""),
        ("audit seed's sha256", begun.seeds.audit_seed_sha256 if begun else ""),
        ("seed", str(begun.seeds.train_seed) if begun else ""),
    ):
        if value:
            yield name, value
    if begun:
        yield from describe_environment(begun.environment)
    else:
        yield from (("hardware", e.hardware), ("image", e.image_id))


def _verdict(containers: list[Container]) -> str:
    """Return a sentence on whether the containers match their requests."""
    if not containers:
        return "Nothing ran."
    odd = [c.role for c in containers if c.differences or c.weak_facts]
    unknown = [c.role for c in containers if c.differences is None]
    many = f"{len(containers)} containers ran" if len(containers) > 1 else "One container ran"
    if odd:
        return f"{many}; different from the request, or with a wall missing: {', '.join(odd)}."
    if unknown:
        return f"{many}; request or created container not on record for: {', '.join(unknown)}."
    return (
        f"{many}, each matching its request in every field that the engine reports: no network, no capabilities, an"
        " unprivileged user, a read-only root, our own seccomp profile, limits on memory, CPUs and processes."
    )
