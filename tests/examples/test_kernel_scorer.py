"""The scorer of examples/kernel as a program, with candidate and reference as programs of their own."""

import os
import subprocess
import sys
from pathlib import Path

import frames

from orchestrator.scoring.messages import ClaimsMessage, ScoreMessage, parse_message
from tests.examples.test_turns import KERNEL, ROOT, program


def test_the_scorer_sends_one_ratio(tmp_path: Path) -> None:
    """With its standard error, and the interval as its parts."""
    (tmp_path / "control").mkdir()
    found = os.pathsep.join(str(folder) for folder in (KERNEL / "locked", ROOT / "orchestrator" / "runtime"))
    with (
        program(tmp_path, "a", KERNEL / "drafts" / "05-as-a-product.py"),
        program(tmp_path, "b", KERNEL / "locked" / "reference.py"),
    ):
        few = "import score; score.PAIRS = (3, 3); score.main()"
        command = [sys.executable, "-B", "-c", few, "--root", str(tmp_path), "--seconds=240"]
        environment = {**os.environ, "PYTHONPATH": found}
        scorer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert scorer.stdout
        lines = [scorer.stdout.readline() for _ in range(3)]
        frames.write(tmp_path / "control", "ended", b"")  # as the host says when the candidate is gone
        rest, _ = scorer.communicate()
    *rehearsed, claims, score = [parse_message(line) for line in (*lines, *rest.splitlines())]

    assert (0, 2) == (scorer.returncode, len(rehearsed))
    assert isinstance(claims, ClaimsMessage)
    assert isinstance(score, ScoreMessage)
    assert ("time_ratio", "L1") == (score.metric, score.level)
    assert score.parts["low"] <= score.value <= score.parts["high"]
    assert score.standard_error and score.parts["slowdown"] >= 1
