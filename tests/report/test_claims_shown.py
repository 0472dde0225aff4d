"""Every view leads with what the newest duel says, what is in doubt, and what can be shown here."""

import html
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.events import DuelEnded, SessionFailed, SessionStarted
from orchestrator.look.history import load_history
from orchestrator.look.live_view import LiveView
from orchestrator.look.page import render_report
from orchestrator.look.report import Report
from orchestrator.look.summary import summarise
from orchestrator.record import claims
from orchestrator.record.journal import Journal
from orchestrator.types import DuelOutcome, Environment, Level, Score, Status
from tests.support.journals import finish, kept

ENDED = DuelEnded(
    champion_id=1, rival_id=0, outcome=DuelOutcome.SHOWN, reason="95% interval of 6 pairs", mean=0.0123, low=0.004,
    high=0.0206, pairs=6, trials=(), environment=Environment(),
)  # fmt: skip
CLAIM = (
    "experiment 1 is better than the baseline: a gain of +0.012 val_bpb, 95 % interval +0.004 to +0.021,"
    " by 6 pairs of new trials"
)


def begin(journal: Journal, *events: DuelEnded) -> None:
    """Record a run that kept a change, not sure of it, and its duels."""
    journal.append(
        SessionStarted(task="t", metric="val_bpb", proposer="sweep", environment=Environment(), rule="estimate")
    )
    finish(journal, kept(2.0, duration_s=30.0))
    finish(journal, kept(1.99, id=1, parent_id=0, gain=0.01, sure=0.7, reason="better with 0.70"))
    finish(journal, kept(2.02, id=2, parent_id=1, status=Status.DISCARD))
    for event in events:
        journal.append(event)


def test_a_claim_is_the_interval_of_the_newest_duel(tmp_path: Path) -> None:
    """Whatever it says; "" before the first one."""
    refuted = replace(ENDED, outcome=DuelOutcome.REFUTED, mean=-0.01, low=-0.02, high=-0.001)
    open_ = replace(ENDED, outcome=DuelOutcome.NOT_SHOWN, low=-0.004)
    failed = replace(ENDED, outcome=DuelOutcome.FAILED, reason="why", mean=None, low=None, high=None)
    with Journal.open(tmp_path) as journal:
        begin(journal)
        told = [claims.describe_claim(journal)]
        for event in (ENDED, refuted, open_, failed):
            journal.append(event)
            told.append(claims.describe_claim(journal))

    assert ["", CLAIM] == told[:2]
    assert told[2].startswith("experiment 1 is worse than the baseline: a gain of -0.01 val_bpb")
    assert told[3].startswith("experiment 1 is not shown to be better than the baseline: ")
    assert "the duel of experiment 1 with the baseline has no result: why" == told[4]


def test_a_change_that_is_not_sure_is_in_doubt_until_trials_show_it(tmp_path: Path) -> None:
    """Of the best file's line only; by all trials, not by those it was kept for."""
    with Journal.open(tmp_path) as journal:
        begin(journal)
        before = claims.find_doubtful(journal)
        for number in range(3, 15):
            value = 1.5 if number % 2 else 2.0
            finish(journal, kept(value, id=number, status=Status.DISCARD, remeasures_id=number % 2))
        after = claims.find_doubtful(journal)

    assert [1] == list(before)
    assert {} == after


def test_the_smallest_gain_is_known_after_two_trials(tmp_path: Path) -> None:
    """That the duels of one night can show; none under another rule."""
    with Journal.open(tmp_path) as journal:
        assert claims.smallest_gain(journal) is None
        begin(journal)
        gain = claims.smallest_gain(journal)

    assert gain is not None
    assert 0 < gain < 1
    assert f"a gain below about {gain:.2g} val_bpb cannot be shown here in one night" == claims_line(tmp_path)


def claims_line(folder: Path) -> str:
    """Return what is said of the smallest gain."""
    with Journal.read(folder) as journal:
        return claims.describe_smallest(journal)


def show(folder: Path, view: str) -> str:
    """Return what a view says of a run, in one line."""
    with Journal.read(folder / "t") as journal:
        if view == "report":
            return " ".join("".join(render_report(load_history(journal), {}, "")).split())
        if view == "live view":
            screen = Console(width=400, file=io.StringIO())
            live = LiveView(tag="t", console=screen, metric="val_bpb")
            live.attach(journal)
            screen.print(live.render())
            return " ".join(screen.file.getvalue().split())  # type: ignore[attr-defined]
    words = [view, "--runs", str(folder), *(["--run", "t"] if view == "status" else [])]
    told = CliRunner().invoke(app, words, catch_exceptions=False)
    return " ".join(told.output.split())


