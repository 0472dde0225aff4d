"""What /proc tells of other people's processes, and what is done where it tells nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import compose
from orchestrator.config import load
from orchestrator.devices import processes
from orchestrator.errors import ConfigError
from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[2]
LOOKS = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from orchestrator.devices import processes
subprocess.run(["mount", "-t", "proc", "-o", "hidepid={level}", "proc", {place!r}], check=True)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(processes.is_hidden(Path({place!r})))
"""  # in a mount namespace of its own


@pytest.mark.parametrize(("level", "hidden"), [(0, False), (1, True), (2, True)])
def test_a_proc_that_hides_others_is_seen(tmp_path: Path, level: int, hidden: bool) -> None:
    """By one who is not root, for whom alone anything is hidden."""
    for folder in (tmp_path, *tmp_path.parents[: len(tmp_path.parents) - 2]):
        folder.chmod(0o755)
    code = LOOKS.format(root=str(ROOT), place=str(tmp_path), level=level)
    done = subprocess.run(["unshare", "-m", sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert str(hidden) == done.stdout.strip()


@pytest.mark.engine
def test_a_gpu_run_is_refused_where_strangers_cannot_be_told(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of calling every run contended; without a GPU nothing depends on it."""
    monkeypatch.setattr(processes, "is_hidden", lambda: True)
    gpu, cpu = (load(ROOT, {"tag": "t", "runs": tmp_path, "profile_name": name}) for name in ("gpu", "cpu"))
    monkeypatch.setattr(Engine, "memory_bytes", lambda _: 0)
    monkeypatch.setattr(Engine, "processors", lambda _: 0)

    with pytest.raises(ConfigError, match=r"hidepid.*mount -o remount"):
        compose.build_execution_context(gpu, engine)
    compose.build_execution_context(cpu, engine)
