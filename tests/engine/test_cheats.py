"""A few cheats and honest controls through the real containers; `make cheats` runs all of them."""

from pathlib import Path

import pytest

from attacks.scores.run import Judged, chosen, run_all

FAST = chosen([], fast=True)
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Judged]:
    """Everything at once: two containers share two cores better one after the other than each alone."""
    results = run_all(FAST, tmp_path_factory.mktemp("cheats"), jobs=2, heard=lambda *_: None)
    return {result.entry.path: result for result in results}


@pytest.mark.parametrize("path", [e.path for e in FAST if not e.honest], ids=lambda path: path.stem)
def test_a_cheat_is_refused_or_gets_its_true_score(judged: dict[Path, Judged], path: Path) -> None:
    """Its attack takes place, and gains it nothing."""
    result = judged[path]

    assert not result.our_fault
    assert "" == result.missed
    assert not result.believed


@pytest.mark.parametrize("path", [e.path for e in FAST if e.honest], ids=lambda path: path.stem)
def test_an_honest_model_gets_a_score(judged: dict[Path, Judged], path: Path) -> None:
    """No false alarm."""
    assert not judged[path].refused
