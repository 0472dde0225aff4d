"""What a report costs: a night of many experiments, the page made from it, and the time until Chromium has drawn it.

    .venv/bin/python -m benchmarks.report_open [EXPERIMENTS]

The record is made up, with the journal, folders, specs and logs of a real one. Opening is from the start of the
navigation to the drawn plots, by the browser's own clock, best of three.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from orchestrator.look.report import Report
from tests.support.nights import write_run

MB = 1e6
TIMES = 3
DRAWN = "performance.getEntriesByName('drawn').length"


def opened_s(page: Path, experiment: int) -> tuple[float, float]:
    """Measure the seconds until the page is drawn, and until the record of an experiment is shown."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(f"file://{page}")
        tab.wait_for_function(DRAWN, timeout=60_000)
        drawn = tab.evaluate("performance.getEntriesByName('drawn')[0].startTime") / 1000
        shown = tab.evaluate(
            "async id => { const t = performance.now(); location.hash = '#e' + id;"
            " while (!document.getElementById('sheet').open) await new Promise(r => setTimeout(r));"
            " return performance.now() - t }",
            experiment,
        )
        browser.close()
    return drawn, shown / 1000


def main() -> None:
    """Make a night, build its page, open it."""
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    memory = Path("/dev/shm")  # noqa: S108  # a made-up record need not survive; its thousands of fsyncs are not measured
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        run = write_run(Path(folder, "nov23"), experiments - 1)
        report = Report(run)
        started = time.perf_counter()
        page = report.build()
        built = time.perf_counter() - started
        started = time.perf_counter()
        report.build()
        again = time.perf_counter() - started
        print(f"built in {built:.1f} s, again in {again:.1f} s: {page.stat().st_size / MB:.1f} MB")
        times = [opened_s(page, 7) for _ in range(TIMES)]
        print(f"the record of an experiment is shown in {min(shown for _, shown in times):.2f} s")
        print(f"report: {experiments} experiments open in {min(drawn for drawn, _ in times):.2f} s")


if __name__ == "__main__":
    main()
