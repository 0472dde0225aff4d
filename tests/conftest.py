"""What every test may ask for: the real engine, the real image, the real profile. A missing engine fails."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parent.parent
settings.register_profile("shared machine", deadline=None)  # how long an example takes says who else is busy
settings.load_profile("shared machine")
for _name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of the make that runs the tests
    os.environ.pop(_name, None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs in its background ignore Ctrl-C


@pytest.fixture(scope="session")
def seccomp() -> str:
    """The profile that every experiment runs under."""
    return (ROOT / "sandbox" / "seccomp.json").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine on this machine; raises EngineUnavailable, with what to type, where there is none."""
    with closing(Engine.connect()) as connected:
        yield connected


@pytest.fixture(scope="session")
def image_id(engine: Engine) -> str:
    """The image of the cpu profile; raises ImageMissing, with what to type, where it was not built."""
    return engine.image_id("autoresearch-sandbox:cpu")


@pytest.fixture
def unique() -> str:
    """A name that no other test, and no other run of this one, uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def _scores_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests count experiments; those of estimates say so."""
    monkeypatch.setenv("AUTORESEARCH_NOISE__RULE", "lowest")
