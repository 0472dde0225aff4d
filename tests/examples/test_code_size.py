"""The drafts of examples/code-size, without containers: what a rule refuses, and what comes as far as a training."""

from pathlib import Path

import pytest

from orchestrator import patch
from orchestrator.config import load
from orchestrator.errors import PatchRejected

TASK = Path(__file__).parents[2] / "examples" / "code-size"
DRAFTS = sorted((TASK / "drafts").iterdir())


@pytest.mark.parametrize("path", DRAFTS, ids=lambda path: path.stem)
def test_a_draft_is_a_change_that_is_tried_or_breaks_a_rule(path: Path, tmp_path: Path) -> None:
    """02 breaks a rule, the others are trained; none is the baseline in other words."""
    config = load(TASK, {"tag": "t", "runs": tmp_path})
    rules = [(rule.pattern, rule.reason) for rule in config.rules]
    source = path.read_text(encoding="utf-8")
    why = ""
    try:
        patch.check(source, rules)
    except PatchRejected as refused:
        why = str(refused)

    assert ("02" in path.name) is ("nothing else of a function is known when it is scored" in why)
    assert "02" in path.name or not why
    assert patch.fingerprint(source) != patch.fingerprint(config.mutable_path.read_text(encoding="utf-8"))
