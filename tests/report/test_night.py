"""From a journal to what the page says: the best as it came and went, lineage, sums, the data of the plots."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.errors import JournalError
from orchestrator.events import ExperimentCommitted, ExperimentFinished, Revision
from orchestrator.look import figures
from orchestrator.look.details import FactTable, byte_limits, detail_block
from orchestrator.look.history import RunHistory, load_history, make_entries
from orchestrator.look.lineage import trace_lineage
from orchestrator.look.report import Report
from orchestrator.look.summary import summarise
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, Status, Trial, Usage
from tests.support import fakes
from tests.support.journals import begin, finish, kept
from tests.support.nights import write_run
from tests.support.sessions import session, task


def history(*experiments: Experiment) -> RunHistory:
    """Return a run that is not in a journal."""
    return RunHistory(tag="t", at="", entries=make_entries(experiments))


def line(number: int, parent: int | None, value: float = 1.0) -> Experiment:
    """A kept experiment."""
    return kept(value, id=number, parent_id=parent)


def test_a_chain_is_one_lane() -> None:
    """Each made from the one before it."""
    found = trace_lineage([line(0, None), line(2, 0), line(5, 2)])

    assert [(0, None), (0, 0), (0, 0)] == [(node.lane, node.parent_lane) for node in found]
    assert [False, False, True] == [node.ends for node in found]


def test_a_stale_parents_child_has_a_lane_of_its_own() -> None:
    """3 and 4 were both made from 0; 5 goes on from 3, 6 from 4."""
    found = {n.experiment.id: n for n in trace_lineage([line(*p) for p in ((0, None), (3, 0), (4, 0), (5, 3), (6, 4))])}

    assert {0: 0, 3: 0, 4: 1, 5: 0, 6: 1} == {number: node.lane for number, node in found.items()}
    assert (1, 0) == (found[4].lane, found[4].parent_lane)
    assert (1,) == found[5].passing
    assert [5, 6] == [number for number, node in found.items() if node.ends]


def test_a_gain_is_over_the_parent() -> None:
    """Not over the best before it."""
    found = trace_lineage([line(0, None, 2.0), line(1, 0, 1.5), line(2, 0, 1.4)])

    assert [None, -0.5, pytest.approx(-0.6)] == [node.gain for node in found]


def test_the_best_goes_back_where_it_did_not_hold(tmp_path: Path) -> None:
    """A kept experiment that was measured again, and worse: the line says so."""
    with Journal.open(tmp_path) as journal:
        for number, (value, measures) in enumerate(((2.0, None), (1.8, None), (2.4, 1))):
            status = Status.KEEP if measures is None else Status.DISCARD
            experiment = kept(
                value, id=number, status=status, remeasures_id=measures, parent_id=number - 1 if number else None
            )
            begin(journal)
            finish(journal, experiment)
        found = load_history(journal)

    assert [2.0, 1.8, 2.0] == [entry.after for entry in found.entries]
    assert found.champion is not None and 0 == found.champion.id


def test_what_ended_first_comes_first(tmp_path: Path) -> None:
    """Where several ran at once, the best before an experiment is the best when it ended, whatever its number."""
    with Journal.open(tmp_path) as journal:
        for _ in range(3):
            begin(journal)
        for number, value in ((0, 2.0), (2, 1.8), (1, 1.5)):
            finish(journal, kept(value, id=number, parent_id=0 if number else None))
        found = load_history(journal)
    steps = next(trace for trace in figures.draw_best_so_far(found)["data"] if trace["uid"] == "best")

    assert {0: None, 2: 2.0, 1: 1.8} == {entry.experiment.id: entry.before for entry in found.entries}
    assert ([0, 1, 2, 2], [2.0, 1.8, 1.5, 1.5]) == (steps["x"], steps["y"])


def test_sums_and_reasons_are_the_journals(night: Path) -> None:
    """Counts without the baseline, every dollar, refusals by their reason with the experiments they happened to."""
    with Journal.read(night.parent) as journal:
        found, experiments, spent = load_history(journal), journal.experiments(), journal.spent()
    facts = summarise(found)
    cheats = tuple(e.id for e in experiments if e.status is Status.CHEAT)

    assert spent.experiments == facts.counts["all"] == 40 - spent.inconclusive
    assert 40 == sum(n for name, n in facts.counts.items() if name != "all")
    assert spent.usage.cost_usd == facts.cost_usd
    assert ("cheat", cheats) == (facts.reasons[0].status, facts.reasons[0].ids)
    assert facts.best is not None and min(e.value for e in experiments if e.value) == facts.best.experiment.value
    assert pytest.approx(sum(e.duration_s for e in experiments)) == facts.device_seconds


@pytest.mark.parametrize("figure", [figures.draw_best_so_far, figures.draw_outcomes])
def test_plots_are_plotlys(tmp_path: Path, figure: Callable[[RunHistory], dict[str, Any]]) -> None:
    """Plotly's own schema accepts every word; numbers and our own words are all there is."""
    with Journal.read(write_run(tmp_path / "n", 8, lambda _, words: f"<b>{words}</b>")) as journal:
        data = figure(load_history(journal))
    go.Figure(**data)

    assert "<b>" not in json.dumps(data)


