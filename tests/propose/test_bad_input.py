"""What a person gets wrong about the researcher, at the command line: one line, before anything starts."""

import re
import sys
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.events import SessionStarted
from orchestrator.record.journal import Journal
from orchestrator.types import Environment
from tests.propose.test_night import task
from tests.support.fake_messages_api import KEY, FakeMessagesApi

CASES = {
    "no key": (("--proposer", "claude"), "", "", "ANTHROPIC_API_KEY is not set"),
    "a wrong key": ((), "sk-wrong", "", "invalid API key; set ANTHROPIC_API_KEY"),
    "an unknown model": (("--model", "claude-haiku-4-5"), KEY, "", "unknown model 'claude-haiku-4-5'; fix"),
    "a budget without prices": (("--model", "local"), KEY, "", "[prices.models] has no 'local', so max_usd = 10"),
    "an empty program.md": ((), KEY, "program.md", "program.md: is empty; describe what to research"),
    "an empty program.md, without LLM": (("--proposer", "sweep"), "", "program.md", "program.md: is empty"),
    "no program.md": ((), KEY, "-program.md", "program.md: cannot be read"),
    "a rule that is no pattern": ((), KEY, "rules", "'(' is no regular expression"),
    "no such replay": (("--replay", "runs/gone"), "", "", "no such run"),
    "a replay without a run": (("--proposer", "replay"), "", "", "--replay runs/NAME"),
    "nobody there": (("--base-url", "http://127.0.0.1:9"), KEY, "", "cannot be reached"),
    "a key file for everyone": (("--key-file", "task.toml"), "", "", "chmod 600"),
    "no command": (("--proposer", "command"), "", "", "[command] argv is missing"),
    "a command that is not there": (("--proposer", "command"), "", "command", "'no-such-program' is not a program"),
    "two much": (("--prefetch", "2"), KEY, "", "prefetch"),
}  # fmt: skip


def spoil(root: Path, what: str) -> None:
    """Empty a file, remove it, or add a rule that does not compile."""
    if what == "rules":
        with (root / "task.toml").open("a") as file:
            file.write("\n[[rules]]\npattern = '('\nreason = 'none'\n")
    elif what == "command":
        with (root / "task.toml").open("a") as file:
            file.write("\n[command]\nargv = ['no-such-program']\n")
    elif what.startswith("-"):
        (root / what[1:]).unlink()
    elif what:
        (root / what).write_text(" \n")


def error_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *command: str) -> str:
    """The one line that a command ends with."""
    monkeypatch.setattr(sys, "argv", ["autoresearch", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    assert 1 == ended.value.code
    assert 1 == len(lines)
    return lines[0]


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_in_one_line_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """The value and the fix, never the key; no proposal was asked for, no session begun, nothing charged."""
    flags, key, spoiled, expected = CASES[case]
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    with FakeMessagesApi(models=("claude-opus-5-5", "claude-opus-5")) as api:
        task(tmp_path, api)
        spoil(tmp_path, spoiled)
        monkeypatch.setenv("AUTORESEARCH_CLAUDE__BASE_URL", api.url)
        monkeypatch.setenv("AUTORESEARCH_CLAUDE__ENDPOINT", "anthropic")
        monkeypatch.chdir(tmp_path)
        said = error_of(capsys, monkeypatch, "loop", "--run", "t", *flags)

        assert expected in said
        assert [] == api.requests
    assert KEY not in said
    if (tmp_path / "runs" / "t" / "record.jsonl").exists():
        with Journal.read(tmp_path / "runs" / "t") as journal:
            kinds = {one.event.kind for one in journal.events_after(0)}
            assert kinds <= {
                "call.reserved",
                "call.settled",
                "loop.waiting",
                "session.note",
                "session.failed",
            }  # of a refused request
            assert 0 == journal.charged().cost_usd


def test_a_replay_of_another_task_is_refused_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the names of both tasks."""
    with FakeMessagesApi() as api:
        task(tmp_path, api)
    with Journal.open(tmp_path / "runs" / "other") as journal:
        journal.append(SessionStarted(task="sorting", metric="m", proposer="sweep", environment=Environment()))
    said = error_of(capsys, monkeypatch, "loop", "--task", str(tmp_path), "--replay", str(tmp_path / "runs" / "other"))

    assert re.search("the run is of task 'sorting', not 'language-model'", said)
