"""What a task tells the proposer besides its instructions."""

from pathlib import Path
from typing import NoReturn

import pytest

from orchestrator import compose
from orchestrator.config import load
from orchestrator.errors import EngineUnavailable
from orchestrator.record.journal import Journal
from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[1]


def test_only_a_task_with_a_brief_needs_an_engine_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of a cluster may have none, and a task without brief.py is not slowed by one."""

    def connect() -> NoReturn:
        raise EngineUnavailable("no engine here")

    monkeypatch.setattr(Engine, "connect", connect)
    with Journal.open(tmp_path / "t") as journal:
        without = load(ROOT, {"tag": "t", "runs": tmp_path})

        assert "" == compose.make_brief(without, journal)
        with pytest.raises(EngineUnavailable):
            compose.make_brief(load(ROOT / "examples" / "drift", {"tag": "t", "runs": tmp_path}), journal)
