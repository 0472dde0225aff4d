"""The command line as its reader meets it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.prompt_growth import fill
from orchestrator.cli import app, look, main
from orchestrator.cli.options import STARTED_BY, Target, find_interrupted
from orchestrator.cli.run import next_steps
from orchestrator.config import load
from orchestrator.errors import JournalError
from orchestrator.events import SessionEnded, SessionFailed, SessionStarted
from orchestrator.look import figures
from orchestrator.look.history import load_history
from orchestrator.look.live_view import LiveView
from orchestrator.look.report import Report
from orchestrator.look.summary import summarise
from orchestrator.record.journal import Journal
from orchestrator.record.run_status import describe_status
from orchestrator.types import Environment, Status
from tests.support.commands import load_commands
from tests.support.journals import begin, finish, kept
from tests.support.runs import recorded

COMMANDS = load_commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_all_of_what_it_says_of_itself(name: str) -> None:
    """Nothing of it is taken for markup: [retention] once vanished."""
    result = CliRunner().invoke(app, [name, "--help"])

    assert "".join((COMMANDS[name].help or "missing").split()) in "".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loop", "--max-usd", "ten"], "--max-usd: Input should be a valid number, unable to parse string as a number"),
        (["export", "--format", "xml"], "--format: 'xml' is not one of 'tsv', 'csv', 'parquet', 'tensorboard'."),
        (["diff", "1"], "B: is missing"),
        (["status", "--run", "a", "b"], "Got unexpected extra argument(s) (b)"),
    ],
)
def test_words_that_are_not_taken_are_said_in_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option as it is typed, and the exit is not zero."""
    monkeypatch.setattr(sys, "argv", ["autoresearch", *words])
    with pytest.raises(SystemExit) as ended:
        main()

    assert 2 == ended.value.code
    assert f"error: {said}\n" == capsys.readouterr().err


@pytest.mark.parametrize("name", ["prepare-data", "build-cache", "loop", "calibrate", "confirm"])
def test_what_starts_containers_takes_the_advice_that_it_gives(name: str) -> None:
    """An unsafe machine is refused with "or --accept-risk NAME"."""
    assert "--accept-risk" in [word for option in COMMANDS[name].params for word in option.opts]


def session_of(task: str) -> SessionStarted:
    """Return the start of a session of a task."""
    return SessionStarted(task=task, metric="val_bpb", proposer="claude", environment=Environment())


