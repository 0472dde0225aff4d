"""What `make bench` stores, and what the documentation makes of it."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as frame
from benchmarks import growth, loop_start, report
from benchmarks.idle_share import at
from benchmarks.prompt_growth import fill
from orchestrator.events import ContainerStarted, SessionStarted
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import NAME
from orchestrator.types import Environment, Role
from tests.support.journals import begin


def test_the_documentation_is_what_the_results_say() -> None:
    """The generated part equals what is made of the stored results: nothing in it is typed."""
    text = report.DOCS.read_text(encoding="utf-8")

    assert report.insert(text, report.render(report.load_results())) == text


def test_every_stored_result_is_of_a_benchmark_that_exists() -> None:
    """And each benchmark has a module that says in a sentence what it measures."""
    assert {result["name"] for result in report.load_results()} <= frame.NAMES.keys()
    assert all(frame.describe(module).endswith(".") for module in frame.NAMES.values())
    assert sorted(frame.NAMES) == [line.split()[0] for line in frame.list_names().splitlines()]


def test_the_report_tells_command_machine_and_lines() -> None:
    """A result is shown with all that it printed."""
    result = {
        "name": "growth", "command": "make bench NAME=growth", "date": "2026-11-27", "machine": "2 x a, 4 GiB",
        "load": 0.5, "lines": ["100 experiments", "", "growth: fast"],
    }  # fmt: skip

    part = report.render([result])

    assert "### growth" in part
    assert "`make bench NAME=growth`, 2026-11-27, 2 x a, 4 GiB, load 0.5" in part
    assert "    100 experiments\n\n    growth: fast" in part
    with pytest.raises(ValueError, match="put them back"):
        report.insert("no marks", part)


def test_a_benchmark_stores_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With command, machine and date, beside what it wrote itself; a failed one stores nothing."""
    monkeypatch.setattr(frame, "BUILD", tmp_path)
    monkeypatch.setattr(frame, "NAMES", {"one": "growth"})
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\necho line\necho "one: $4"\necho \'{{"more": 1}}\' > {tmp_path}/one.json\nexit ${{CODE:-0}}\n'
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))

    assert 0 == frame.run("one", ["7"])
    stored = json.loads((tmp_path / "one.json").read_text())
    assert (1, ["line", "one: 7"]) == (stored["more"], stored["lines"])
    assert 'make bench NAME=one ARGS="7"' == stored["command"]
    assert {"date", "machine", "load", "name"} <= stored.keys()

    monkeypatch.setenv("CODE", "3")
    assert 3 == frame.run("one", [])
    assert "lines" not in json.loads((tmp_path / "one.json").read_text())

    monkeypatch.setattr(sys, "argv", ["bench", "none"])
    assert 1 == frame.main()
    assert "no such benchmark" in capfd.readouterr().err


def test_growth_measures_every_view(tmp_path: Path) -> None:
    """Of a real record, each view in a process of its own; the line has all of them."""
    fill(tmp_path, 0, 12)
    with Journal.open(tmp_path) as journal:
        (best := journal.champion()) and best.experiment.folder.mkdir()
        assert best is not None
        (best.experiment.folder / "train.py").write_text("x = 1\n")

    found = {view: growth.measure(view, tmp_path) for view in ("status", "verify", "index", "report")}

    assert all(one["ms"] > 0 and one["mib"] > 1 for one in found.values())
    line = growth.describe(12, 37, {"prompt": {"ms": 5.0, "clock_ms": 7.0, "mib": 9.0}, **found}, 1200)
    assert "12 experiments: prompt 5 (7) ms, status " in line
    assert line.endswith("100 bytes each")


def test_the_steps_of_a_loop_that_starts_are_read_from_its_record(tmp_path: Path) -> None:
    """Each once, the trainer and no other container, while the last line is still being written."""
    before = loop_start.read_times(tmp_path)
    with Journal.open(tmp_path) as journal:
        journal.append(SessionStarted(task="t", metric="m", proposer="sweep", environment=Environment()))
        number = begin(journal)
        for role in (Role.SCORER, Role.TRAINER, Role.TRAINER):
            started = ContainerStarted(experiment_id=number, role=role, container_id="c", deadline_s=1.0)
            journal.append(started)
    record = tmp_path / NAME
    written = [json.loads(line) for line in record.read_text().splitlines()]
    record.write_bytes(record.read_bytes() + b'{"kind":')
    found = loop_start.read_times(tmp_path)

    assert {} == before
    assert {*loop_start.STEPS} == found.keys()
    assert [at(written[line]["at"]) for line in (0, 1, 3)] == [found[step] for step in loop_start.STEPS[1:]]
