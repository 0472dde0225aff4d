"""What is on the screen while a loop runs, and what is logged where there is no screen."""

import json
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.events import (
    ChampionReplaced,
    ContainerStarted,
    CountOffset,
    Event,
    ExperimentDoubted,
    LoopWaiting,
    NoteRecorded,
    ReplyReceived,
    ReplyRejected,
    ScoringBegun,
    SessionStarted,
    TrialRepeated,
)
from orchestrator.look import log_lines
from orchestrator.look.history import champion_scores
from orchestrator.look.live_view import LiveView, draw_best_so_far
from orchestrator.record.journal import Journal
from orchestrator.record.session_log import log_to
from orchestrator.types import Environment, Plan, Reply, Role, Status
from tests.support.journals import begin, finish, kept

SEEDS = Plan.draw().commitment
STARTED = SessionStarted(task="t", metric="rmse", proposer="scripted", environment=Environment())


def screen(view: LiveView) -> str:
    """Return what is on it."""
    with view.console.capture() as capture:
        view.console.print(view.render())
    return capture.get()


def test_a_curve_goes_down_or_is_not_drawn() -> None:
    """Nothing fell in a run whose baseline is the best."""
    worse, better = kept(2.5, id=1, status=Status.DISCARD), kept(1.5, id=2)

    assert "" == draw_best_so_far([]) == draw_best_so_far(champion_scores([kept(2.0)]))
    assert "" == draw_best_so_far(champion_scores([kept(2.0), worse]))
    assert "2.0000 ██▁ 1.5000" == draw_best_so_far(champion_scores([kept(2.0), worse, better]))


def test_a_curve_goes_up_where_a_champion_did_not_hold() -> None:
    """As in the report."""
    again = kept(2.4, id=2, status=Status.DISCARD, remeasures_id=1)

    assert [2.0, 1.8, 2.0] == champion_scores([kept(2.0), kept(1.8, id=1), again])
    assert "2.0000 █▁█ 2.0000" == draw_best_so_far([2.0, 1.8, 2.0])


def test_the_live_view_is_gone_at_the_end(tmp_path: Path) -> None:
    """What the command prints then is on the screen once, without a frame that is out of date."""
    output = StringIO()
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0))
        with LiveView(tag="t", console=Console(file=output, force_terminal=True, width=80)) as view:
            view.attach(journal)
    last = output.getvalue().rpartition("hypothesis")[2]

    assert last.count("\x1b[2K") >= output.getvalue().rpartition("best so far")[2].count("\n")


def test_a_note_stays_on_the_terminal(tmp_path: Path) -> None:
    """In one line above the view, which is gone at the end."""
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=40)
    with Journal.open(tmp_path) as journal, LiveView(tag="t", console=console) as view:
        view.attach(journal)
        journal.subscribe(view.handle)
        journal.note("train.py was edited by \x1b[31mhand, and is not used: name another run")
        journal.note("train.py was edited by \x1b[31mhand, and is not used: name another run")

    assert 1 == out.getvalue().count("note: train.py was edited by hand, and is not used: name another run\n")


def test_it_shows_what_happens(tmp_path: Path) -> None:
    """From the wait for a device over the trainer and the scorer to the verdict, in the words of the task."""
    view = LiveView(tag="t", console=Console(width=120, file=StringIO()), goal=4)
    seen = {}
    with Journal.open(tmp_path) as journal:
        view.attach(journal, CountOffset(experiments=3))
        journal.subscribe(view.handle)
        seen["new"] = screen(view)
        journal.append(STARTED)
        journal.append(LoopWaiting(reason="quiet hours \x1b[31muntil 06:00"))
        seen["waiting"] = screen(view)
        number = begin(journal)
        for role in (Role.PREDICTOR_A, Role.SCORER):
            journal.append(ContainerStarted(experiment_id=number, role=role, container_id="c", deadline_s=900.0))
        seen["begun"] = screen(view)
        journal.append(ContainerStarted(experiment_id=number, role=Role.TRAINER, container_id="c", deadline_s=300.0))
        view.show_output(number, Role.TRAINER, "step 1")
        seen["training"] = screen(view)
        journal.append(ScoringBegun(experiment_id=number, deadline_s=60.0))
        seen["scoring"] = screen(view)
        journal.append(TrialRepeated(experiment_id=number, trial=2, at_most=3, mean_so_far=1.25, seeds=SEEDS))
        seen["repeated"] = screen(view)
        journal.append(ExperimentDoubted(experiment_id=number, reason="too good", seeds=SEEDS))
        seen["doubted"] = screen(view)
        finish(journal, kept(1.25))
        seen["finished"] = screen(view)

    assert "starting" in seen["new"] and "no score yet" in seen["new"]
    assert "waiting: quiet hours until 06:00" in seen["waiting"]
    assert "experiment 0" in seen["begun"] and "warm up longer" in seen["begun"] and "left" not in seen["begun"]
    assert "trainer" in seen["training"] and "300 s left" in seen["training"] and "step 1" in seen["training"]
    assert "scorer" in seen["scoring"] and " 60 s left" in seen["scoring"]
    assert "experiment 0, trial 2 of at most 3 · 1.2500 so far" in seen["repeated"]
    assert "experiment 0, run again: too good" in seen["doubted"]
    assert "1.2500 rmse (experiment 0)" in seen["finished"] and "choosing what to try next" in seen["finished"]
    assert "0 of 7 experiments" in seen["finished"]


