"""Prepared data, before a session begins on it."""

import shutil
from pathlib import Path

import pytest

from orchestrator import compose
from orchestrator.config import load
from orchestrator.errors import ConfigError
from orchestrator.host import data
from tests.support.boxes import ROOT


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A copy of the prepared data in a task directory of its own."""
    shutil.copy(ROOT / "task.toml", tmp_path)
    shutil.copytree(ROOT / "locked", tmp_path / "locked")
    shutil.copytree(ROOT / "data" / "cpu-python", tmp_path / "data" / "cpu-python")
    return tmp_path / "data" / "cpu-python"


@pytest.mark.engine
def test_a_session_begins_on_the_training_set_that_was_prepared(prepared: Path) -> None:
    """Hashed as a whole by the host, as trainers check large files by their size only: one byte is named."""
    config = load(prepared.parents[1], {"tag": "t", "runs": prepared})
    compose.connect_engine(config).close()
    shard = next((prepared / "train").glob("tokens-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match=r"tokens-000000.bin does not match its manifest; remove .*, then run"):
        compose.connect_engine(config)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": {"tokens-000000.bin": 1}}', '{"files": {"gone": {"sha256": 1}}}']
)
def test_a_manifest_that_says_nothing_is_named(prepared: Path, text: str) -> None:
    """With the fix."""
    (prepared / "train" / "manifest.json").write_text(text)
    with pytest.raises(ConfigError, match=r"train/manifest.json: it or a file it lists cannot be read .*; remove"):
        data.check_train(prepared)
