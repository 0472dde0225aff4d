"""Two runs side by side."""

from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.records.journal import Journal
from orchestrator.report import compare
from orchestrator.types import Status, Usage
from tests.journals import kept


def run(folder: Path, *scores: float, task: str = "language-model", **changes: object) -> Path:
    """A run whose experiments take half an hour and a dollar each; what is no improvement is discarded."""
    with Journal.open(folder) as journal:
        journal.note("session.started", {"task": task, "facts": {}, "proposer": "claude"})
        best = float("inf")
        for number, score in enumerate(scores):
            status = Status.KEEP if score < best else Status.DISCARD
            best = min(best, score)
            values = {
                "id": number,
                "parent_id": 0 if number else None,
                "status": status,
                "duration_s": 1800.0,
                "usage": Usage(cost_usd=1.0),
                **changes,
            }
            journal.finish(kept(score, folder=folder / f"{number:04d}", **values))
    return folder


def test_the_best_so_far_is_known_on_every_axis(tmp_path: Path) -> None:
    """By ideas, by hours of the device and by dollars; before the baseline has ended there is none."""
    found = compare.course(run(tmp_path / "a", 2.0, 1.5, 1.8, 1.2))

    assert [2.0, 1.5, 1.5, 1.2] == [found.best_at("experiments", n) for n in range(4)]
    assert [None, 2.0, 1.5, 1.2] == [found.best_at("hours", hours) for hours in (0.4, 0.5, 1.7, 2.0)]
    assert 1.2 == found.best_at("usd", 1000.0)
    assert (3.0, 2.0, 4.0) == tuple(found.whole(axis) for axis in compare.AXES)


def test_runs_are_printed_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the same points of each axis and at their ends; what makes them incomparable is said first."""
    one = compare.course(run(tmp_path / "a", 2.0, 1.5, 1.8, 1.2))
    two = compare.course(run(tmp_path / "b", 1.9, 1.7, task="sorting", hardware="A100"))
    compare.compare(one, two, Console(width=120))
    printed = capsys.readouterr().out

    assert "note: not of one task: 'language-model' and 'sorting'" in printed
    assert "not on the same hardware" in printed
    assert ["a", "1.5000", "1.2000", "at", "3"] in [line.split() for line in printed.splitlines()]
    assert ["b", "1.7000", "1.7000", "at", "1"] in [line.split() for line in printed.splitlines()]


def test_a_run_that_measured_its_best_again_is_told_truly(tmp_path: Path) -> None:
    """A second run of the best is no idea, and may raise the best so far."""
    folder = run(tmp_path / "a", 2.0, 1.5)
    with Journal.open(folder) as journal:
        journal.finish(kept(1.7, id=2, status=Status.DISCARD, measures=1, folder=folder / "0002"))
    found = compare.course(folder)

    assert 1.0 == found.whole("experiments")
    assert pytest.approx(1.6) == found.best_at("usd", 99)


def test_the_page_holds_nothing_but_numbers_and_names(tmp_path: Path) -> None:
    """Private, self-contained, and a run's name cannot open a tag."""
    one, two = (compare.course(run(tmp_path / name, 2.0, 1.5)) for name in ("a", "<b onload=x>"))
    path = tmp_path / "page.html"
    compare.write(path, one, two)
    text = path.read_text()

    assert 0o600 == path.stat().st_mode & 0o777
    assert "Content-Security-Policy" in text
    assert "onload=x" not in text
    assert "<b " not in text[: text.index("<script>")]
    assert "2.0,1.5" in text
    assert '"hours of the device"' in text
    assert '"experiments"' in text
