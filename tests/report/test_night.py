"""From a journal to what the page says: the best as it came and went, lineage, sums, the data of the plots."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.errors import JournalError
from orchestrator.look import figures
from orchestrator.look.details import FactTable, bounds, detail
from orchestrator.look.history import HistoryEntry, RunHistory, gather
from orchestrator.look.lineage import lineage
from orchestrator.look.report import Report
from orchestrator.look.report_on_finish import Reporting
from orchestrator.look.summary import summary
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, Spent, Status, Trial, Usage
from tests.support import fakes
from tests.support.journals import kept
from tests.support.nights import made
from tests.support.sessions import session, task


def evening(*experiments: Experiment) -> RunHistory:
    """A night that no journal holds."""
    best: float | None = None
    turns = []
    for rank, experiment in enumerate(experiments):
        before, best = best, experiment.value if experiment.status is Status.KEEP else best
        turns.append(HistoryEntry(experiment=experiment, rank=rank, before=before, after=best))
    return RunHistory(
        tag="t", at="", turns=tuple(turns), damaged=(), best=None, spread=None, spent=Spent(), running=(),
        sessions=(), head="", records=0,
    )  # fmt: skip


def line(number: int, parent: int | None, value: float = 1.0) -> Experiment:
    """A kept experiment."""
    return kept(value, id=number, parent_id=parent)


def test_a_chain_is_one_lane() -> None:
    """Each made from the one before it."""
    found = lineage(evening(line(0, None), line(2, 0), line(5, 2)))

    assert [(0, None), (0, 0), (0, 0)] == [(node.lane, node.parent_lane) for node in found]
    assert [False, False, True] == [node.ends for node in found]


def test_a_stale_parents_child_has_a_lane_of_its_own() -> None:
    """3 and 4 were both made from 0; 5 goes on from 3, 6 from 4."""
    found = {
        n.turn.experiment.id: n
        for n in lineage(evening(*(line(*p) for p in ((0, None), (3, 0), (4, 0), (5, 3), (6, 4)))))
    }

    assert {0: 0, 3: 0, 4: 1, 5: 0, 6: 1} == {number: node.lane for number, node in found.items()}
    assert (1, 0) == (found[4].lane, found[4].parent_lane)
    assert (1,) == found[5].passing
    assert [5, 6] == [number for number, node in found.items() if node.ends]


def test_a_gain_is_over_the_parent() -> None:
    """Not over the best before it."""
    found = lineage(evening(line(0, None, 2.0), line(1, 0, 1.5), line(2, 0, 1.4)))

    assert [None, -0.5, pytest.approx(-0.6)] == [node.gain for node in found]


def test_the_best_goes_back_where_it_did_not_hold(tmp_path: Path) -> None:
    """A kept experiment that was measured again, and worse: the line says so."""
    with Journal.open(tmp_path) as journal:
        for number, (value, measures) in enumerate(((2.0, None), (1.8, None), (2.4, 1))):
            status = Status.KEEP if measures is None else Status.DISCARD
            made_one = kept(
                value, id=number, status=status, remeasures_id=measures, parent_id=number - 1 if number else None
            )
            journal.note("experiment.begun", {"retry_of": None}, number)
            journal.finish(made_one)
        found = gather(journal)

    assert [2.0, 1.8, 2.0] == [turn.after for turn in found.turns]
    assert found.best is not None and 0 == found.best.id


def test_what_ended_first_comes_first(tmp_path: Path) -> None:
    """Where several ran at once, the best before an experiment is the best when it ended, whatever its number."""
    with Journal.open(tmp_path) as journal:
        for number in range(3):
            journal.note("experiment.begun", {"retry_of": None}, number)
        for number, value in ((0, 2.0), (2, 1.8), (1, 1.5)):
            journal.finish(kept(value, id=number, parent_id=0 if number else None))
        found = gather(journal)
    steps = next(trace for trace in figures.draw_best_so_far(found)["data"] if trace["uid"] == "best")

    assert {0: None, 2: 2.0, 1: 1.8} == {turn.experiment.id: turn.before for turn in found.turns}
    assert ([0, 1, 2, 2], [2.0, 1.8, 1.5, 1.5]) == (steps["x"], steps["y"])


def test_sums_and_reasons_are_the_journals(night: Path) -> None:
    """Counts without the baseline, every dollar, refusals by their reason with the experiments they happened to."""
    with Journal.read(night.parent) as journal:
        found, experiments, spent = gather(journal), journal.experiments(), journal.spent()
    told = summary(found)
    cheats = tuple(e.id for e in experiments if e.status is Status.CHEAT)

    assert spent.experiments == told.counts["all"] == 40 - spent.inconclusive
    assert 40 == sum(n for name, n in told.counts.items() if name != "all")
    assert spent.usage.cost_usd == told.cost_usd
    assert ("cheat", cheats) == (told.reasons[0].status, told.reasons[0].ids)
    assert told.best is not None and min(e.value for e in experiments if e.value) == told.best.experiment.value
    assert pytest.approx(sum(e.duration_s for e in experiments)) == told.device_seconds


@pytest.mark.parametrize("figure", [figures.draw_best_so_far, figures.outcomes])
def test_plots_are_plotlys(tmp_path: Path, figure: Callable[[RunHistory], dict[str, Any]]) -> None:
    """Plotly's own schema accepts every word; numbers and our own words are all there is."""
    with Journal.read(made(tmp_path / "n", 8, lambda _, words: f"<b>{words}</b>")) as journal:
        data = figure(gather(journal))
    go.Figure(**data)

    assert "<b>" not in json.dumps(data)


