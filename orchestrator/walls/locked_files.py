"""The files of a task that no experiment may change, and what of them comes with the orchestrator.

A task's `locked/` holds `prepare.py`, `make_data.py`, `predict.py`, `score.py` and what these import. The rest is the
same for every task and comes from `orchestrator/runtime/`: the guard, the frames between scorer and predictors, the
scorer's channel to the host, the harness, the reader of corpora.
"""

import hashlib
from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.types import Stages
from orchestrator.walls import staging

OURS = Path(__file__).parents[1] / "runtime"
WANTED = {
    Stages.TRAIN: ("prepare.py", "make_data.py", "predict.py", "score.py"),
    Stages.ANSWER: ("answer.py", "score.py"),
    Stages.SCORE: ("score.py",),
}
MAKE_DATA, BRIEF = "make_data.py", "brief.py"
SHARED = ("guard.py", "frames.py", "channel.py", "harness.py", "corpus.py", "texts.py", "export_checkpoint.py")


def files(root: Path, stages: Stages = Stages.TRAIN) -> list[Path]:
    """List all of them, by name; the task's own ones win. Raises ConfigError."""
    own = {path.name: path for path in (root / "locked").glob("*.py")}
    if missing := [name for name in WANTED[stages] if name not in own]:
        brings = f'a task with stages = "{stages}" brings {", ".join(WANTED[stages])} (docs/tasks.md)'
        raise ConfigError(f"{root / 'locked' / missing[0]}: no such file; {brings}")
    found = {name: OURS / name for name in SHARED} | own
    return [found[name] for name in sorted(found)]


def copy(root: Path, target: Path, stages: Stages = Stages.TRAIN) -> None:
    """Copy to new inodes: a read-only mount is not an integrity boundary for shared ones."""
    for path in files(root, stages):
        staging.put(target / path.name, path.read_bytes())


def hashes(root: Path, stages: Stages = Stages.TRAIN) -> dict[str, str]:
    """Return the SHA-256 of each, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files(root, stages)}
