"""The control of a probe on an engine that maps users: only unmapped may it share the host's namespaces."""

from contextlib import closing
from pathlib import Path

import pytest

from attacks.walls.own_engine import own_engine
from attacks.walls.weak import WeakEngine, Weaker
from orchestrator.walls.container import start
from tests.engine.test_engine_restart import load_image, sleeper

pytestmark = pytest.mark.engine


def test_the_weak_container_starts_where_users_are_mapped(tmp_path: Path, seccomp: str, unique: str) -> None:
    """In the host's network, processes and IPC, as the groups of attacks need it."""
    with (
        own_engine(settings={"userns-remap": "default"}) as address,
        closing(WeakEngine.connect(address)) as engine,
    ):
        engine.weaker = Weaker(host={"NetworkMode": "host", "PidMode": "host", "IpcMode": "host"})
        spec = sleeper(load_image(address, tmp_path), seccomp, unique)
        with start(engine, spec, deadline_s=20.0, folder=tmp_path) as running:
            state = engine.inspect(running.id)["State"]

    assert state["Running"]
