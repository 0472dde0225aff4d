"""One experiment as a block of data in the page; the page's script shows it, as text, when it is asked for."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from orchestrator.journal import Journal
from orchestrator.report.containers import containers
from orchestrator.report.excerpt import Bound, Excerpt, Folder
from orchestrator.report.night import Turn
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Role

TOTAL_BYTES = 24_000_000  # of all details: a page opens in a second or two
LEAST, MOST = 6_000, 60_000  # bytes of one experiment's texts
SHARES = {"diff": 0.35, Role.TRAINER: 0.25, "other": 0.05, "prompt": 0.1, "reply": 0.1, "rejected": 0.03}
HEAD = 0.4  # of a log; errors are at the end
MIB = 1 << 20
FILES = 64


def bounds(experiments: int) -> dict[str, Bound]:
    """How much of each text is shown: less of each where there are many."""
    each = max(LEAST, min(MOST, TOTAL_BYTES // max(1, experiments)))
    heads = {"diff": 1.0, "prompt": 0.5, "reply": 1.0, "rejected": 1.0}
    return {
        name: Bound(
            head=int(each * share * heads.get(name, HEAD)), tail=int(each * share * (1 - heads.get(name, HEAD)))
        )
        for name, share in SHARES.items()
    }


def detail(journal: Journal, turn: Turn, bound: dict[str, Bound]) -> str:
    """Canonical JSON, with no `<` in it that could end the block it is put into."""
    experiment = turn.experiment
    finished = _finished(journal, experiment)
    value = {
        "id": experiment.id,
        "hypothesis": sanitise(experiment.hypothesis, limit=4000),
        "expected": sanitise(experiment.expected_effect, limit=2000),
        "rule": sanitise(experiment.rule, limit=4000),
        "message": sanitise(experiment.message, limit=4000) if experiment.message != experiment.rule else "",
        "parent": experiment.parent_id,
        "facts": [[name, sanitise(text, limit=300)] for name, text in _facts(turn)],
        **_texts(experiment, finished, bound),
    }
    return as_block(value)


def as_block(value: object) -> str:
    """JSON that may stand in a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finished(journal: Journal, experiment: Experiment) -> dict[str, Any]:
    try:
        return next((record.body for record in journal.records("experiment.finished", experiment.id)), {})
    except (ValueError, KeyError, TypeError):
        return {}


def _texts(experiment: Experiment, finished: dict[str, Any], bound: dict[str, Bound]) -> dict[str, Any]:
    """What the folder holds; the reason, where it cannot be read."""
    executions = {str(e.get("container_id")): e for e in finished.get("executions") or [] if isinstance(e, dict)}
    try:
        with Folder.open(experiment.folder) as folder:
            runs = list(_runs(folder, executions, bound))
            rejected = [name for name in folder.names() if name.startswith("rejected-")][:3]
            texts = [
                ("prompt", folder.text("prompt.txt", bound["prompt"])),
                ("reply", folder.text("reply.txt", bound["reply"])),
                *((f"refused reply ({name})", folder.text(name, bound["rejected"])) for name in rejected),
            ]
            diff = folder.text("patch.diff", bound["diff"])
    except OSError as error:
        return {"problem": f"the folder of this experiment cannot be read: {error.strerror}"}
    files = finished.get("files")
    return {
        "runs": runs,
        "diff": asdict(diff),
        "texts": [[name, asdict(text)] for name, text in texts if text != Excerpt()],
        "files": [[sanitise(str(k)), str(v)[:64]] for k, v in files.items()][:FILES] if isinstance(files, dict) else [],
    }


def _runs(folder: Folder, executions: dict[str, Any], bound: dict[str, Bound]) -> Iterator[dict[str, Any]]:
    """The first run, then those with other seeds, each in a folder of its own."""
    found = containers(folder, executions, bound)
    yield {"name": "", "containers": [asdict(container) for container in found]}
    for name in folder.folders():
        with folder.inside(name) as further:
            found = containers(further, executions, bound)
        yield {"name": sanitise(name), "containers": [asdict(container) for container in found]}


def _facts(turn: Turn) -> Iterator[tuple[str, str]]:
    e, usage = turn.experiment, turn.experiment.usage
    if e.score is not None:
        yield "val_bpb", f"{e.val_bpb:.6f}" + (f", mean of {len(e.runs)} runs" if len(e.runs) > 1 else "")
        yield "against the best before", "none" if turn.delta is None else f"{turn.delta:+.6f}"
        yield "standard error", f"{e.score.standard_error:.1e}"
        yield "audited", f"{e.score.audited_positions:,} positions (K), level {e.score.level}"
        if len(e.runs) > 1:
            yield "each run", ", ".join(f"{value:.6f}" for value in e.runs)
    yield "took", f"{e.duration_s:.1f} s, {e.train_s:.1f} s of it training"
    if e.peak_memory_bytes is not None:
        yield "peak memory", f"{e.peak_memory_bytes / MIB:.0f} MiB"
    yield "cost", f"${usage.cost_usd:.4f}"
    if usage.input_tokens or usage.output_tokens:
        cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        yield "tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out, {cached:,} cached"
    yield "by", f"{e.proposer} {e.model}".strip()
    yield "started", e.started_at
    if e.attempt > 1:
        yield "attempt", f"{e.attempt}" + ("" if e.retry_of is None else f", of experiment {e.retry_of}")
    yield "commit", e.commit or "none"
    yield "hardware", e.hardware or "none"
    yield "train.py sha256", e.source_sha256
    if e.score is not None and e.score.claims_sha256:
        yield "claims sha256", e.score.claims_sha256
