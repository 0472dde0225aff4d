"""A command of the user's hears of what happens, and can neither stop nor delay the loop."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Config, load
from orchestrator.errors import ConfigError
from orchestrator.events import CountOffset, SessionEnded, SessionFailed, SessionStarted
from orchestrator.lifecycle import record_failure
from orchestrator.look.notify import Notifier
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.settings import Notify
from orchestrator.types import Environment, Status, Trial
from tests.support import fakes
from tests.support.journals import begin, finish, kept
from tests.support.sessions import parabola, session, statuses, task

WRITES = """
import json, sys
facts = json.load(sys.stdin)
open(sys.argv[1] + "/heard-" + facts["event"], "a").write(json.dumps(facts) + chr(10))
"""
HANGS, FAILS = "import time; time.sleep(60)", "import sys; sys.exit(3)"


def told(folder: Path, event: str) -> list[dict[str, Any]]:
    """What the command heard of one event."""
    path = folder / f"heard-{event}"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_notified(config: Config, settings: Notify, score: Any, rates: list[str]) -> None:
    """Run a session that notifies, as the command does."""
    loop, _, _ = session(config, score, rates)
    with loop.journal, Notifier(settings=settings, journal=loop.journal) as notifier:
        loop.journal.subscribe(notifier.handle)
        with record_failure(loop.journal):
            run_session(loop)


def test_it_hears_of_an_audit_that_was_cut_short(tmp_path: Path) -> None:
    """It may have been a cheat that was about to be caught."""
    config = task(tmp_path, 1)

    def run(source: str) -> Trial:
        cut = replace(fakes.broken(Status.CRASH, "it ended during the audit"), needs_review=True)
        return cut if fakes.rate_of(source) == 0.7 else parabola(source)

    command = (sys.executable, "-c", WRITES, str(tmp_path))
    run_notified(config, Notify(command=command), run, ["0.7"])

    assert ["crash"] == [one["experiment"]["status"] for one in told(tmp_path, "cheat")]


def test_it_hears_of_best_stagnation_cheat_and_end(tmp_path: Path) -> None:
    """Each with the facts, as JSON on standard input."""
    config = task(tmp_path, 4)

    def run(source: str) -> Trial:
        return fakes.broken(Status.CHEAT, "too good") if fakes.rate_of(source) == 0.7 else parabola(source)

    command = (sys.executable, "-c", WRITES, str(tmp_path))
    run_notified(config, Notify(command=command, stagnation_after=3), run, ["0.05", "0.9", "0.7", "0.8"])
    best, cheat, stagnation, end = (told(tmp_path, event) for event in ("best", "cheat", "stagnation", "end"))

    assert [0, 1] == sorted(one["experiment"]["id"] for one in best)
    assert [(3, "too good")] == [(one["experiment"]["id"], one["experiment"]["reason"]) for one in cheat]
    assert [(4, 3)] == [(one["experiment"]["id"], one["since_improvement"]) for one in stagnation]
    assert [("4 experiments done", 1, "t", False)] == [
        (one["reason"], one["best"]["id"], one["run"], one["failed"]) for one in end
    ]
    assert [1.0, 1.03] == sorted(round(one["experiment"]["val_bpb"], 6) for one in best)
    assert [str(config.run_path)] == [one["folder"] for one in end]
    assert [4] == [one["spent"]["experiments"] for one in end]


def test_repeats_of_the_champion_and_what_is_queued_again_are_no_stagnation(tmp_path: Path) -> None:
    """The LLM is told the same number: ideas that were judged since the champion was found."""
    command = (sys.executable, "-c", WRITES, str(tmp_path))
    settings = Notify(command=command, stagnation_after=2)
    changes: tuple[dict[str, object], ...] = (
        {},
        {"status": Status.DISCARD, "remeasures_id": 0},
        {"status": Status.DISCARD},
        {"status": Status.CONTENDED},
        {"status": Status.DISCARD, "remeasures_id": 0},
        {"status": Status.INVALID, "score": None},
        {"status": Status.DISCARD, "remeasures_id": 0},
        {"status": Status.CONTENDED},
    )
    with Journal.open(tmp_path / "n") as journal, Notifier(settings=settings, journal=journal) as notifier:
        journal.subscribe(notifier.handle)
        for number, change in enumerate(changes):
            begin(journal)
            finish(journal, kept(2.0, id=number, parent_id=0 if number else None, **change))

    assert [(5, 2)] == [(one["experiment"]["id"], one["since_improvement"]) for one in told(tmp_path, "stagnation")]


def test_one_end_is_told_once(tmp_path: Path) -> None:
    """Too many failures of the sandbox end a session, and are an error."""
    command = (sys.executable, "-c", WRITES, str(tmp_path))
    settings = Notify(command=command)
    with Journal.open(tmp_path / "n") as journal, Notifier(settings=settings, journal=journal) as notifier:
        journal.subscribe(notifier.handle)
        journal.append(SessionEnded(reason="3 failures", limit_reached=False, offset=CountOffset()))
        journal.append(SessionFailed(reason="3 failures"))

    assert [("3 failures", True)] == [(end["reason"], end["failed"]) for end in told(tmp_path, "end")]


def test_the_score_is_told_under_the_task_s_name_for_it(tmp_path: Path) -> None:
    """As everywhere else."""
    command = (sys.executable, "-c", WRITES, str(tmp_path))
    started = SessionStarted(task="t", metric="rmse", proposer="scripted", environment=Environment())
    settings = Notify(command=command)
    with Journal.open(tmp_path / "n") as journal, Notifier(settings=settings, journal=journal) as notifier:
        journal.subscribe(notifier.handle)
        journal.append(started)
        begin(journal)
        finish(journal, kept(2.0))

    assert [2.0] == [best["experiment"]["rmse"] for best in told(tmp_path, "best")]


@pytest.mark.parametrize(
    "command",
    [
        ("/nowhere/at-all",),
        (sys.executable, "-c", "import sys; sys.exit(3)"),
        (sys.executable, "-c", "import time; time.sleep(60)"),
        ("/bin/true",),
    ],
)
def test_whatever_it_does_the_loop_goes_on(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Missing, failing, hanging, deaf."""
    config = task(tmp_path, 2)
    run_notified(config, Notify(command=command, timeout_s=0.5), parabola, ["0.05", "0.9"])

    assert [(0, "keep"), (1, "keep"), (2, "discard")] == statuses(config)


