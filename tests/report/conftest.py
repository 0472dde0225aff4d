"""A real browser, and runs to look at in it. A missing browser fails."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from orchestrator.look.report import Report
from tests.support.nights import write_run

DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium from the distribution; `tests/chromium.sh` installs it."""
    path = shutil.which("chromium")
    assert path, "Chromium is missing; tests/chromium.sh installs it"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def nights() -> Iterator[Path]:
    """Where runs are made up: in memory if possible, for a journal waits for the disk at every event."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def night(nights: Path) -> Path:
    """The page of a run of forty experiments of every status."""
    return Report(write_run(nights / "nov23", 40)).build()


@dataclass(frozen=True, slots=True)
class Seen:
    """A page that is open, and all that it should not have done."""

    page: Page
    complaints: list[str] = field(default_factory=list)  # console, errors, dialogs, requests

    def open(self, path: Path, fragment: str = "") -> Page:
        """Open a file and wait for its plots; from then on every complaint is noted."""
        address = f"file://{path}"
        page = self.page
        page.on("console", lambda said: self.complaints.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda popup: self.complaints.append(f"popup: {popup.url}"))
        page.on("request", lambda request: self._asked(request.url, address))
        page.goto(address + fragment)
        page.wait_for_selector("#outcomes .point", state="attached")
        return page

    def _asked(self, url: str, address: str) -> None:
        if url.partition("#")[0] != address:
            self.complaints.append(f"request: {url}")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A window on a desktop."""
    opened = browser.new_context(viewport=DESKTOP)
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


@pytest.fixture
def seen(context: BrowserContext) -> Iterator[Seen]:
    """A page, which must have complained of nothing at the end of a test."""
    watched = Seen(context.new_page())
    yield watched

    assert [] == watched.complaints


SETTLED_S = 10.0


def settled(page: Page, what: str) -> bool:
    """Whether something becomes true in time; asked from here, as the page's own policy lets nothing ask in it."""
    deadline = time.monotonic() + SETTLED_S
    while not page.evaluate(what):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
