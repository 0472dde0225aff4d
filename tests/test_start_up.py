"""A command imports what it needs and no more; nothing here is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from orchestrator.cli import app, lazy
from orchestrator.types import PARTS
from tests.support.commands import load_commands
from tests.support.runs import recorded

PROGRAM = """
import json, sys
from orchestrator.cli import main
sys.argv = ["autoresearch", *json.loads(sys.argv[1])]
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
ONLY_FOR_EXPERIMENTS = {"torch", "anthropic", "docker", "ray"}


def imported(*words: str) -> set[str]:
    """The modules that a command imports."""
    argv = [sys.executable, "-c", PROGRAM, json.dumps(words)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_help_imports_nothing_that_it_does_not_print() -> None:
    """Neither what experiments need, nor a single command."""
    found = imported("--help")

    assert "typer" in found
    assert set() == found & {*ONLY_FOR_EXPERIMENTS, "numpy", "pydantic", "structlog", "orchestrator.cli.run"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs with one in it."""
    return recorded(tmp_path_factory.mktemp("task")).parent


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["runs"], ["lineage"]])
def test_what_looks_at_a_run_imports_nothing_that_runs_one(words: list[str], runs: Path) -> None:
    """Neither the engine's client nor the LLM's, nor what makes a page."""
    found = imported(*words, "--runs", str(runs))

    assert "orchestrator.record.journal" in found
    assert set() == found & {
        *ONLY_FOR_EXPERIMENTS,
        "jinja2",
        "pydantic_settings",
        "structlog",
        "orchestrator.settings",
        "orchestrator.compose",
    }


@pytest.mark.parametrize("words", [["verify"], ["reindex"], ["diff", "0", "1"], ["logs", "0"]])
def test_what_needs_no_estimate_imports_nothing_that_learns_one(words: list[str], runs: Path) -> None:
    """Numpy is a quarter of what `status` waits for."""
    found = imported(*words, "--task", str(runs.parent / "none"), "--runs", str(runs))

    assert "orchestrator.policy" in found
    assert set() == found & {*ONLY_FOR_EXPERIMENTS, "jinja2", "numpy", "orchestrator.compose"}


def test_what_finds_its_work_done_imports_nothing_that_does_it(tmp_path: Path) -> None:
    """Every target of make that needs the data begins with it, but the loop's, which looks itself."""
    made = imported("new", str(tmp_path / "task"))
    for part in PARTS:
        (tmp_path / "task" / "data" / "cpu-python" / part).mkdir(parents=True)
        (tmp_path / "task" / "data" / "cpu-python" / part / "manifest.json").write_text("{}")
    prepared = imported("prepare-data", "--task", str(tmp_path / "task"))

    assert set() == made & {*ONLY_FOR_EXPERIMENTS, "numpy", "structlog", "orchestrator.compose"}
    assert "orchestrator.config" in prepared
    assert set() == prepared & {*ONLY_FOR_EXPERIMENTS, "structlog", "orchestrator.compose"}


def test_the_help_lists_each_command_as_it_describes_itself() -> None:
    """It reads their modules without importing them."""
    listed, loaded = get_group(app).commands, load_commands()
    modules = Path(lazy.__file__).parent.glob("*.py")
    defining = {path.stem for path in modules if '@app.command("' in path.read_text(encoding="utf-8")}

    assert {"loop", "status", "verify", "version"} <= listed.keys()
    assert {name: command.help for name, command in loaded.items()} == {name: one.help for name, one in listed.items()}
    assert {"__init__", *lazy.MODULES} == defining
