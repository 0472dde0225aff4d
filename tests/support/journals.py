"""Experiments and journals for tests."""

from pathlib import Path

from orchestrator.types import Experiment, Level, Score, Status, Usage


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
