"""The report in a real browser: what a person finds in it, by mouse, by keyboard, on a small screen and on paper."""

import re
import stat
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.report.conftest import Seen, settled


def opened(page: Page, number: int) -> None:
    """The record of an experiment is what one looks at."""
    expect(page.locator("#sheet")).to_be_visible()
    expect(page.locator("#sheet-title")).to_have_text(f"Experiment {number}")


def test_one_file_for_its_owner_that_asks_for_nothing(night: Path, seen: Seen) -> None:
    """Mode 0600; opened without a request, an error, a dialog or a word on the console."""
    page = seen.open(night)

    assert 0o600 == stat.S_IMODE(night.stat().st_mode)
    assert 41 == page.locator("#table tbody tr").count()
    assert 41 == page.locator("#best path.point").count()


def test_a_point_opens_its_experiment(night: Path, seen: Seen) -> None:
    """Hovering tells what it was, choosing shows its record."""
    page = seen.open(night)
    point = page.locator("#best .tracekeep path.point").nth(3)
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
    shown = "status => getComputedStyle(document.querySelector(`#best .trace${status}`)).opacity"
    expect(page.locator("#best .tracediscard").first).to_have_class(re.compile("dim"))
    assert (1.0, True) == (float(page.evaluate(shown, "keep")), float(page.evaluate(shown, "discard")) < 1)


def test_columns_sort_both_ways_and_what_has_no_score_comes_last(night: Path, seen: Seen) -> None:
    """By number, not by text."""
    page = seen.open(night)
    for direction in ("ascending", "descending"):
        page.locator("th[data-key='score'] button").click()
        cells = page.locator("#table td.c-score").all_inner_texts()
        scores = [float(text) for text in cells if text]

        assert direction == page.locator("th[data-key='score']").get_attribute("aria-sort")
        assert sorted(scores, reverse=direction == "descending") == scores
        assert [""] * (41 - len(scores)) == cells[len(scores) :]


def test_by_keyboard_alone(night: Path, seen: Seen) -> None:
    """From the search into the table, down, open, to the next, closed, and back where one was."""
    page = seen.open(night)
    page.keyboard.press("Tab")
    assert "Skip to the experiments" == page.evaluate("document.activeElement.textContent")
    page.locator("#table tr[data-id='4'] a").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    opened(page, 5)
    page.keyboard.press("ArrowRight")
    opened(page, 6)
    page.keyboard.press("ArrowLeft")
    opened(page, 5)
    page.keyboard.press("Escape")

    expect(page.locator("#sheet")).to_be_hidden()
    assert "5" == page.evaluate("document.activeElement.textContent")
    assert not page.url.endswith("#e5")


def test_the_plot_by_keyboard(night: Path, seen: Seen) -> None:
    """Arrows go from experiment to experiment and say each, Enter opens one."""
    page = seen.open(night)
    page.locator("#best").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")

    expect(page.locator("#tip")).to_contain_text("#2")
    expect(page.locator("#live")).to_contain_text("Experiment 2, keep")
    page.keyboard.press("Enter")
    opened(page, 2)


def test_an_address_leads_to_an_experiment(night: Path, seen: Seen) -> None:
    """What one sends to others: the file and #e7. A link to the parent leads on, Back comes back."""
    page = seen.open(night, "#e7")
    opened(page, 7)
    page.locator("#sheet-body .jump").first.click()
    opened(page, 3)
    page.go_back()

    opened(page, 7)


def test_what_exactly_ran_in_experiment_7(night: Path, seen: Seen) -> None:
    """Containers with their walls and ends, score with error and K, the rule, the diff with its signs, the log."""
    page = seen.open(night, "#e7")
    text = page.locator("#sheet-body").text_content() or ""

    for words in (
        "4 containers ran, each matching its request",
        "python3 -s -B /mutable/train.py", "65532:65532", "read-only", "own profile",
        "32768 MiB, peak", "/locked read-only bind", "/out WRITABLE volume", "its claims are in", "exit code 0",
        "20,000", "2.1e-04", "better than the champion", "claude-opus-4-5", "step", "TRIED = 7", "sha256",
    ):  # fmt: skip
        assert words in text
    assert 2 == page.locator("#sheet-body .diff .added").count()
    assert "+TRIED = 7" == page.locator("#sheet-body .diff .added .code").nth(1).text_content()


def test_the_four_questions_are_answered_at_the_top(night: Path, seen: Seen) -> None:
    """The best change, what it cost, what was refused and why, where it ran: above the fold of a desktop."""
    page = seen.open(night)
    answers = page.locator(".answers")
    text = answers.inner_text()

    for words in (
        "Experiment 34",
        "level L2",
        "20,000 positions audited",
        "$",
        "h ",
        "audited and claimed differ",
        "NVIDIA H100",
    ):
        assert words in text
    assert answers.bounding_box()["y"] + answers.bounding_box()["height"] < 900  # type: ignore[index]


CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => rgb(getComputedStyle(e).backgroundColor);
  const back = e => { while (ground(e)[3] === 0) e = e.parentElement; return ground(e); };
  const ratio = e => { const [a, b] = [light(rgb(getComputedStyle(e).color)), light(back(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05); };
  return [...document.querySelectorAll('.badge, .fine, .say, dt, dd, td, .code, .life, .no, h2, h3, a')]
    .filter(e => e.offsetParent).map(e => [ratio(e), e.className || e.tagName]).sort((a, b) => a[0] - b[0])[0];
}"""


def test_it_can_be_read_by_day_and_by_night(night: Path, seen: Seen) -> None:
    """Every text stands out from its ground by 4.5 to 1 at least, of every status and in an open record."""
    page = seen.open(night)
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for fragment in ("#e7", "#"):
            page.evaluate(f"location.hash = '{fragment}'")
            assert settled(page, f"document.getElementById('sheet').open === {str(fragment == '#e7').lower()}")
            found.append(page.evaluate(CONTRAST))

    assert 4 == len(found)
    assert all(least >= 4.5 for least, _ in found), found


def test_paper_holds_the_whole_picture_and_the_whole_record(night: Path, seen: Seen) -> None:
    """The plots fit a sheet of A4; an open record goes on over the page; afterwards all is as before."""
    page = seen.open(night)
    page.evaluate(
        "addEventListener('beforeprint', () => { window.wide = document.querySelector('.main-svg').clientWidth })"
    )
    overview = page.pdf(format="A4")
    wide = page.evaluate("window.wide")
    page.evaluate("location.hash = '#e7'")
    page.wait_for_selector("#sheet-body section")
    record = page.pdf(format="A4")

    assert wide <= 690
    assert all(len(re.findall(rb"/Type\s*/Page[^s]", pdf)) > 1 for pdf in (overview, record))
    assert page.evaluate("document.getElementById('sheet').matches(':modal')")
    assert page.url.endswith("#e7")


def test_a_phone_needs_no_sideways_scrolling(night: Path, browser: Browser) -> None:
    """Nor does anything that is touched get smaller than a fingertip."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = Seen(context.new_page()).open(night)
    spare = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.locator("#table tr[data-id='7']").tap()
    opened(page, 7)
    small = page.evaluate(
        "[...document.querySelectorAll('.bar button')].some(b => b.offsetWidth < 36 || b.offsetHeight < 36)"
    )
    context.close()

    assert (0, False) == (spare, small)
