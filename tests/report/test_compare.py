"""Two runs side by side."""

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser
from rich.console import Console

from orchestrator.events import SessionStarted
from orchestrator.look import compare
from orchestrator.look.history import describe_environment
from orchestrator.record.journal import Journal
from orchestrator.types import Environment, Status, Usage
from tests.support.journals import finish, kept


def run(folder: Path, *scores: float, task: str = "language-model", **changes: object) -> Path:
    """A run whose experiments take half an hour and a dollar each; what is no improvement is discarded."""
    with Journal.open(folder) as journal:
        journal.append(SessionStarted(task=task, metric="val_bpb", proposer="claude", environment=Environment()))
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
            finish(journal, kept(score, folder=folder / f"{number:04d}", **values))
    return folder


def test_the_best_so_far_is_known_on_every_axis(tmp_path: Path) -> None:
    """By ideas, by device hours and by dollars; before the baseline has ended there is none."""
    found = compare.load_curve(run(tmp_path / "a", 2.0, 1.5, 1.8, 1.2))

    assert [2.0, 1.5, 1.5, 1.2] == [found.best_at("experiments", n) for n in range(4)]
    assert [None, 2.0, 1.5, 1.2] == [found.best_at("hours", hours) for hours in (0.4, 0.5, 1.7, 2.0)]
    assert 1.2 == found.best_at("usd", 1000.0)
    assert (3.0, 2.0, 4.0) == tuple(found.total(axis) for axis in compare.AXES)


def test_runs_are_printed_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the same points of each axis and at their ends; what makes them incomparable is said first."""
    one = compare.load_curve(run(tmp_path / "a", 2.0, 1.5, 1.8, 1.2))
    two = compare.load_curve(run(tmp_path / "b", 1.9, 1.7, task="sorting", hardware="A100"))
    compare.print_comparison(one, two, Console(width=120))
    printed = capsys.readouterr().out

    assert "note: different tasks: 'language-model' and 'sorting'" in printed
    assert "different conditions (hardware was none, is A100)" in printed
    assert ["a", "1.5000", "1.2000", "at", "3"] in [line.split() for line in printed.splitlines()]
    assert ["b", "1.7000", "1.7000", "at", "1"] in [line.split() for line in printed.splitlines()]


def test_a_run_that_measured_its_best_again_is_told_truly(tmp_path: Path) -> None:
    """A second run of the best is no idea, and may raise the best so far."""
    folder = run(tmp_path / "a", 2.0, 1.5)
    with Journal.open(folder) as journal:
        finish(journal, kept(1.7, id=2, status=Status.DISCARD, remeasures_id=1, folder=folder / "0002"))
    found = compare.load_curve(folder)

    assert 1.0 == found.total("experiments")
    assert pytest.approx(1.6) == found.best_at("usd", 99)


def test_less_than_an_hour_is_told_in_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0.25 hours say little."""
    one, two = (compare.load_curve(run(tmp_path / name, 2.0, 1.5, duration_s=450.0)) for name in "ab")
    compare.print_comparison(one, two, Console(width=120))
    printed = capsys.readouterr().out

    assert "by device minutes" in printed
    assert "1.5000 at 15" in printed


def test_a_run_without_a_score_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And is on no other hardware for that."""
    one = compare.load_curve(run(tmp_path / "a", 2.0, 1.5, hardware="A100"))
    two = compare.load_curve(run(tmp_path / "b"))
    compare.print_comparison(one, two, Console(width=120))
    compare.write(tmp_path / "page.html", one, two)
    printed = capsys.readouterr().out

    assert "note: b: no score yet" in printed
    assert "hardware" not in printed
    assert '<p class="note">b: no score yet</p>' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_read_on_any_screen(
    tmp_path: Path, browser: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    """No sideways scrolling, panels wide enough for their words, ink that stands out, the metric's name."""
    one, two = (compare.load_curve(run(tmp_path / name, 2.0, 1.5, 1.2)) for name in "ab")
    compare.write(tmp_path / "page.html", one, two)
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"file://{tmp_path / 'page.html'}")
    page.wait_for_selector("#panel2 .trace", state="attached")
    boxes = [page.locator(f"#panel{number}").bounding_box() for number in range(3)]
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    words, title, x = (page.locator(f"#panel0 .{name}").first for name in ("xtick text", "ytitle", "xtitle"))

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert all(box and box["width"] >= 280 for box in boxes)
    assert (scheme == "dark") == (brightness(ink) > brightness(paper))
    assert abs(brightness(words.evaluate("e => getComputedStyle(e).fill")) - brightness(paper)) > 80
    assert ("best so far: val_bpb, lower is better", "experiments") == (title.text_content(), x.text_content())
    assert 2 == len({page.locator(f"#panel0 .tracerun{n} path.js-line").evaluate(STROKE) for n in (1, 2)})
    assert [] == complaints
    context.close()


STROKE = "e => getComputedStyle(e).stroke"


def brightness(colour: str) -> float:
    """Of rgb(r, g, b)."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


def test_the_page_holds_nothing_but_numbers_and_names(tmp_path: Path) -> None:
    """Private, self-contained, and a run's name cannot open a tag."""
    one, two = (compare.load_curve(run(tmp_path / name, 2.0, 1.5)) for name in ("a", "<b onload=x>"))
    path = tmp_path / "page.html"
    compare.write(path, one, two)
    text = path.read_text()

    assert 0o600 == path.stat().st_mode & 0o777
    assert "Content-Security-Policy" in text
    assert "onload=x" not in text
    assert "<b " not in text[: text.index("<script>")]
    assert "2.0,1.5" in text
    assert '"device hours"' in text
    assert '"experiments"' in text


def test_budgets_and_limits_are_shown_with_the_environment() -> None:
    """What a trial was given, beside where it ran; nothing where an old record does not say."""
    environment = Environment(hardware="A100", settings={"time_budget_s": "300", "cpus": "8"})

    expected = [("hardware", "A100"), ("budgets and limits", "cpus 8, time_budget_s 300")]
    assert expected == describe_environment(environment)
    assert [("hardware", "A100")] == describe_environment(Environment(hardware="A100"))