def said(*arguments: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


def test_what_pauses_a_run_says_what_resumes_that_run(tmp_path: Path) -> None:
    """By its name, and where it is; one that was not paused is not said to go on, nor one that no loop runs."""
    at = ("--run", "b3", "--runs", str(tmp_path))
    with Journal.open(tmp_path / "b3"):
        assert f"paused: b3; resume it with `autoresearch resume --run b3 --runs {tmp_path}`\n" == said("pause", *at)
        assert "resumed: b3\n" == said("resume", *at)
        assert "b3 was not paused\n" == said("resume", *at)
    said("pause", *at)

    assert f"b3 is no longer paused; resume it with `autoresearch loop --run b3 --runs {tmp_path}`\n" == said(
        "resume", *at
    )


def test_status_begins_with_what_goes_on(tmp_path: Path) -> None:
    """The tag; then the experiment that runs, a pause, a wait, or why it ended; show says of one that it runs."""
    at = ("--runs", str(tmp_path), "--run", "b3")
    with Journal.open(tmp_path / "b3") as journal:
        told = [describe_status(journal)]
        journal.append(session_of("t"))
        told += [describe_status(journal)]
        begin(journal)
        told += [said("status", *at).splitlines()[0], json.loads(said("status", *at, "--json"))["state"]]
        with pytest.raises(JournalError, match="experiment 0 is running; see `autoresearch watch --run b3`"):
            said("show", "0", *at)
        said("pause", *at)
        told += [describe_status(journal)]
        finish(journal, kept(2.0))
        told += [describe_status(journal)]
        said("resume", *at)
    with Journal.read(tmp_path / "b3") as journal:
        told += [describe_status(journal)]
    with Journal.open(tmp_path / "b3") as journal:
        journal.append(SessionEnded(reason="$3.00 spent", limit_reached=True))
    told += [said("status", *at).splitlines()[0]]

    running = "running experiment 0: warm up longer"
    assert ["waiting, between two experiments"] * 2 + [f"b3: {running}", running, f"{running}, paused"] == told[:5]
    gone = "ended unexpectedly; resume it with `autoresearch loop --run b3`"
    assert ["paused", gone, "b3: ended: $3.00 spent"] == told[5:]


def test_status_of_a_long_run_lists_the_newest(tmp_path: Path) -> None:
    """It says how many came before; --all lists all, and so does the status for programs."""
    (tmp_path / "long").mkdir()
    fill(tmp_path / "long", 0, look.LISTED + 30)
    Journal.open(tmp_path / "long").close()
    at = ("--task", str(tmp_path), "--runs", str(tmp_path), "--run", "long")

    short, whole = said("status", *at).splitlines(), said("status", *at, "--all").splitlines()

    assert "30 earlier experiments; --all lists them" == short[1]
    assert ["30", "31"] == [line.split()[0] for line in short[3:5]]
    assert look.LISTED + 30 == len([line for line in whole if set(line.split()[1:2]) & set(Status)])
    assert look.LISTED + 30 == len(json.loads(said("status", *at, "--json"))["experiments"])


def test_the_same_command_goes_on_the_day_after(tmp_path: Path) -> None:
    """With the newest run of this task, if that was cut short; it is said, and that a name begins another."""
    config = load(tmp_path, {"tag": "any", "runs": recorded(tmp_path).parent})
    with Journal.open(config.runs / "t") as journal:
        journal.append(SessionFailed(reason="a start that failed is not a session"))
    found = [find_interrupted(config)]
    with Journal.open(config.runs / "t") as journal:
        journal.append(session_of(config.task.name))
        found += [find_interrupted(config)]
    found += [find_interrupted(config)]
    with Journal.open(config.runs / "t") as journal:
        journal.append(SessionEnded(reason="interrupted", limit_reached=False))
        journal.append(SessionFailed(reason="a start that failed is not a session"))
    other = Path(shutil.copytree(config.runs / "t", config.runs / "other"))
    with Journal.open(other) as journal:
        journal.append(session_of("another one"))
    found += [find_interrupted(config)]

    assert [("", ""), ("", ""), ("t", "was interrupted"), ("t", "ended: interrupted")] == found
    command = ("loop", "--task", str(tmp_path), "--proposer", "replay")
    goes_on = "resuming t, whose last session ended: interrupted; use --run NAME to start another\n"
    assert goes_on == CliRunner().invoke(app, command).output
    assert "" == CliRunner().invoke(app, (*command, "--run", "new")).output


def test_the_end_of_a_loop_says_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report, the best, and whether that was luck if it is more than the baseline; all of this run."""
    run, at, here = recorded(tmp_path), Target(), Target(task=Path("here"))
    where = "--run t --task here"
    steps = [f"autoresearch report {where}", f"autoresearch show 3 {where}", f"autoresearch confirm 3 {where}"]
    assert steps == [*next_steps(run, here)]
    assert steps[:2] == [*next_steps(run, here, holdout=False)]
    with Journal.open(tmp_path / "new") as journal:
        assert ["autoresearch report --run new"] == [*next_steps(journal.folder, at)]
        finish(journal, kept(2.0))
        steps = ["autoresearch report --run new", "autoresearch show 0 --run new"]
        assert steps == [*next_steps(journal.folder, at)]
    monkeypatch.setenv(STARTED_BY, "make")

    where = "RUN=t TASK=here"
    assert [f"make report {where}", f"make show EXP=3 {where}", f"make confirm EXP=3 {where}"] == [
        *next_steps(run, here)
    ]


def test_every_view_counts_experiments_in_one_way(tmp_path: Path) -> None:
    """Without the baseline and the best measured again; what was not judged apart, and its number as none."""
    at = ("--runs", str(tmp_path))
    with Journal.open(tmp_path / "n") as journal:
        (tmp_path / "n" / "0000").mkdir()
        finish(journal, kept(2.0))
        for number, value, changes in (
            (1, 3.5, {"status": Status.CONTENDED}),
            (2, 4.5, {"status": Status.DISCARD}),
            (3, 2.0, {"status": Status.DISCARD, "remeasures_id": 0}),
        ):
            finish(journal, kept(value, id=number, parent_id=0, **changes))
        history = load_history(journal)
        view = LiveView(tag="n", console=Console(width=80), goal=4)
        view.attach(journal)
    listed = said("status", *at)
    with view.console.capture() as watched:
        view.console.print(view.render())
    words = "1 experiment, 1 more not judged"
    contended = next(trace for trace in figures.draw_best_so_far(history)["data"] if trace["uid"] == "contended")

    assert f"n                best 2.000000 value (measured, mean of 2 trials), {words}\n" == said("runs", *at)
    assert f"\n{words}\n" in listed
    assert "1 of 4 experiments, 1 more not judged ·" in watched.get()
    assert f": 4 rows; {words}\n" in said("export", "--format", "csv", "--out", str(tmp_path / "n.csv"), *at)
    assert {"all": 1, "discarded": 1, "inconclusive": 1}.items() <= summarise(history).counts.items()
    assert ("3.5000" in listed, "4.5000" in listed) == (False, True)
    assert ([0], "y2") == (contended["y"], contended["yaxis"])


def test_what_a_person_ended_is_no_failure(tmp_path: Path) -> None:
    """Ctrl-C is shown as such, wherever the status is; and nothing has ended in a report while something runs."""
    at = ("--runs", str(tmp_path))
    with Journal.open(tmp_path / "n") as journal:
        (tmp_path / "n" / "0000").mkdir()
        finish(journal, kept(2.0, proposer="claude", model="claude-opus-4-5", repeat_scores=(2.0, 2.1)))
        begin(journal)
        finish(journal, kept(2.5, id=1, parent_id=0, status=Status.INFRA, score=None, interrupted=True))
        journal.append(SessionEnded(reason="interrupted", limit_reached=False))
        told = [Report(journal.folder).build().read_text()]
        journal.append(session_of("t"))
        begin(journal)
        told += [Report(journal.folder).build().read_text()]

    assert ["Last session ended: interrupted." in page for page in told] == [True, False]
    assert '<use href="#m-infra"/></svg>interrupted</span>' in told[0]
    assert "proposals by claude-opus-4-5" in told[0]
    assert "(\N{GREEK SMALL LETTER SIGMA}&nbsp;=&nbsp;0.07" in told[0]
    assert " 1  interrupted " in said("status", *at)
    assert "status    interrupted" in said("show", "1", *at)
