"""What a program, a patch or a model wrote can neither script, style, link nor hide anything in the report."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from orchestrator.cli.options import open_for_reading
from orchestrator.errors import JournalError
from orchestrator.look.report import Report
from tests.report.conftest import Seen, settled
from tests.support.nights import write_run

EVIL = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)><svg/onload=alert(3)><!--<script> {{ 7 * 7 }} ]]>"
    '</style><style>*{display:none!important}</style><a href="http://127.0.0.1:9/">link</a><b>bold</b><br>%{x}'
    "\"' onclick=alert(4) javascript:alert(5) \x1b[31mred\x1b]8;;http://x/\x07 \u202egnp.exe \u2066\u2028\u2029 \r\x00"
)
SHOWN = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
HIDDEN = "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029\u200b-\u200f]"
LONG = "A" * 200_000


@pytest.fixture(scope="module")
def hostile(nights: Path) -> Path:
    """A night in which every text is an attack with a very long line."""

    def say(field: str, words: str) -> str:
        long = LONG if field in ("hypothesis", "log") else LONG[:5000]
        return f"{words} {EVIL}" if field == "diff" else f"{words} {EVIL} {field} {long}\n{EVIL}"

    return Report(write_run(nights / "evil", 12, say)).build()


def elements(page: Page, selector: str) -> int:
    """How many there are."""
    return page.locator(selector).count()


def test_hostile_text_is_text(hostile: Path, seen: Seen) -> None:
    """Shown as it was written, in the table and in every part of every record, and nothing else comes of it."""
    page = seen.open(hostile)
    before = elements(page, "script"), elements(page, "style")

    assert SHOWN in (page.locator("#table tr[data-id='7'] .idea").text_content() or "")
    assert SHOWN in (page.locator(".answers").text_content() or "")
    for number in range(13):
        page.evaluate(f"location.hash = '#e{number}'")
        assert settled(page, f"document.getElementById('sheet-title').textContent === 'Experiment {number}'")
        page.locator("#sheet details:not([open]) > summary").evaluate_all("all => all.forEach(one => one.click())")
        text = page.locator("#sheet-body").text_content() or ""
        assert text.count(SHOWN) >= 5
    assert (before, 0) == (
        (elements(page, "script"), elements(page, "style")),
        elements(page, "img, iframe, object, embed, base, link, form, video, audio, b:text-is('bold')"),
    )
    assert 2 + 13 + 2 == before[0]
    assert page.evaluate("[...document.links].every(link => /^#e(\\d+|xperiments)$/.test(link.getAttribute('href')))")
    assert not page.evaluate(f"new RegExp({json.dumps(HIDDEN)}).test(document.body.innerText)")
    assert "visible" == page.evaluate("getComputedStyle(document.querySelector('main')).visibility")


def test_every_field_of_the_record_is_there_as_text(hostile: Path, seen: Seen) -> None:
    """The attack in the diff, the log, the prompt and the reply is found where it belongs."""
    page = seen.open(hostile, "#e7")
    page.locator("#sheet details:not([open]) > summary").evaluate_all("all => all.forEach(one => one.click())")

    for where in (".diff .added", "pre.log", "pre.prose", ".say", ".decision"):
        assert SHOWN in "".join(page.locator(f"#sheet-body {where}").all_text_contents()), where


def test_long_lines_do_not_stretch_the_page(hostile: Path, seen: Seen) -> None:
    """No sideways scrolling, neither of the page nor of an open record."""
    page = seen.open(hostile)
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for fragment, of in (("#e7", "#sheet-body"), ("#", "html")):
            page.evaluate(f"location.hash = '{fragment}'")
            assert settled(page, f"document.getElementById('sheet').open === {str(of != 'html').lower()}")
            fits = f"(e => e.scrollWidth === e.clientWidth)(document.querySelector('{of}'))"

            assert settled(page, fits), (width, of)  # the chart is drawn anew for its new width


def heard(server: socket.socket) -> bytes:
    """What callers said; a browser may connect ahead of need, and then ask nothing."""
    try:
        caller, _ = server.accept()
    except BlockingIOError:
        return b""
    with caller:
        caller.settimeout(0.5)
        try:
            return caller.recv(1)
        except TimeoutError:
            return b""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Someone who waits to be called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


ATTACKS = (
    "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')",
    "document.body.append(Object.assign(document.createElement('script'), {textContent: 'alert(1)'}))",
    "document.body.setAttribute('onclick', 'alert(1)'); document.body.click()",
    "document.head.append(Object.assign(document.createElement('style'), {textContent: '*{display:none}'}))",
    "document.body.append(Object.assign(document.createElement('iframe'), {src: 'http://127.0.0.1:SOMEONE/'}))",
    "fetch('http://127.0.0.1:SOMEONE/').catch(() => {})",
    "new Image().src = 'http://127.0.0.1:SOMEONE/'",
    "document.body.append(Object.assign(document.createElement('script'), {src: 'data:text/javascript,alert(1)'}))",
)


def test_the_policy_stops_what_escaping_would_have_missed(
    night: Path, context: BrowserContext, listener: socket.socket
) -> None:
    """Mark-up that came into the page all the same neither runs, styles nor reaches anyone."""
    seen = Seen(context.new_page())
    page = seen.open(night)
    for attack in ATTACKS:
        seen.complaints.clear()
        page.evaluate(f"{attack.replace('SOMEONE', str(listener.getsockname()[1]))}; 0")
        page.wait_for_timeout(200)
        said = [text for text in seen.complaints if not text.startswith("request: ")]  # meant, and then blocked

        assert said, attack
        assert all("Content Security Policy" in text for text in said), attack
        assert b"" == heard(listener), attack
    assert page.locator("main").is_visible()


def test_no_link_is_followed_and_nothing_blocks(tmp_path: Path) -> None:
    """Links to files and folders of the host, a pipe, a gigabyte: named or bounded, and the rest is shown."""
    folder = write_run(tmp_path / "links", 3)
    secret = tmp_path / "secret"
    secret.write_text("the-host's-own-secret")
    for name, put in (
        ("trainer.log", lambda path: path.symlink_to(secret)),
        ("patch.diff", os.mkfifo),
        ("reply.txt", lambda path: path.mkdir()),
    ):
        (folder / "0001" / name).unlink()
        put(folder / "0001" / name)
    with (folder / "0002" / "trainer.log").open("r+b") as file:
        file.truncate(1 << 30)
    (folder / "0003").rename(tmp_path / "elsewhere")
    (folder / "0003").symlink_to(tmp_path / "elsewhere")
    page = Report(folder).build()
    text = page.read_text()

    assert secret.read_text() not in text
    assert 3 == text.count("cannot be read: ") - text.count("this experiment cannot be read: ")
    assert 1 == text.count("the folder of this experiment cannot be read")
    assert page.stat().st_size < 8_000_000


def damage(folder: Path) -> int:
    """Spoil the line of the record on how experiment 2 finished, and return its number."""
    path = folder / "record.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    number = next(
        n for n, line in enumerate(lines) if '"kind":"experiment.finished"' in line and '"experiment_id":2,' in line
    )
    lines[number] = "{" + "x" * (len(lines[number]) - 2) + "\n"
    path.write_text("".join(lines))
    return number + 1


def test_a_record_that_is_damaged_is_named_and_the_rest_is_shown(tmp_path: Path, context: BrowserContext) -> None:
    """A line that is not JSON, in a record without an index; a container's description that is not JSON any more."""
    folder = write_run(tmp_path / "damaged", 3)
    number = damage(folder)
    (folder / "index.db").unlink()
    (folder / "0001" / "trainer.created.json").write_text("[" * 100_000)
    seen = Seen(context.new_page())
    page = seen.open(Report(folder, open_for_reading).build(), "#e1")

    assert 3 == elements(page, "#table tbody tr")
    assert f"line {number}: damaged" in (page.locator(".note.bad").first.text_content() or "")
    assert "experiment 2: " in (page.locator("header .note").first.text_content() or "")
    assert "not on record" in (page.locator("#sheet-body").text_content() or "")
    assert [] == seen.complaints


def test_an_experiment_whose_line_is_damaged_is_shown_as_far_as_the_index_knows_it(
    tmp_path: Path, context: BrowserContext
) -> None:
    """The line is named in its record; its row, its diff and what its folder holds are there."""
    folder = write_run(tmp_path / "damaged", 3)
    number = damage(folder)
    seen = Seen(context.new_page())
    page = seen.open(Report(folder).build(), "#e2")

    assert 4 == elements(page, "#table tbody tr")
    assert f"line {number}: damaged" in (page.locator("#sheet-body .note.bad").first.text_content() or "")
    assert "TRIED = 2" in (page.locator("#sheet-body .diff").text_content() or "")
    assert [] == seen.complaints


def test_an_index_that_is_damaged_is_named(tmp_path: Path) -> None:
    """With what to do; the record is complete."""
    folder = write_run(tmp_path / "damaged", 3)
    with closing(sqlite3.connect(folder / "index.db")) as database, database:
        database.execute("UPDATE experiments SET body = '{}' WHERE id = 2")

    with pytest.raises(JournalError, match=r"index\.db: damaged; delete it: it is rebuilt"):
        Report(folder).build()
    (folder / "index.db").unlink()
    assert 4 == Report(folder).build().read_text().count("<tr data-id=")
