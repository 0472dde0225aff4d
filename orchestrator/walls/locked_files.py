"""The files of a task that no experiment may change, and what of them comes with the orchestrator.

A task's `locked/` holds `prepare.py`, `make_data.py`, `predict.py`, `score.py` and what these import. The rest is the
same for every task and comes from `orchestrator/runtime/`: the guard, the frames between scorer and predictors, the
scorer's channel to the host, the harness, the reader of corpora.
"""

import hashlib
from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.walls import staging

OURS = Path(__file__).parents[1] / "runtime"
WANTED = ("prepare.py", "make_data.py", "predict.py", "score.py")
SHARED = ("guard.py", "frames.py", "channel.py", "harness.py", "corpus.py", "texts.py", "export_checkpoint.py")


def files(root: Path) -> list[Path]:
    """List all of them, by name; the task's own ones win. Raises ConfigError."""
    own = {path.name: path for path in (root / "locked").glob("*.py")}
    if missing := [name for name in WANTED if name not in own]:
        raise ConfigError(
            f"{root / 'locked' / missing[0]}: no such file; a task brings {', '.join(WANTED)} (docs/tasks.md)"
        )
    found = {name: OURS / name for name in SHARED} | own
    return [found[name] for name in sorted(found)]


def copy(root: Path, target: Path) -> None:
    """Copy to new inodes: a read-only mount is not an integrity boundary for shared ones."""
    for path in files(root):
        staging.put(target / path.name, path.read_bytes())


def hashes(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files(root)}
