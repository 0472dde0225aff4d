"""What a task tells the proposer besides its instructions: its brief.py reads the kept files, in a container."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from orchestrator.config import Config
from orchestrator.errors import SandboxError
from orchestrator.types import Kept, Role
from orchestrator.walls import locked_files, staging
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import copy_kept, unique_name
from orchestrator.walls.run_once import run_once
from orchestrator.walls.spec import Mount

BRIEF_S = 60.0


def has_brief(config: Config) -> bool:
    """Return whether the task has a brief.py."""
    return (config.root / "locked" / locked_files.BRIEF).is_file()


def run_brief(place: ExecutionContext, kept: Sequence[Kept]) -> str:
    """Return what the task's brief.py prints. Raises SandboxError if it fails."""
    task, root = place.config.task, place.config.root
    with tempfile.TemporaryDirectory() as name, staging.private_folder(Path(name)) as private:
        locked_files.copy(root, private / "locked", task.stages)
        copy_kept(kept, private / "kept", task.mutable.suffix)
        result = run_once(
            place,
            "brief",
            (f"/locked/{locked_files.BRIEF}",),
            role=Role.BRIEF,
            name=unique_name("brief"),
            mounts=tuple(Mount(source=str(private / each), target=f"/{each}") for each in ("locked", "kept")),
            deadline_s=BRIEF_S,
            folder=Path(name),
        )
    if result.exit_code != 0:
        raise SandboxError(
            f"{root / 'locked' / locked_files.BRIEF}: ended with exit code {result.exit_code}: {result.log_tail[-500:]}"
        )
    return result.log_tail
