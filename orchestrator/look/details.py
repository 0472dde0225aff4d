"""One experiment as a block of data in the page; the page's script shows it, as text, when it is asked for."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.look.containers import Container, Fact, containers
from orchestrator.look.excerpt import Bound, Excerpt, Folder
from orchestrator.look.history import HistoryEntry
from orchestrator.record.journal import Journal
from orchestrator.scoring.self_reported import describe_figures
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Role
from orchestrator.units import MIB

TOTAL_BYTES = 16_000_000  # of all details: a page opens in a second or two
LEAST, MOST = 6_000, 60_000  # bytes of one experiment's texts
SHARES = {"diff": 0.35, Role.TRAINER: 0.25, "other": 0.05, "prompt": 0.1, "reply": 0.1}
HEAD = 0.4  # of a log; errors are at the end
MINUS = "\N{MINUS SIGN}"
FILES = 64
BEGUN = (  # what was on record before it ran
    ("audit_seed_sha256", "audit seed's sha256"), ("train_seed", "train seed"), ("gpu_uuid", "GPU"),
    ("driver", "driver"), ("engine", "engine"), ("runtime", "runtime"), ("tier", "isolation"), ("kernel", "kernel"),
    ("seccomp_sha256", "seccomp sha256"), ("locked_sha256", "locked files sha256"), ("data_sha256", "data sha256"),
)  # fmt: skip


def bounds(experiments: int) -> dict[str, Bound]:
    """How much of each text is shown: less of each where there are many."""
    each = max(LEAST, min(MOST, TOTAL_BYTES // max(1, experiments)))
    heads = {"diff": 1.0, "prompt": 0.5, "reply": 1.0}
    return {
        name: Bound(
            head=int(each * share * heads.get(name, HEAD)), tail=int(each * share * (1 - heads.get(name, HEAD)))
        )
        for name, share in SHARES.items()
    }


@dataclass(slots=True)
class FactTable:
    """Facts that most containers have in common: told once, and pointed at."""

    facts: list[Fact] = field(default_factory=list)
    _numbers: dict[Fact, int] = field(default_factory=dict)

    def number(self, fact: Fact) -> int:
        """Where it is in the list."""
        if fact not in self._numbers:
            self._numbers[fact] = len(self.facts)
            self.facts.append(fact)
        return self._numbers[fact]

    def block(self) -> str:
        """All of them as JSON, for the page's script."""
        return as_block([[fact.name, fact.value, fact.good] for fact in self.facts])


def detail(journal: Journal, turn: HistoryEntry, bound: dict[str, Bound], shared: FactTable, metric: str) -> str:
    """JSON, with no `<` in it that could end the block it is put into."""
    experiment = turn.experiment
    finished = _said(journal, "experiment.finished", experiment)
    begun = _said(journal, "experiment.begun", experiment)
    value = {
        "id": experiment.id,
        "hypothesis": sanitise(experiment.hypothesis, 4000),
        "expected": sanitise(experiment.expected_effect, 2000),
        "rule": sanitise(experiment.reason, 4000),
        "message": sanitise(experiment.message, 4000) if experiment.message != experiment.reason else "",
        "parent": experiment.parent_id,
        "figures": [[name, sanitise(text, 300)] for name, text in _figures(turn, metric)],
        "facts": [[name, sanitise(text, 300)] for name, text in _facts(turn, begun, finished)],
        **_texts(experiment, finished, bound, shared),
    }
    return as_block(value)