def test_a_session_that_fails_is_told_as_ended(tmp_path: Path) -> None:
    """With the error, which goes on its way."""
    config = task(tmp_path, 1)
    command = (sys.executable, "-c", WRITES, str(tmp_path))
    with pytest.raises(ConfigError, match="boom"):
        run_notified(config, Notify(command=command), lambda _: fakes.broken(Status.CRASH, "boom"), ["0.05"])

    assert [True] == ["boom" in one["reason"] and one["failed"] for one in told(tmp_path, "end")]


def test_it_is_given_no_key_and_only_what_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key stays with the loop; events that were not asked for start nothing."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    writes = "import os, sys; open(sys.argv[1], 'a').write(repr(dict(os.environ)))"
    config = task(tmp_path, 1)
    run_notified(
        config, Notify(command=(sys.executable, "-c", writes, str(tmp_path / "e")), on=("end",)), parabola, ["0.05"]
    )
    heard = (tmp_path / "e").read_text()

    assert 1 == heard.count("'PATH'")
    assert "canary" not in heard
    assert "canary" == os.environ["ANTHROPIC_API_KEY"]


def test_an_event_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """By task.toml's reader, with the key's name."""
    config = task(tmp_path)
    with pytest.raises(ConfigError, match=r"notify\.on"):
        load(config.root, {"tag": "t", "runs": tmp_path, "notify.on": ("birthday",)})
