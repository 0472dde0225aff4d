"""A program of the user's as the proposer: what it gets, what it may print, and how it ends."""

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator import propose
from orchestrator.errors import BudgetExhausted, ConfigError, PatchRejected, ProposerUnavailable
from orchestrator.loop import run_session
from orchestrator.propose.command import CommandProposer
from orchestrator.record.journal import Journal
from orchestrator.settings import Command
from tests.propose.test_claude import PaperLedger, context
from tests.propose.test_night import builder, task
from tests.support import fakes
from tests.support.fake_messages_api import FakeMessagesApi, proposal
from tests.support.sessions import open_session
from tests.support.waiting import within

GOOD = proposal("LR = 0.02", "LR = 0.03", "a higher rate")


def program(tmp_path: Path, body: str) -> tuple[str, ...]:
    """A Python program with this body; `prompt` is what it read."""
    path = tmp_path / "proposes.py"
    path.write_text(f"import json, os, sys, time\nprompt = sys.stdin.read()\n{body}\n")
    return sys.executable, str(path)


def proposer(tmp_path: Path, body: str, max_usd: float = 0.0, **changes: object) -> CommandProposer:
    """A proposer that runs such a program and does not wait long."""
    command = Command(argv=program(tmp_path, body), **changes)  # type: ignore[arg-type]
    budget = propose.Budget(ledger=PaperLedger(), max_usd=max_usd)
    opened = CommandProposer.open(command, builder(tmp_path), budget, os.environ)
    opened.first_wait_s = 0.01
    return opened


def printing(text: str) -> str:
    """A program that prints a text."""
    return f"print({text!r})"


def test_a_program_reads_the_prompt_and_prints_the_answer(tmp_path: Path) -> None:
    """The whole prompt with the schema; words around the answer are read over; nobody told what it cost."""
    opened = proposer(
        tmp_path, printing(f"Here it is:\n```json\n{GOOD}\n```") + "\nprint(len(prompt), file=sys.stderr)"
    )
    reply = opened.ask(context())

    assert "a higher rate" == opened.read(reply).hypothesis
    assert '"additionalProperties": false' in reply.prompt
    assert "LR = 0.02" in reply.prompt
    assert ("command", Path(sys.executable).name, 7) == (reply.proposer, reply.model, reply.parent_id)
    assert not reply.cost_known
    assert 1 == len(reply.calls)


def test_what_an_agent_reports_is_charged(tmp_path: Path) -> None:
    """Its answer is in `result`, its cost beside it, and max_usd holds for what is reported."""
    envelope = {"type": "result", "result": GOOD, "total_cost_usd": 0.4, "usage": {"input_tokens": 900, "x": 1}}
    opened = proposer(tmp_path, printing(json.dumps(envelope)), max_usd=1.0)
    reply = opened.ask(context())
    opened.ask(context())
    opened.ask(context())

    assert "a higher rate" == opened.read(reply).hypothesis
    assert (0.4, 900, True) == (reply.usage.cost_usd, reply.usage.input_tokens, reply.cost_known)
    with pytest.raises(BudgetExhausted, match="MAX_USD"):
        opened.ask(context())


def test_it_gets_an_empty_folder_and_few_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is not among them, nor anything else that was not allowed; the folder is gone afterwards."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    monkeypatch.setenv("MY_AGENT_PROFILE", "research")
    monkeypatch.setenv("OTHER", "1")
    body = """
answer = json.loads(os.environ["MY_GOOD"])
answer["expected_effect"] = json.dumps([os.getcwd(), os.listdir(), sorted(os.environ)])
open("left behind", "w").close()
print(json.dumps(answer))"""
    monkeypatch.setenv("MY_GOOD", GOOD)
    opened = proposer(tmp_path, body, variables=("MY_AGENT_PROFILE", "MY_GOOD", "NOT_SET"))
    folder, files, names = json.loads(opened.read(opened.ask(context())).expected_effect)

    assert [] == files
    assert not Path(folder).exists()
    assert {"PATH", "HOME", "MY_AGENT_PROFILE", "MY_GOOD"} <= set(names)
    assert not {"ANTHROPIC_API_KEY", "OTHER", "NOT_SET"} & set(names)


