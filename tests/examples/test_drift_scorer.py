"""The scorer of examples/drift as a program: the messages that it sends, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import judge
from patterns import PATTERNS

from orchestrator.scoring.messages import (
    FailedMessage,
    Malformed,
    Message,
    RefusedMessage,
    ScoreMessage,
    parse_message,
)
from tests.examples.test_drift import BASELINE, DRIFT, GOOD


def run_scorer(root: Path, post_text: bytes, kept: dict[str, bytes]) -> tuple[int, list[Message | Malformed], str]:
    """How the scorer ends, what it sends, and what it complains."""
    for name, data in {"mutable/post.md": post_text, **{f"kept/{name}": data for name, data in kept.items()}}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    found = os.pathsep.join(str(folder) for folder in (DRIFT / "locked", DRIFT.parents[1] / "orchestrator" / "runtime"))
    paths = f"--kept={root / 'kept'}", str(root / "mutable" / "post.md")
    command = [sys.executable, "-s", "-B", str(DRIFT / "locked" / "score.py"), "--seconds=20", *paths]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": found}, capture_output=True, text=True, check=False, timeout=60
    )
    messages = [parse_message(line) for line in done.stdout.splitlines()]
    return done.returncode, [message for message in messages if message is not None], done.stderr


def test_the_scorer_sends_one_score_with_its_parts(tmp_path: Path) -> None:
    """Beside what the run kept."""
    code, (sent,), _ = run_scorer(tmp_path, GOOD.encode(), {"0000.md": BASELINE})

    assert isinstance(sent, ScoreMessage)
    assert (0, "post_score", "L1") == (code, sent.metric, sent.level)
    assert {"clean", "voice", "substance", "fresh"} == set(sent.parts)
    assert 70 < sent.value == min(sent.parts.values())


def test_the_reasons_fit_into_a_message(tmp_path: Path) -> None:
    """The weakest part's first; a post against all patterns has more reasons than a message holds."""
    text = "# Everything\n\n" + "\n\n".join(one.finds for one in PATTERNS if one.scope == "prose")
    code, (sent,), _ = run_scorer(tmp_path, text[:2000].rpartition("\n")[0].encode(), {})

    assert isinstance(sent, ScoreMessage)
    assert (0, 0.0) == (code, sent.value)
    assert "(filler)" in sent.reasons[0]
    assert 3 < len(sent.reasons) <= judge.MOST_REASONS


def test_the_scorer_refuses_by_name_and_names_a_damaged_archive(tmp_path: Path) -> None:
    """A post that was kept before is a copy; 10 MB are refused unread; what is no post in the archive is no score."""
    code, (sent,), _ = run_scorer(tmp_path, BASELINE, {"0000.md": BASELINE})

    assert isinstance(sent, RefusedMessage)
    assert (3, "copy: 100% of its runs") == (code, sent.reason[:22])
    code, (sent,), _ = run_scorer(tmp_path, b"a" * 10_000_000, {})
    assert isinstance(sent, FailedMessage)
    assert (3, "too-large: ") == (code, sent.reason[:11])
    code, nothing, complained = run_scorer(tmp_path, GOOD.encode(), {"0001.md": b"\xff"})
    assert (1, []) == (code, nothing)
    assert "error: kept post 0001.md: encoding: byte 0 is not UTF-8; restore it from the record" == complained.strip()
