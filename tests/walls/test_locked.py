"""Which files of a task no experiment may change, and which come with the orchestrator."""

from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.errors import ConfigError
from orchestrator.types import Stages
from orchestrator.walls import locked_files

ROOT = Path(__file__).parents[2]


def test_a_task_brings_its_own_files_and_gets_ours_beside_them(tmp_path: Path) -> None:
    """What it has itself wins; what every task needs is there; what is particular to language models is not."""
    (tmp_path / "locked").mkdir()
    for name in (*locked_files.WANTED[Stages.TRAIN], "frames.py"):
        (tmp_path / "locked" / name).write_text(f"# {name} of the task\n")
    locked_files.copy(tmp_path, tmp_path / "copy")
    found = {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()}

    assert (
        sorted({*locked_files.WANTED[Stages.TRAIN], *locked_files.SHARED})
        == sorted(found)
        == sorted(locked_files.hashes(tmp_path))
    )
    assert "# frames.py of the task\n" == found["frames.py"]
    assert (ROOT / "orchestrator" / "runtime" / "guard.py").read_text() == found["guard.py"]


def test_a_task_without_a_scorer_is_refused(tmp_path: Path) -> None:
    """By the file that is missing and where to read about it."""
    (tmp_path / "locked").mkdir()
    for name in ("prepare.py", "make_data.py", "predict.py"):
        (tmp_path / "locked" / name).touch()
    with pytest.raises(ConfigError, match=r"score\.py: no such file; a task with stages = .* brings .*docs/tasks\.md"):
        locked_files.files(tmp_path)


def test_the_shipped_tasks_are_whole() -> None:
    """The language model and every example."""
    for root in (ROOT, *(path.parent for path in (ROOT / "examples").glob("*/task.toml"))):
        stages = load(root, {"runs": root, "tag": "t"}).task.stages
        shipped = {path.name for path in locked_files.files(root, stages)}

        assert {*locked_files.WANTED[stages], *locked_files.SHARED} <= shipped