def as_block(value: object) -> str:
    """JSON that may stand in a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _said(journal: Journal, kind: str, experiment: Experiment) -> dict[str, Any]:
    """The body of its record of that kind; empty where it cannot be read."""
    try:
        return next((record.body for record in journal.records(kind, experiment.id)), {})
    except (ValueError, KeyError, TypeError):
        return {}


def _texts(
    experiment: Experiment, finished: dict[str, Any], bound: dict[str, Bound], shared: FactTable
) -> dict[str, Any]:
    """What the folder holds; the reason, where it cannot be read."""
    executions = {str(e.get("container_id")): e for e in finished.get("executions") or [] if isinstance(e, dict)}
    try:
        with Folder.open(experiment.folder) as folder:
            runs = [("", containers(folder, executions, bound)), *_further(folder, executions, bound)]
            texts = [
                ("prompt", folder.text("prompt.txt", bound["prompt"])),
                ("reply", folder.text("reply.txt", bound["reply"])),
            ]
            diff = folder.text("patch.diff", bound["diff"])
    except OSError as error:
        return {"problem": f"the folder of this experiment cannot be read: {error.strerror}"}
    files = finished.get("files")
    return {
        "verdict": _verdict([found for _, found in runs]),
        "runs": [
            {"name": sanitise(name), "containers": [_plain(each, shared) for each in found]} for name, found in runs
        ],
        "diff": asdict(diff),
        "texts": [[name, asdict(text)] for name, text in texts if text != Excerpt()],
        "files": [[sanitise(str(k)), str(v)[:64]] for k, v in files.items()][:FILES] if isinstance(files, dict) else [],
    }


def _plain(container: Container, shared: FactTable) -> dict[str, Any]:
    return {**asdict(container), "facts": [shared.number(fact) for fact in container.facts]}


def _further(
    folder: Folder, executions: dict[str, Any], bound: dict[str, Bound]
) -> Iterator[tuple[str, list[Container]]]:
    """Runs with other seeds, each in a folder of its own."""
    for name in folder.folders():
        with folder.inside(name) as further:
            yield name, containers(further, executions, bound)


def _figures(turn: HistoryEntry, metric: str) -> Iterator[tuple[str, str]]:
    """What one looks at first."""
    e = turn.experiment
    if e.score is not None:
        several = f", mean of {len(e.runs)} runs" if len(e.runs) > 1 else ""
        yield f"{metric}{several}{'' if e.is_judged else ', not judged'}", f"{e.value:.6f}"
        if e.is_judged:
            yield "against the best before", "first" if turn.delta is None else f"{turn.delta:+.6f}".replace("-", MINUS)
        if e.score.standard_error is not None:
            yield "standard error of the score", f"{e.score.standard_error:.1e}"
        yield f"positions audited (K), level {e.score.level}", f"{e.score.audited_positions:,}"
    yield "slot time", f"{e.duration_s:.1f} s"
    yield "of it training", f"{e.train_s:.1f} s"
    if e.peak_memory_bytes is not None:
        yield "peak memory of training", f"{e.peak_memory_bytes / MIB:,.0f} MiB"
    yield "cost of the idea", f"${e.usage.cost_usd:.4f}"


def _facts(turn: HistoryEntry, begun: dict[str, Any], finished: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What one looks up."""
    e, usage = turn.experiment, turn.experiment.usage
    if len(e.runs) > 1:
        yield "each run", ", ".join(f"{value:.6f}" for value in e.runs)
    if e.remeasures_id is not None:
        yield "measures again", f"experiment {e.remeasures_id}"
    yield "idea by", e.proposed_by
    if usage.input_tokens or usage.output_tokens:
        cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        yield "tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out, {cached:,} cached"
    yield "started", e.started_at
    if isinstance(said := finished.get("told"), dict) and said:
        yield "train.py says of itself", describe_figures(said)
    if e.attempt > 1:
        yield "attempt", f"{e.attempt}" + ("" if e.retry_of is None else f", of experiment {e.retry_of}")
    for name, value in (
        ("commit", e.commit),
        ("hardware", e.hardware),
        ("image", e.image_id),
        ("train.py sha256", e.source_sha256),
        ("claims sha256", e.score.claims_sha256 if e.score else ""),
        ("audit seed", e.score.audit_seed if e.score else ""),
        *((name, str(begun.get(key) or "")) for key, name in BEGUN),
    ):
        if value:
            yield name, value


def _verdict(runs: list[list[Container]]) -> str:
    """In a sentence, whether what ran is what was asked for."""
    found = [container for run in runs for container in run]
    if not found:
        return "Nothing ran."
    odd = [c.role for c in found if c.differences or any(fact.good is False for fact in c.facts)]
    unknown = [c.role for c in found if c.differences is None]
    many = f"{len(found)} containers ran" if len(found) > 1 else "One container ran"
    if odd:
        return f"{many}; not as asked, or with a wall missing: {', '.join(odd)}."
    if unknown:
        return f"{many}; what was asked or made is not on record for: {', '.join(unknown)}."
    return (
        f"{many}, each as asked in every field that the engine reports: no network, no capabilities, nobody's user,"
        " a read-only root, our own seccomp profile, limits on memory, processors and processes."
    )
