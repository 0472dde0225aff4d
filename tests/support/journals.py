"""Experiments and journals for tests."""

import json
from pathlib import Path

from orchestrator.events import ExperimentBegun, ExperimentFinished
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import canonical, seal
from orchestrator.types import (
    Candidate,
    Champion,
    Environment,
    Experiment,
    Level,
    Plan,
    Proposal,
    Reply,
    Score,
    Status,
    Usage,
)
from tests.support import fakes


def kept(value: float, **changes: object) -> Experiment:
    """A finished experiment; `changes` override its fields."""
    values: dict[str, object] = {
        "id": 0, "parent_id": None, "status": Status.KEEP, "reason": "the baseline", "hypothesis": "baseline",
        "expected_effect": "", "proposer": "scripted", "model": "script",
        "score": Score(value=value, level=Level.L2, standard_error=0.0, audited_positions=10_000), "message": "",
        "source_sha256": "0" * 64, "started_at": "2026-11-01T00:00:00+00:00", "duration_s": 1.0, "train_s": 0.5,
        "usage": Usage(), "attempt": 1, "folder": Path("0000"),
    }  # fmt: skip
    return Experiment(**(values | changes))  # type: ignore[arg-type]


def champion(value: float = 1.0, **changes: object) -> Champion:
    """Return a kept experiment as the champion of a run."""
    experiment = kept(value, **changes)
    return Champion(experiment=experiment, scores=experiment.scores, conditions=experiment.conditions)


def candidate(**changes: object) -> Candidate:
    """Return a candidate as the loop makes it; `changes` override its fields."""
    values: dict[str, object] = {
        "proposal": Proposal(hypothesis="warm up longer"), "source": fakes.TRAIN_PY, "parent_id": None,
        "parent_source": fakes.TRAIN_PY, "reply": Reply(proposer="scripted", prompt="p", text="t"),
    }  # fmt: skip
    return Candidate(**(values | changes))  # type: ignore[arg-type]


def begin(journal: Journal, started: Candidate | None = None, files: dict[str, str] | None = None) -> int:
    """Record that an experiment began, and return its number."""
    idea, number = started or candidate(), journal.next_id()
    journal.append(
        ExperimentBegun(
            experiment_id=number, attempt=idea.attempt, retry_of=idea.retry_of, remeasures_id=idea.remeasures_id,
            parent_id=idea.parent_id, reply=idea.reply, proposal=idea.proposal, source_sha256="0" * 64,
            seeds=Plan.draw().commitment, files=files or {}, environment=Environment(),
        )
    )  # fmt: skip
    return number


def finish(journal: Journal, experiment: Experiment) -> None:
    """Record how an experiment ended."""
    journal.append(ExperimentFinished(experiment=experiment))


def rewrite_format(path: Path, version: int) -> None:
    """Make every line of a record one of another version, whole in itself."""
    lines = []
    for line in path.read_text().splitlines():
        values = {**json.loads(line), "format": version}
        del values["sha256"]
        lines.append(f"{seal(canonical(values))}\n")
    path.write_text("".join(lines))