FAILS = {
    "it fails": ("print('no login', file=sys.stderr); sys.exit(3)", {}, "3 times in a row: exit code 3: no login"),
    "it says so on its output": ("print('limit reached'); sys.exit(1)", {}, "exit code 1: limit reached"),
    "it takes too long": ("time.sleep(60)", {"timeout_s": 0.3}, r"no answer within 0.3 s \(\[command\] timeout_s\)"),
    "it prints without end": ("print('x' * 17_000_000)", {}, "printed more than"),
    "it prints words": (printing("I cannot do that."), {}, "3 answers in a row without a proposal: .*cannot do that"),
    "it prints nothing": ("", {}, "3 answers in a row without a proposal"),
    "an agent's error": (printing('{"result": "Not logged in", "is_error": true}'), {}, "Not logged in"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILS)
def test_a_program_that_fails_ends_the_session_with_its_words(tmp_path: Path, case: str) -> None:
    """After three times, in one line; no hour is lost."""
    body, changes, expected = FAILS[case]
    opened = proposer(tmp_path, body, **changes)  # type: ignore[arg-type]

    def ask_three_times() -> None:
        for _ in range(3):
            with pytest.raises(PatchRejected):
                opened.read(opened.ask(context()))

    with pytest.raises(ProposerUnavailable, match=expected) as caught:
        ask_three_times()

    assert "\n" not in str(caught.value)


def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    """One that does not repeat itself costs no more than a moment."""
    marker = tmp_path / "failed once"
    body = f"""
if not os.path.exists({str(marker)!r}):
    open({str(marker)!r}, "w").close()
    sys.exit(1)
{printing(GOOD)}"""
    opened = proposer(tmp_path, body)
    with capture_logs() as logs:
        reply = opened.ask(context())

    assert "a higher rate" == opened.read(reply).hypothesis
    assert ["proposal.delayed"] == [entry["event"] for entry in logs]


def test_nothing_that_it_started_outlives_it(tmp_path: Path) -> None:
    """An agent's helpers end with the answer."""
    body = f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
answer = json.loads({GOOD!r})
answer["expected_effect"] = str(child.pid)
print(json.dumps(answer))"""
    opened = proposer(tmp_path, body)
    child = int(opened.read(opened.ask(context())).expected_effect)

    assert within(10, lambda: is_gone(child))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, though nobody may have looked after it yet."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_stopping_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    """A child that ignores SIGTERM too."""
    pids = tmp_path / "pids"
    body = f"""
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
open({str(pids)!r} + ".new", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(pids)!r} + ".new", {str(pids)!r})
time.sleep(60)"""
    opened = proposer(tmp_path, body)
    threading.Thread(target=lambda: within(30, pids.exists) and opened.stop()).start()
    with pytest.raises(ProposerUnavailable, match="stopped"):
        opened.ask(context())
    mine, child = (int(pid) for pid in pids.read_text().split())

    assert within(10, lambda: is_gone(mine) and is_gone(child))


@pytest.mark.parametrize(
    ("argv", "expected"), [((), r"\[command\] argv is missing"), (("no-such-program",), "'no-such-program' is not a")]
)
def test_a_command_that_cannot_run_is_refused_at_the_start(
    tmp_path: Path, argv: tuple[str, ...], expected: str
) -> None:
    """With the table and the key."""
    with pytest.raises(ConfigError, match=expected):
        CommandProposer.open(Command(argv=argv), builder(tmp_path), propose.Budget(ledger=PaperLedger()), os.environ)


def test_the_real_loop_with_a_program(tmp_path: Path) -> None:
    """Chosen where argv is set, said at the start, kept where it is better; the same reader, the same record."""
    body = """
import re
rates = re.findall(r"LEARNING_RATE = ([0-9.]+)", prompt)
edits = [{"search": f"LEARNING_RATE = {rates[0]}", "replace": f"LEARNING_RATE = {float(rates[0]) + 0.005:.4f}"}]
print(json.dumps({"hypothesis": f"more than {rates[0]}", "expected_effect": "lower", "edits": edits}))"""
    with FakeMessagesApi() as api:
        argv = program(tmp_path, body)
        flags = {"command.argv": argv, "proposer": None, "limits.experiments": 3, "prefetch": 0}
        config = propose.choose_proposer(task(tmp_path, api, **flags), {})
        with Journal.open(config.run_path) as journal:
            runner = fakes.ArithmeticRunner(lambda source: fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.05)))
            session = open_session(config, propose.build(config, journal, os.environ), runner, journal=journal)
            assert "3 experiments done" == run_session(session)
            statuses = [e.status.value for e in journal.experiments()]

    assert "command" == config.proposer
    assert ["keep"] * 4 == statuses
    assert "your rights, outside of any container" in next(propose.notes(config, {}))
    assert [] == [*api.checks, *api.requests]
