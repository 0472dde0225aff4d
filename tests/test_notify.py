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
from orchestrator.look.notify import notifying
from orchestrator.loop import run_session
from orchestrator.settings import Notify
from orchestrator.types import FOR_A_PERSON, Status, Trial
from tests.support import fakes
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


def night(config: Config, settings: Notify, score: Any, rates: list[str]) -> None:
    """A session that notifies, as cli.py puts it together."""
    loop, _, _ = session(config, score, rates)
    with loop.journal, notifying(settings, loop.journal, loop.view) as (view, notifier):
        notifier.end(run_session(replace(loop, view=view)), loop.journal)


def test_it_hears_of_an_audit_that_was_cut_short(tmp_path: Path) -> None:
    """It may have been a cheat that was about to be caught."""
    config = task(tmp_path, 1)

    def run(source: str) -> Trial:
        cut = fakes.broken(Status.CRASH, f"{FOR_A_PERSON}it ended during the audit")
        return cut if fakes.rate_of(source) == 0.7 else parabola(source)

    command = (sys.executable, "-c", WRITES, str(tmp_path))
    night(config, Notify(command=command), run, ["0.7"])

    assert ["crash"] == [one["experiment"]["status"] for one in told(tmp_path, "cheat")]


def test_it_hears_of_best_drought_cheat_and_end(tmp_path: Path) -> None:
    """Each with the facts, as JSON on standard input."""
    config = task(tmp_path, 4)

    def run(source: str) -> Trial:
        return fakes.broken(Status.CHEAT, "too good") if fakes.rate_of(source) == 0.7 else parabola(source)

    command = (sys.executable, "-c", WRITES, str(tmp_path))
    night(config, Notify(command=command, stagnation_after=3), run, ["0.05", "0.9", "0.7", "0.8"])
    best, cheat, stagnation, end = (told(tmp_path, event) for event in ("best", "cheat", "stagnation", "end"))

    assert [0, 1] == sorted(one["experiment"]["id"] for one in best)
    assert [(3, "too good")] == [(one["experiment"]["id"], one["experiment"]["reason"]) for one in cheat]
    assert [(4, 3)] == [(one["experiment"]["id"], one["since_improvement"]) for one in stagnation]
    assert [("4 experiments done", 1, "t", False)] == [
        (one["reason"], one["best"]["id"], one["run"], one["failed"]) for one in end
    ]


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
    night(config, Notify(command=command, timeout_s=0.5), parabola, ["0.05", "0.9"])

    assert [(0, "keep"), (1, "keep"), (2, "discard")] == statuses(config)


def test_a_session_that_fails_is_told_as_ended(tmp_path: Path) -> None:
    """With the error, which goes on its way."""
    config = task(tmp_path, 1)
    command = (sys.executable, "-c", WRITES, str(tmp_path))
    with pytest.raises(ConfigError, match="boom"):
        night(config, Notify(command=command), lambda _: fakes.broken(Status.CRASH, "boom"), ["0.05"])

    assert [True] == ["boom" in one["reason"] and one["failed"] for one in told(tmp_path, "end")]


def test_it_is_given_no_key_and_only_what_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key stays with the loop; events that were not asked for start nothing."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    writes = "import os, sys; open(sys.argv[1], 'a').write(repr(dict(os.environ)))"
    config = task(tmp_path, 1)
    night(config, Notify(command=(sys.executable, "-c", writes, str(tmp_path / "e")), on=("end",)), parabola, ["0.05"])
    heard = (tmp_path / "e").read_text()

    assert 1 == heard.count("'PATH'")
    assert "canary" not in heard
    assert "canary" == os.environ["ANTHROPIC_API_KEY"]


def test_an_event_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """By task.toml's reader, with the key's name."""
    config = task(tmp_path)
    with pytest.raises(ConfigError, match=r"notify\.on"):
        load(config.root, {"tag": "t", "runs": tmp_path, "notify.on": ("birthday",)})
