"""New tasks of every kind are whole, and a task of an upstream-style checkout says what it lacks."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.config import load
from orchestrator.errors import ConfigError
from orchestrator.trust.controls import list_controls
from orchestrator.types import Stages
from orchestrator.walls import locked_files

ROOT = Path(__file__).parents[2]
UPSTREAM = ROOT / "tests" / "scripts" / "upstream"


def checkout(folder: Path) -> Path:
    """An upstream-style checkout."""
    folder.mkdir()
    for name in ("prepare.py", "train.py"):
        (folder / name).write_bytes((UPSTREAM / name).read_bytes())
    (folder / "program.md").write_text("# Research\n\nLower val_bpb: `uv run train.py`, then results.tsv.\n")
    return folder


@pytest.mark.parametrize("stages", list(Stages))
def test_a_new_task_of_each_kind_is_whole(tmp_path: Path, stages: Stages) -> None:
    """It loads, has the locked files of its stages, and controls of its own or ours."""
    folder = tmp_path / "mine"
    done = CliRunner().invoke(app, ["new", str(folder), "--stages", stages])
    config = load(folder, {"tag": "t", "runs": folder / "runs"})

    assert 0 == done.exit_code, done.output
    assert stages is config.task.stages
    assert set(locked_files.WANTED[stages]) <= {path.name for path in locked_files.files(folder, stages)}
    assert {"baseline", "broken", "forging"} == {control.name for control in list_controls(config)}


def test_a_checkout_is_adopted_as_it_is_and_told_what_an_audit_needs(tmp_path: Path) -> None:
    """Its files are only read; its program is taken byte for byte; each need names its line."""
    source = checkout(tmp_path / "upstream")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    done = CliRunner().invoke(app, ["new", str(tmp_path / "mine"), "--from", str(source)])

    assert 0 == done.exit_code, done.output
    assert before == {path.name: path.read_bytes() for path in source.iterdir()}
    assert before["train.py"] == (tmp_path / "mine" / "mutable" / "train.py").read_bytes()
    assert (tmp_path / "mine" / "locked" / "kernels.py").is_file()
    needs = done.output.partition("needs:\n")[2]
    numbers = [int(number) for number in re.findall(r"^  line (\d+):", needs, re.MULTILINE)]

    assert numbers == sorted(numbers) and 5 < len(numbers)
    assert "line 11: evaluate_bpb is here at L0 only; for L2 leave it out" in needs
    assert "line 11: make_dataloader is here at L0 only; for L2 take prepare.dataloader(batch_size, length)" in needs
    assert "line 11: TIME_BUDGET is 300 in its own prepare.py, and " in needs
    assert "program.md speaks of results.tsv, uv run, which the loop does itself: take that out" in needs
    assert "load_model(path, device) is missing" in done.output
    assert "--scoring self-reported" in done.output


def test_what_is_no_checkout_is_refused_by_the_file_that_is_missing(tmp_path: Path) -> None:
    """And a folder inside of the checkout is not written to."""
    source = checkout(tmp_path / "upstream")
    inside = CliRunner().invoke(app, ["new", str(source / "task"), "--from", str(source)])
    (source / "train.py").unlink()
    without = CliRunner().invoke(app, ["new", str(tmp_path / "mine"), "--from", str(source)])

    assert isinstance(inside.exception, ConfigError)
    assert "is in the checkout" in str(inside.exception)
    assert "train.py: cannot be read" in str(without.exception)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('direction = "lower"', 'direction = "up"', "task.direction = 'up': Input should be 'lower' or 'higher'"),
        ("[0.0, 1000.0]", "[5.0, 1.0]", "task.range = [5.0, 1.0]: the first number must be lower than the second"),
        ('keep = "improve"', 'keep = "threshold"', '[task] keep = "threshold" and threshold = NUMBER belong together'),
        ('stages = "score"', 'stages = "scores"', "task.stages = 'scores': Input should be 'train, predict, score'"),
        ('metric = "distance"', "", "key 'task.metric' is missing; add it"),
        ('stages = "score"', "", "key 'profile.cpu.time_budget_s' is missing; add it"),
        ("[limits]", '[noise]\nrule = "estimate"\n[limits]', 'with noise = "none" in [task] it must be "lowest"'),
    ],
)
def test_a_wrong_key_of_a_task_is_named_with_its_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, expected: str
) -> None:
    """In one line, with the file."""
    monkeypatch.delenv("AUTORESEARCH_NOISE__RULE", raising=False)
    folder = tmp_path / "mine"
    CliRunner().invoke(app, ["new", str(folder), "--stages", "score"])
    path = folder / "task.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError) as refused:
        load(folder, {"tag": "t", "runs": folder / "runs"})

    assert str(refused.value).startswith(f"{path}: ")
    assert expected in str(refused.value)
    assert 1 == len(str(refused.value).splitlines())
