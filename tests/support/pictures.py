"""The pictures at the beginning of README, from a recorded run: its live view during a training, and its report.

.venv/bin/python -m tests.support.pictures runs/nov27 docs/images
"""

import re
import shutil
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from orchestrator.events import ContainerStarted, ExperimentBegun
from orchestrator.look.live_view import LINES, LiveView
from orchestrator.look.report import Report
from orchestrator.record import record_file
from orchestrator.record.journal import Journal
from orchestrator.types import Role

COLUMNS, SCREEN_ROWS = 100, 26
PAGE = {"width": 1000, "height": 780}
TRAINED_S = 14.0  # how long the last experiment has trained when the picture is taken
MAX_BYTES = 150_000
OWN_FONTS = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # nothing from a network


def draw_live_view(run: Path) -> str:
    """Return the live view of a run's last training as SVG."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, run.name)
        folder.mkdir()
        begun, started = cut(run, folder)
        console = Console(
            file=StringIO(),
            record=True,
            width=COLUMNS,
            height=SCREEN_ROWS,
            force_terminal=True,
            color_system="truecolor",
        )
        with Journal.read(folder) as journal:
            view = LiveView(tag=run.name, console=console, goal=begun, metric=journal.metric())
            view.attach(journal)
            at = (datetime.now(UTC) - timedelta(seconds=TRAINED_S)).isoformat()
            for recorded in journal.events_after(started - 1):
                if isinstance(recorded.event, ExperimentBegun | ContainerStarted):
                    view.handle(replace(recorded, at=at))
        for line in read_output(run / f"{begun:04d}" / f"{Role.TRAINER}.log")[-LINES:]:
            view.show_output(begun, Role.TRAINER, line)
        console.print(view.render())
    return console.export_svg(title="make loop", theme=MONOKAI, code_format=OWN_FONTS, unique_id="live")


def cut(run: Path, folder: Path) -> tuple[int, int]:
    """Copy a record up to the start of its last trainer; return that experiment, and the seq at which it began."""
    with Journal.read(run) as journal:
        last = [r for r in journal.events(ContainerStarted) if r.event.role is Role.TRAINER][-1]
        number = last.event.experiment_id
        first = next(r for r in journal.events(ContainerStarted, number) if r.event.role is Role.TRAINER)
        begun = journal.events(ExperimentBegun, number)[0]
    with (run / record_file.NAME).open(encoding="utf-8") as lines:
        kept = [line for seq, line in enumerate(lines, start=1) if seq <= first.seq]
    (folder / record_file.NAME).write_text("".join(kept), encoding="utf-8")
    for path in run.glob("[0-9][0-9][0-9][0-9]"):
        shutil.copytree(path, folder / path.name)
    return number, begun.seq


def read_output(log: Path) -> list[str]:
    """Return what a trainer had printed by then."""
    lines = [re.fullmatch(r"\[ *([\d.]+) out\] (.*)", line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [found[2] for found in lines if found and float(found[1]) <= TRAINED_S]


def photograph_report(run: Path, target: Path) -> None:
    """Write the beginning of a run's report and its curve as PNG, without what stands between them."""
    page = Report(run).build()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport=PAGE)  # type: ignore[arg-type]
        tab.goto(page.as_uri())
        tab.evaluate("document.querySelector('section.answers').remove()")
        tab.wait_for_timeout(1500)
        tab.screenshot(path=target)
        browser.close()


def main(run: Path, folder: Path) -> None:
    """Write both pictures; fail if one is too large or names a folder of this machine."""
    svg = draw_live_view(run)
    (folder / "live-view.svg").write_text(svg, encoding="utf-8")
    photograph_report(run, folder / "report.png")
    for path in (folder / "live-view.svg", folder / "report.png"):
        if path.stat().st_size > MAX_BYTES or str(run.resolve().parent).encode() in path.read_bytes():
            sys.exit(f"{path}: {path.stat().st_size} bytes, or it names {run.resolve().parent}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
