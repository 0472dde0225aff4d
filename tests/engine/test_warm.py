"""A compile cache filled by the human's train.py and found by an experiment's, on the real engine."""

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator import compose
from orchestrator.config import load
from orchestrator.host.compile_cache_build import build
from orchestrator.record.git_branch import ResultBranch
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role
from orchestrator.walls import compile_cache
from orchestrator.walls.engine import Engine
from orchestrator.walls.experiment_sandbox import ExperimentSandbox

ROOT = Path(__file__).parents[2]
SOURCE = """
import os
from pathlib import Path

KEPT = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], "deep/er/graph.so")


def load_model(path, device):
    return None


if __name__ == "__main__":
    print("budget:", os.environ["AUTORESEARCH_TIME_BUDGET"])
    print("found:", KEPT.read_text() if KEPT.exists() else "nothing")
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text("compiled by the human's file")
    KEPT.with_name("link").symlink_to("/etc/passwd")
    Path("/out/checkpoint.pt").write_text("x")
"""
pytestmark = pytest.mark.engine


def test_what_the_humans_file_compiled_is_there_for_every_trainer(tmp_path: Path, engine: Engine, unique: str) -> None:
    """Copied out without the links, handed out again, and what an experiment does to its copy is gone with it."""
    for name in ("locked", "mutable"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", tmp_path / "task.toml")
    (tmp_path / "data").symlink_to(ROOT / "data")
    path = tmp_path / "mutable" / "train.py"
    path.write_text(SOURCE)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@localhost"]
    for words in (["init", "-q"], ["add", "mutable"], ["commit", "-qm", "mine"]):
        subprocess.run([*git, *words], check=True)
    config = load(tmp_path, {"tag": unique, "runs": tmp_path / "runs"})
    place = compose.build_execution_context(config, engine)
    said: list[str] = []
    made = build(place, ResultBranch(path=path, tag=unique), said.append)

    assert ["budget: 60", "found: nothing"] == said
    assert ["inductor/deep/er/graph.so"] == list(made.files)
    assert place.warm is None
    place = compose.build_execution_context(config, engine)
    assert place.warm is not None
    for _ in range(2):
        assert "found: compiled by the human's file" in trained(place, tmp_path)
    assert made.files == getattr(compile_cache.find(compile_cache.folder(config), "", place.image_id), "files", None)


def trained(place: compose.ExecutionContext, folder: Path) -> str:
    """What an experiment's trainer printed; it overwrites what it finds."""
    source = SOURCE.replace("compiled by the human's file", "poison")
    reply = Reply(proposer="p", model="", prompt="", text="")
    candidate = Candidate(
        proposal=Proposal(hypothesis="h"), source=source, parent_id=None, parent_source="", reply=reply
    )
    (folder / "record").mkdir(exist_ok=True)
    with ExperimentSandbox.open(place, candidate, Plan.draw(), experiment_id=1, folder=folder / "record") as box:
        return box.start(Role.TRAINER, best=None, on_line=lambda _: None).wait().log_tail
