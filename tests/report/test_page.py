"""The report in a real browser: what a person finds in it, by mouse, by keyboard, on a small screen and on paper."""

import stat
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.report.conftest import Seen


def opened(page: Page, number: int) -> None:
    """The record of an experiment is what one looks at."""
    expect(page.locator("#sheet")).to_be_visible()
    expect(page.locator("#sheet-title")).to_have_text(f"Experiment {number}")


def test_one_file_for_its_owner_that_asks_for_nothing(night: Path, seen: Seen) -> None:
    """Mode 0600; opened without a request, an error, a dialog or a word on the console."""
    page = seen.open(night)

    assert 0o600 == stat.S_IMODE(night.stat().st_mode)
    assert 41 == page.locator("#table tbody tr").count()
    assert 41 == page.locator("#staircase path.point").count()


def test_a_point_opens_its_experiment(night: Path, seen: Seen) -> None:
    """Hovering tells what it was, choosing shows its record."""
    page = seen.open(night)
    point = page.locator("#staircase .tracekeep path.point").nth(3)
    point.hover(force=True)

    expect(page.locator("#tip")).to_contain_text("#7")
    point.click(force=True)
    opened(page, 7)


def test_a_row_opens_its_experiment(night: Path, seen: Seen) -> None:
    """By mouse."""
    page = seen.open(night)
    page.locator("#table tr[data-id='12'] .idea").click()

    opened(page, 12)


def test_search_and_status_filter(night: Path, seen: Seen) -> None:
    """Words and statuses narrow the table; nothing found is said."""
    page = seen.open(night)
    rows = page.locator("#table tbody tr:visible")
    page.locator("#search").fill("rotary")
    assert 0 < rows.count() < 41
    assert all("Rotary" in text for text in rows.all_inner_texts())
    page.locator("#search").fill("no such words")

    expect(page.locator("#nothing")).to_be_visible()
    page.locator("#search").fill("")
    page.locator(".chip[data-status='keep']").click()
    assert {"keep"} == {row.get_attribute("data-status") for row in rows.all()}
