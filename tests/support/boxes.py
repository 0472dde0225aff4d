"""One trainer's container around a few lines of Python, for tests and probes."""

import textwrap
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.types import ExecutionResult, Role
from orchestrator.units import MIB
from orchestrator.walls import container_labels
from orchestrator.walls.container import RunningContainer, start
from orchestrator.walls.engine import Engine
from orchestrator.walls.seccomp import adapt_for_runtime
from orchestrator.walls.spec import ContainerSpec, Mount, Resources

ROOT = Path(__file__).parents[2]
SMALL = Resources(memory=256 * MIB, cpus=1.0, pids=64, tmp=16 * MIB, cache=16 * MIB, shm=16 * MIB, files=256)
ENVIRONMENT = {
    "AUTORESEARCH_PROFILE": "cpu",
    "AUTORESEARCH_TIME_BUDGET": "20",
    "AUTORESEARCH_SEED": "1",
    "HOME": "/tmp",
    "USER": "sandbox",
    "TMPDIR": "/tmp",
    "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
    "TRITON_CACHE_DIR": "/cache/triton",
    "PYTHONPATH": "/locked",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "PATH": "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Where containers are started: an engine, an image, a profile, a folder for files and records."""

    engine: Engine
    image_id: str
    seccomp: str
    folder: Path
    runtime: str = ""

    def spec(
        self, source: str, *, hard_limit_s: float = 30.0, mounts: tuple[Mount, ...] = (), **changed: Any
    ) -> ContainerSpec:
        """The trainer that runs `source`, with private copies of the locked files."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        private = self.folder / name
        (private / "locked").mkdir(parents=True)
        for path in (*(ROOT / "locked").glob("*.py"), *(ROOT / "orchestrator" / "runtime").glob("*.py")):
            (private / "locked" / path.name).write_bytes(path.read_bytes())
        (private / "train.py").write_text(textwrap.dedent(source), encoding="utf-8")
        labels = container_labels.owner_labels(
            tag="test", experiment_id=0, attempt=1, role="trainer", dies_in_s=hard_limit_s
        )
        fields: dict[str, Any] = {
            "role": Role.TRAINER,
            "name": name,
            "image_id": self.image_id,
            "program": ("python3", "-s", "-B", "/mutable/train.py"),
            "hard_limit_s": hard_limit_s,
            "mounts": (
                Mount(source=str(private / "locked"), target="/locked"),
                Mount(source=str(private / "train.py"), target="/mutable/train.py"),
                *mounts,
            ),
            "resources": replace(SMALL, pids=256) if "runsc" in self.runtime else SMALL,  # its own threads count too
            "environment": ENVIRONMENT,
            "labels": labels,
            "seccomp": adapt_for_runtime(self.seccomp, self.runtime),
            "runtime": self.runtime,
        }
        return ContainerSpec(**{**fields, **changed})

    def run(self, source: str, *, deadline_s: float = 20.0, **changed: Any) -> ExecutionResult:
        """Run it to its end."""
        with self.started(source, deadline_s=deadline_s, **changed) as running:
            return running.wait()

    @contextmanager
    def started(self, source: str, *, deadline_s: float = 20.0, **changed: Any) -> Iterator[RunningContainer]:
        """Start it; removed at the end of the block."""
        spec = self.spec(source, **changed)
        with start(self.engine, spec, deadline_s=deadline_s, folder=self.folder) as running:
            yield running