def test_every_experiment_is_a_point_and_outliers_are_within_sight() -> None:
    """What is far worse lies at the edge, said to be off the scale; what has no score lies below."""
    worse = [kept(1.1 + n / 100, id=n + 1, status=Status.DISCARD) for n in range(10)]
    crash = kept(0.0, id=12, status=Status.CRASH, score=None)
    figure = figures.draw_best_so_far(history(kept(1.0), *worse, kept(9.0, id=11, status=Status.DISCARD), crash))
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
    folder = write_run(tmp_path / "n", 1)
    file = folder / "0000" / "scorer.created.json"
    created = json.loads(file.read_text())
    created[path[0]][path[1]] = value
    file.write_text(json.dumps(created))
    shared = FactTable()
    with Journal.read(folder) as journal:
        block = detail_block(journal, load_history(journal).entries[0], byte_limits(2), shared, "val_bpb")
        details = json.loads(block)
    scorer = details["trials"][0]["containers"][3]

    assert "scorer" == details["verdict"].rpartition(": ")[2].rstrip(".")
    assert said in [shared.facts[number].name for number in scorer["facts"] if shared.facts[number].good is False]
    assert any(line.startswith(".".join(path)) for line in scorer["differences"])


def test_details_shrink_where_there_are_many() -> None:
    """A page of a hundred thousand experiments would still open."""
    assert sum(b.both for b in byte_limits(32).values()) > 4 * sum(b.both for b in byte_limits(4096).values())


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
        loop.journal.subscribe(Report(config.run_path).handle)
        reason = run_session(loop)

    assert "2 experiments done" == reason
    assert [0, 1, 2] == sizes


def test_a_verdict_that_was_revised_is_shown_as_it_is_now(tmp_path: Path) -> None:
    """Though the details of the experiment are in an earlier build; so is its commit."""
    with Journal.open(tmp_path / "n") as journal:
        for number, value in enumerate((2.0, 1.8)):
            begin(journal)
            finish(journal, kept(value, id=number, parent_id=number - 1 if number else None))
        report = Report(journal.folder)
        before = report.build().read_text()
        journal.append(ExperimentCommitted(experiment_id=0, commit="c0ffee"))
        cheat = kept(1.7, id=begin(journal), remeasures_id=1, status=Status.CHEAT)
        revision = Revision(experiment_id=1, status=Status.CHEAT, reason="it cheated when it was measured again")
        journal.append(ExperimentFinished(experiment=cheat, revisions=(revision,)))
        after = report.build().read_text()

    assert (False, True) == tuple("it cheated when" in page[page.index('id="d1"') :] for page in (before, after))
    assert (False, True) == tuple("c0ffee" in page for page in (before, after))


def test_the_command_says_where_the_page_is_and_what_is_wrong(tmp_path: Path) -> None:
    """No run, a record of a newer version: one line; nothing is written."""
    write_run(tmp_path / "n", 1)
    run = CliRunner()
    done = run.invoke(cli.app, ["report", "--runs", str(tmp_path)])
    (tmp_path / "n" / "report.html").unlink()
    record = tmp_path / "n" / "record.jsonl"
    record.write_text(record.read_text().replace('"format":2', '"format":99'))
    newer = run.invoke(cli.app, ["report", "--runs", str(tmp_path)])
    missing = run.invoke(cli.app, ["report", "--runs", str(tmp_path), "--run", "none"])

    assert f"report: {tmp_path}/n/report.html\n" == done.output
    assert isinstance(newer.exception, JournalError) and "newer" in str(newer.exception)
    assert isinstance(missing.exception, JournalError)
    assert not (tmp_path / "n" / "report.html").exists()


def test_money_of_replies_that_became_nothing_is_told_too(tmp_path: Path) -> None:
    """The sum of the run is what was charged, not what experiments carry."""
    folder = write_run(tmp_path / "n", 2)
    with Journal.open(folder) as journal:
        call = journal.reserve(Usage(cost_usd=5.0))
        journal.settle(call, Usage(cost_usd=1.25))
        facts = summarise(load_history(journal))

    assert pytest.approx(1.25) == facts.unused_usd