def test_every_experiment_is_a_point_and_outliers_are_within_sight() -> None:
    """What is far worse lies at the edge, said to be off the scale; what has no score lies below."""
    worse = [kept(1.1 + n / 100, id=n + 1, status=Status.DISCARD) for n in range(10)]
    crash = kept(0.0, id=12, status=Status.CRASH, score=None)
    figure = figures.draw_best_so_far(evening(kept(1.0), *worse, kept(9.0, id=11, status=Status.DISCARD), crash))
    points = {
        number: y
        for trace in figure["data"]
        for number, y in zip(trace.get("customdata", []), trace["y"], strict=False)
    }
    low, high = figure["layout"]["yaxis"]["range"]

    assert set(range(13)) == points.keys()
    assert high == points[11] < 2
    assert all(low <= points[number] <= high for number in range(12))
    assert "1 worse" in figure["layout"]["annotations"][0]["text"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("HostConfig", "NetworkMode"), "bridge", "network"),
        (("HostConfig", "ReadonlyRootfs"), False, "root file system"),
        (("HostConfig", "CapAdd"), ["SYS_ADMIN"], "capabilities"),
        (("HostConfig", "Privileged"), True, "privileged"),
        (("HostConfig", "Memory"), 0, "memory"),
        (("HostConfig", "PidsLimit"), 0, "processes"),
        (("HostConfig", "SecurityOpt"), ["seccomp=unconfined"], "seccomp"),
        (("Config", "User"), "root", "user"),
    ],
)
def test_a_container_that_was_not_as_asked_is_told(
    tmp_path: Path, path: tuple[str, str], value: object, said: str
) -> None:
    """In the sentence at the top, at the wall that is missing, and field by field."""
    folder = made(tmp_path / "n", 1)
    file = folder / "0000" / "scorer.created.json"
    created = json.loads(file.read_text())
    created[path[0]][path[1]] = value
    file.write_text(json.dumps(created))
    shared = FactTable()
    with Journal.read(folder) as journal:
        told = json.loads(detail(journal, gather(journal).turns[0], bounds(2), shared, "val_bpb"))
    scorer = told["runs"][0]["containers"][3]

    assert "scorer" == told["verdict"].rpartition(": ")[2].rstrip(".")
    assert said in [shared.facts[number].name for number in scorer["facts"] if shared.facts[number].good is False]
    assert any(line.startswith(".".join(path)) for line in scorer["differences"])


def test_details_shrink_where_there_are_many() -> None:
    """A page of a hundred thousand experiments would still open."""
    assert sum(b.both for b in bounds(32).values()) > 4 * sum(b.both for b in bounds(4096).values())


def test_the_report_follows_a_loop(tmp_path: Path) -> None:
    """Built after every experiment; a report that cannot be written stops nothing."""
    config = task(tmp_path, 2)
    page = config.run_path / "report.html"
    sizes = []

    def score(source: str) -> Trial:
        sizes.append(page.read_text().count("<tr data-id=") if page.is_file() else 0)
        if len(sizes) == 3:
            page.unlink()
            page.mkdir()
        return fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.05))

    loop, _, _ = session(config, score, ["0.03", "0.04"])
    with loop.journal:
        reason = run_session(replace(loop, view=Reporting(loop.view, Report(config.run_path))))

    assert "2 experiments done" == reason
    assert [0, 1, 2] == sizes


def test_the_command_says_where_the_page_is_and_what_is_wrong(tmp_path: Path) -> None:
    """No run, a journal of a newer version: one line; nothing is written."""
    made(tmp_path / "n", 1)
    run = CliRunner()
    done = run.invoke(cli.app, ["report", "--runs", str(tmp_path)])
    (tmp_path / "n" / "report.html").unlink()
    with Journal.open(tmp_path / "n") as journal:
        journal._db.execute("PRAGMA user_version = 99")
    newer = run.invoke(cli.app, ["report", "--runs", str(tmp_path)])
    missing = run.invoke(cli.app, ["report", "--runs", str(tmp_path), "--run", "none"])

    assert f"report: {tmp_path}/n/report.html\n" == done.output
    assert isinstance(newer.exception, JournalError) and "newer" in str(newer.exception)
    assert isinstance(missing.exception, JournalError)
    assert not (tmp_path / "n" / "report.html").exists()


def test_money_of_replies_that_became_nothing_is_told_too(tmp_path: Path) -> None:
    """The sum of the run is what was charged, not what experiments carry."""
    folder = made(tmp_path / "n", 2)
    with Journal.open(folder) as journal:
        call = journal.reserve(Usage(cost_usd=5.0))
        journal.settle(call, Usage(cost_usd=1.25))
        told = summary(gather(journal))

    assert pytest.approx(1.25) == told.untied_usd
