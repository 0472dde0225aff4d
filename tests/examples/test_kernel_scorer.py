"""The scorer of examples/kernel as a program, with candidate and reference as programs of their own."""

import os
import subprocess
import sys
from pathlib import Path

from orchestrator.scoring.messages import ScoreMessage, parse_message
from tests.examples.test_turns import KERNEL, ROOT, program


def test_the_scorer_sends_one_ratio(tmp_path: Path) -> None:
    """With its standard error, and the interval as its parts."""
    (tmp_path / "control").mkdir()
    found = os.pathsep.join(str(folder) for folder in (KERNEL / "locked", ROOT / "orchestrator" / "runtime"))
    with (
        program(tmp_path, "a", KERNEL / "drafts" / "05-as-a-product.py"),
        program(tmp_path, "b", KERNEL / "locked" / "reference.py"),
    ):
        command = [sys.executable, "-B", str(KERNEL / "locked" / "score.py"), "--root", str(tmp_path), "--seconds=60"]
        environment = {**os.environ, "PYTHONPATH": found}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=90)
    *rehearsed, score = [parse_message(line) for line in done.stdout.splitlines()]

    assert (0, 2) == (done.returncode, len(rehearsed))
    assert isinstance(score, ScoreMessage)
    assert ("time_ratio", "L1") == (score.metric, score.level)
    assert score.parts["low"] <= score.value <= score.parts["high"]
    assert score.standard_error and score.parts["slowdown"] >= 1
