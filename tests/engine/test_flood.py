"""A short form of `make flood`: what an experiment prints and leaves keeps the orchestrator's memory small."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_flood_costs_no_memory() -> None:
    """Of lines, of one line, of empty ones, of single bytes, of files: the benchmark fails above its bound."""
    command = [sys.executable, "-m", "tests.soak.flood", "400"]
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=True)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert 5 == done.stdout.count(", record ")