@pytest.mark.parametrize("view", ["status", "report", "live view", "runs"])
def test_views_say_what_the_score_of_the_best_is(tmp_path: Path, view: str) -> None:
    """An estimate with its standard error, the measured mean beside it; measured as long as nothing else is known."""
    with Journal.open(tmp_path / "t") as journal:
        session = SessionStarted(task="t", metric="val_bpb", proposer="sweep", environment=Environment())
        journal.append(replace(session, rule="estimate"))
        finish(journal, kept(2.0, duration_s=30.0))
        (tmp_path / "t" / "0000").mkdir()
        first = show(tmp_path, view)
        for number, value in enumerate((2.02, 2.05, 2.01, 2.06), start=1):
            finish(journal, kept(value, id=number, parent_id=0, status=Status.DISCARD))
        best = journal.champion()

    digits = 4 if view == "live view" else 6
    assert f"{2:.{digits}f} val_bpb" in first
    assert "measured, 1 trial" in first
    assert best is not None
    assert best.estimate_sd is not None
    assert best.value != best.measured
    then = show(tmp_path, view)
    assert f"{best.value:.{digits}f} ± {best.estimate_sd:.2g} val_bpb" in then
    assert f"estimated at this machine's usual load; measured {2:.{digits}f} (1 trial)" in html.unescape(then)


def test_the_report_compares_like_with_like(tmp_path: Path) -> None:
    """Estimate with estimate; a baseline that is still the best has gained nothing over itself."""
    with Journal.open(tmp_path) as journal:
        begin(journal)
        better, history = journal.champion(), load_history(journal)
        known = journal.history().level(journal.experiment(0), better.conditions) if better else None
    with Journal.open(tmp_path / "b") as journal:
        session = SessionStarted(task="t", metric="val_bpb", proposer="sweep", environment=Environment())
        journal.append(replace(session, rule="estimate"))
        for number, value in enumerate((2.0, 2.02, 2.05, 2.01)):
            finish(journal, kept(value, id=number, status=Status.DISCARD if number else Status.KEEP))
        alone = load_history(journal)

    assert better is not None
    assert known is not None
    assert summarise(history).gain == pytest.approx(better.value - known)
    assert summarise(alone).gain is None


@pytest.mark.parametrize(
    "command", [("status",), ("show", "1"), ("lineage",), ("compare", "t", "t"), ("report",)], ids=lambda one: one[0]
)
def test_views_name_the_metric_with_its_unit_and_direction(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Whoever reads a number need not know the task."""
    started = SessionStarted(task="t", metric="accuracy", proposer="sweep", environment=Environment(), rule="estimate")
    runs = tmp_path / "runs"
    with Journal.open(runs / "t") as journal:
        journal.append(replace(started, unit="%", direction="higher"))
        for number, value in enumerate((50.0, 60.0)):
            score = Score(value=value, level=Level.L1, higher_is_better=True)
            finish(journal, kept(value, id=number, parent_id=number - 1 if number else None, score=score))
    where = ["--runs", str(runs), *([] if command[0] == "compare" else ["--run", "t"])]
    done = CliRunner().invoke(app, [*command, *where], env={"COLUMNS": "200"})
    page = runs / "t" / "report.html"

    assert 0 == done.exit_code, done.output
    assert "accuracy in %, higher is better" in (page.read_text() if command[0] == "report" else done.output)


@pytest.mark.parametrize("view", ["status", "report", "live view"])
def test_views_lead_with_the_claim(tmp_path: Path, view: str) -> None:
    """The terminal, the screen and the page: the claim, what is in doubt, what can be shown; no ± of an audit."""
    with Journal.open(tmp_path / "runs" / "t") as journal:
        begin(journal, ENDED)
        doubts, smallest = claims.describe_doubts(journal), claims.describe_smallest(journal)
    page = show(tmp_path / "runs", view)

    assert CLAIM in page
    assert doubts in page
    assert doubts.startswith("in doubt, and may be taken out: experiment 1 (a gain with probability 0.")
    assert smallest in page
    assert "± 0.0e+00" not in page


def test_status_as_json_has_the_figures(tmp_path: Path) -> None:
    """For programs."""
    with Journal.open(tmp_path / "runs" / "t") as journal:
        begin(journal, ENDED)
    command = ["status", "--json", "--run", "t", "--runs", str(tmp_path / "runs")]
    found = json.load(io.StringIO(CliRunner().invoke(app, command).output))

    assert CLAIM == found["claim"]
    assert {"name": "val_bpb", "unit": "", "direction": "lower"} == found["metric"]
    assert {"val_bpb", "standard_error", "measured", "trials", "basis"} == set(found["best_score"])
    assert ["1"] == list(found["in_doubt"])
    assert found["smallest_gain"] > 0


def test_a_run_whose_first_session_failed_has_a_report(tmp_path: Path) -> None:
    """With nothing in it yet."""
    with Journal.open(tmp_path / "t") as journal:
        journal.append(SessionFailed(reason="ANTHROPIC_API_KEY is not set"))

    assert Report(tmp_path / "t").build().read_text().endswith("</html>")