def logged(folder: Path, *events: Event) -> list[dict[str, object]]:
    """Return the lines of session.log that events lead to, without the time."""
    with Journal.open(folder) as journal, log_to(folder, screen=False):
        journal.subscribe(partial(log_lines.log_event, metric="rmse"))
        for event in events:
            journal.append(event)
    lines = [json.loads(line) for line in (folder / "session.log").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "timestamp"} for line in lines]


EXPECTED = (
    (NoteRecorded(text="not\x1b[2J used"), {"event": "session.note", "level": "warning", "note": "not used"}),
    (LoopWaiting(reason="paused\x1b[2J"), {"event": "loop.waiting", "level": "info", "reason": "paused"}),
    (ReplyRejected(reply=1, reason="no\nnot so"), {"event": "reply.rejected", "level": "info", "reason": "no"}),
    (
        ContainerStarted(experiment_id=3, role=Role.TRAINER, container_id="c", deadline_s=299.6),
        {"event": "container.started", "level": "info", "experiment_id": 3, "role": "trainer", "deadline_s": 300},
    ),
    (
        TrialRepeated(experiment_id=3, trial=2, at_most=3, mean_so_far=1.5, seeds=SEEDS),
        {"event": "trial.repeated", "level": "info", "experiment_id": 3, "trial": 2, "at_most": 3, "rmse": 1.5},
    ),
    (
        ExperimentDoubted(experiment_id=3, reason="too good", seeds=SEEDS),
        {"event": "experiment.doubted", "level": "warning", "experiment_id": 3, "reason": "too good"},
    ),
    (
        ChampionReplaced(experiment_id=3, champion_id=2, value=1.5),
        {"event": "champion.replaced", "level": "warning", "experiment_id": 3, "champion_id": 2, "rmse": 1.5},
    ),
)


@pytest.mark.parametrize(("event", "line"), EXPECTED)
def test_an_event_is_logged_with_its_facts(tmp_path: Path, event: Event, line: dict[str, object]) -> None:
    """Under its kind, harmless for a terminal, its score under the metric's name."""
    assert [line] == logged(tmp_path, event)


def test_what_says_nothing_to_a_reader_is_not_logged(tmp_path: Path) -> None:
    """The record has it."""
    assert [] == logged(tmp_path, ReplyReceived(reply=Reply(proposer="scripted")))


def test_an_experiment_is_logged_with_the_head_of_the_record(tmp_path: Path) -> None:
    """What a log that is kept elsewhere can hold against a record that was changed; a cheat is a warning."""
    with Journal.open(tmp_path) as journal, log_to(tmp_path, screen=False):
        journal.subscribe(partial(log_lines.log_event, metric="val_bpb"))
        begin(journal)
        finish(journal, kept(2.0))
        head = journal.head()
        begin(journal)
        finish(journal, kept(2.0, id=1, status=Status.CHEAT, score=None, reason="it lied", needs_review=True))
    lines = [json.loads(line) for line in (tmp_path / "session.log").read_text().splitlines()]
    finished = [line for line in lines if line["event"] == "experiment.finished"]

    assert [(0, "keep", 2.0, head, "info"), (1, "cheat", None, lines[3]["head"], "warning")] == [
        (line["experiment_id"], line["status"], line["val_bpb"], line["head"], line["level"]) for line in finished
    ]
    assert {"reason": "it lied", "needs_review": True}.items() <= finished[1].items()
