"""Boxes on the real engine."""

import os
from pathlib import Path

import pytest

from orchestrator.walls.engine import Engine
from tests.support.boxes import Boxes


@pytest.fixture
def boxes(engine: Engine, image_id: str, seccomp: str, tmp_path: Path) -> Boxes:
    """Where a test starts its containers."""
    return Boxes(
        engine=engine, image_id=image_id, seccomp=seccomp, folder=tmp_path, runtime=os.environ.get("RUNTIME", "")
    )
