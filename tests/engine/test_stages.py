"""Tasks without training, in real containers: a text that is scored, and a program that is asked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

TASK = """
[task]
name = "{name}"
mutable = "mutable/{mutable}"
instructions = "program.md"
metric = "{metric}"
stages = "{stages}"
{more}

[noise]
rule = "lowest"

[profile.cpu]
time_budget_s = 5.0
grace_s = 1.0
load_budget_s = 3.0
score_budget_s = 20.0
memory_gb = 1.0
cpus = 1.0
pids = 64
out_mb = 16
tmp_mb = 16
cache_mb = 16
shm_mb = 16
ipc_mb = 16
batch_rows = 1
small_k = 2
large_k = 2
audit_cap = 0.01
audit_floor = 0.01
"""
COUNTS_WORDS = """
import sys
from pathlib import Path
import channel

words = Path(sys.argv[-1]).read_text().split()
if "?" in words:
    channel.send("failed", reason="the text asks: it must tell")
    sys.exit()
kept = sorted(path.name for path in Path("/kept").iterdir())
channel.send("score", metric="words", value=len(words), level="L1", parts={"words": len(words), "kept": len(kept)},
             reasons=[] if len(words) > 3 else ["write more words"])
"""
TELLS_KEPT = """
from pathlib import Path
print("kept so far:", *(f"{path.name}={path.read_text().strip()}" for path in sorted(Path("/kept").iterdir())))
"""
ASKS = """
import os, struct, sys, time
from pathlib import Path
import channel, frames

def ask(which, number, value):
    frames.write(Path(f"/ask-{which}"), f"{number}.ask", struct.pack("<d", value))
    began = time.perf_counter()
    frames.wait(Path(f"/answer-{which}"), f"{number}.answer", until=time.monotonic() + 10)
    return struct.unpack("<d", frames.read(Path(f"/answer-{which}"), f"{number}.answer", 8))[0]

value = float(os.urandom(1)[0])
if ask("a", 0, 2.0) != ask("b", 0, 2.0) or ask("a", 1, value) != ask("b", 1, value):
    channel.send("failed", reason="an answer is wrong")
    sys.exit()
channel.send("score", metric="size", value=float(ask("a", 2, -1.0)), level="L1")
"""
ANSWERS = """
import importlib.util, struct, sys
from pathlib import Path
import frames

spec = importlib.util.spec_from_file_location("subject", sys.argv[1])
subject = importlib.util.module_from_spec(spec)
spec.loader.exec_module(subject)
for number in range(3):
    frames.wait(Path("/ask"), f"{number}.ask", until=float("inf"))
    (value,) = struct.unpack("<d", frames.read(Path("/ask"), f"{number}.ask", 8))
    answer = subject.SIZE if value < 0 else subject.double(value)
    frames.write(Path("/answer"), f"{number}.answer", struct.pack("<d", answer))
import time; time.sleep(60)
"""
PROGRAM = "SIZE = {size}\ndef double(value):\n    return {body}\n"


def make(root: Path, files: dict[str, str]) -> Path:
    """Write a task."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(task: Path, command: str, *flags: str) -> str:
    """Everything that a command prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole = [sys.executable, "-m", "orchestrator", command, "--task", str(task), *flags]
    done = subprocess.run(whole, env=environment, cwd=task, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def loop(task: Path, tag: str) -> list[dict[str, Any]]:
    """Propose all drafts and return what the run recorded."""
    try:
        run(task, "loop", "--run", tag, "--experiments", "9", "--proposer", "drafts")
    finally:
        Engine.connect().reap()
    found: list[dict[str, Any]] = json.loads(run(task, "status", "--run", tag, "--json"))["experiments"]

    assert f"{tag}: intact" in run(task, "verify", "--run", tag)
    return found


def test_a_text_is_scored_by_locked_code_only(tmp_path: Path, unique: str) -> None:
    """What reaches the threshold is kept, what does not is told why, and the next cycle sees what was kept."""
    more = 'keep = "threshold"\nthreshold = 4\ndirection = "higher"'
    text = TASK.format(name="words", mutable="post.md", metric="words", stages="score", more=more)
    task = make(
        tmp_path,
        {
            "task.toml": text,
            "program.md": "Write.",
            "mutable/post.md": "# one two\n",
            "locked/score.py": COUNTS_WORDS,
            "locked/brief.py": TELLS_KEPT,
            "drafts/1.md": "too short\n",
            "drafts/2.md": "these are four words\n",
            "drafts/3.md": "is this a text ?\n",
            "drafts/4.md": "here are five more words\n",
        },
    )
    found = loop(task, unique)

    assert ["keep", "discard", "keep", "crash", "keep"] == [e["status"] for e in found]
    assert [3, 2, 4, None, 5] == [e["words"] for e in found]
    assert "does not reach the threshold of 4; write more words" in found[1]["reason"]
    assert "the text asks: it must tell" in found[3]["message"]
    assert [["words", 5], ["kept", 2]] == found[4]["score"]["parts"]
    assert "these are four words\n" == (task / "runs" / unique / "0002" / "source.md").read_text()
    assert "here are five more words\n" == (task / "mutable" / "post.md").read_text()


def test_a_program_is_asked_beside_a_reference(tmp_path: Path, unique: str) -> None:
    """A right and better one is kept, a wrong one fails, one that ends without an answer too."""
    text = TASK.format(name="double", mutable="program.py", metric="size", stages="answer, score", more="")
    task = make(
        tmp_path,
        {
            "task.toml": text,
            "program.md": "Make it small.",
            "mutable/program.py": PROGRAM.format(size=9.0, body="value * 2"),
            "locked/score.py": ASKS,
            "locked/answer.py": ANSWERS,
            "locked/reference.py": PROGRAM.format(size=9.0, body="value * 2"),
            "drafts/1.py": PROGRAM.format(size=5.0, body="value + value"),
            "drafts/2.py": PROGRAM.format(size=1.0, body="4.0"),
            "drafts/3.py": PROGRAM.format(size=1.0, body="value * 2") + "raise SystemExit(3)\n",
            "drafts/4.py": PROGRAM.format(size=7.0, body="2 * value"),
        },
    )
    found = loop(task, unique)

    assert ["keep", "keep", "crash", "crash", "discard"] == [e["status"] for e in found]
    assert [9, 5, None, None, 7] == [e["size"] for e in found]
    assert "an answer is wrong" in found[2]["message"]
    assert "the program ended with exit code 3" in found[3]["message"]
