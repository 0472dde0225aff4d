"""Warm compile caches: who may fill them, when they count, and that no experiment can change one."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.config import load
from orchestrator.devices import warm, warming
from orchestrator.devices.warming import own_source
from orchestrator.errors import ConfigError, PatchRejected, SandboxError, SpecRefused
from orchestrator.records.keep import Keeper
from orchestrator.score.thresholds import UNBOUNDED
from orchestrator.types import Role
from orchestrator.walls.place import Place
from orchestrator.walls.spec import Mount, as_config
from tests import fakes
from tests.walls import test_spec

ROOT = Path(__file__).parents[2]
IMAGE = "sha256:fake"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A sealed cache of two files."""
    for name, text in (("inductor/ab/graph.py", "compiled"), ("triton/kernel.so", "code")):
        path = tmp_path / warm.FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    warm.seal(tmp_path, hardware="H100", image_id=IMAGE, train_sha256="0" * 64)
    return tmp_path


def test_a_cache_counts_only_where_it_was_made(cache: Path) -> None:
    """The same hardware and image; elsewhere there is none."""
    found = warm.find(cache, "H100", IMAGE)

    assert found is not None
    assert {"inductor/ab/graph.py", "triton/kernel.so"} == set(found.files)
    assert warm.find(cache, "A100", IMAGE) is None
    assert warm.find(cache, "H100", "sha256:other") is None
    assert warm.find(cache / "nowhere", "H100", IMAGE) is None


def test_a_session_on_a_gpu_without_one_says_what_fills_it() -> None:
    """It is worth more than most ideas; the cpu profile compiles nothing."""
    without = {"profile": "gpu", "warm_sha256": ""}

    assert "`make warm` says why" in warm.missing(without)
    assert "" == warm.missing({**without, "warm_sha256": "ab"}) == warm.missing({**without, "profile": "cpu"})


@pytest.mark.parametrize("fault", [None, ConfigError("not committed"), SandboxError("no"), PatchRejected("no")])
def test_a_session_on_a_gpu_fills_one_where_there_is_none(
    cache: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    """Once; on the cpu profile never; and where it cannot be filled experiments begin without."""
    found, asked = warm.find(cache, "H100", IMAGE), []

    def fill(place: Place, *_: object) -> warm.Warm | None:
        asked.append(place.gpu_uuid)
        if fault is not None:
            raise fault
        return found

    monkeypatch.setattr(warming, "fill", fill)
    config = load(ROOT, {"tag": "warm", "runs": cache / "runs", "profile_name": "gpu"})
    on_cpu = Place(engine=cast("Any", None), config=config, image_id=IMAGE, seccomp="", thresholds=UNBOUNDED)
    keeper, view = Keeper(path=config.mutable_path, tag="warm"), fakes.SilentView()
    warmed = warming.warmed(replace(on_cpu, gpu_uuid="GPU-1"), keeper, view)

    assert (found if fault is None else None) is warmed.warm
    assert warmed is warming.warmed(warmed, keeper, view)
    assert on_cpu is warming.warmed(on_cpu, keeper, view)
    assert ["GPU-1"] * (1 if fault is None else 2) == asked


def test_every_container_gets_a_copy_of_its_own(cache: Path, tmp_path: Path) -> None:
    """Other inodes, the same bytes."""
    found = warm.find(cache, "H100", IMAGE)
    assert found is not None
    found.copy(tmp_path / "copy")
    copy, original = tmp_path / "copy/triton/kernel.so", cache / warm.FILES / "triton/kernel.so"

    assert copy.read_text() == original.read_text() == "code"
    assert copy.stat().st_ino != original.stat().st_ino


def test_a_changed_file_is_never_handed_out(cache: Path, tmp_path: Path) -> None:
    """It is named, with the mend; so is one that is gone."""
    path = cache / warm.FILES / "triton/kernel.so"
    found = warm.find(cache, "H100", IMAGE)
    assert found is not None
    path.write_text("poison")
    with pytest.raises(SandboxError, match=r"kernel\.so is not what was written"):
        found.copy(tmp_path / "one")
    path.unlink()
    with pytest.raises(SandboxError, match=r"kernel\.so: No such file"):
        found.copy(tmp_path / "two")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd"])
def test_a_manifest_names_nothing_outside(cache: Path, name: str) -> None:
    """Whoever wrote it."""
    manifest = json.loads((cache / warm.MANIFEST).read_text())
    manifest["files"][name] = "0" * 64
    (cache / warm.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SandboxError, match="names a file outside"):
        warm.find(cache, "H100", IMAGE)


def test_a_manifest_that_cannot_be_read_is_said(cache: Path) -> None:
    """With what to remove."""
    (cache / warm.MANIFEST).write_text("{")
    with pytest.raises(SandboxError, match="cannot be read"):
        warm.find(cache, "H100", IMAGE)


def test_only_plain_files_are_sealed(cache: Path) -> None:
    """A link in a cache is refused, not followed."""
    (cache / warm.FILES / "link").symlink_to("/etc/passwd")
    with pytest.raises(SandboxError, match="plain files only"):
        warm.seal(cache, hardware="H100", image_id=IMAGE, train_sha256="0" * 64)


def test_only_what_the_human_committed_fills_a_cache(tmp_path: Path) -> None:
    """Neither what a loop put in place, nor what does not parse, nor a file outside of git."""
    path = tmp_path / "train.py"
    path.write_text(fakes.TRAIN_PY)
    keeper = Keeper(path=path, tag="t")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    with pytest.raises(ConfigError, match="commit it if it is yours"):
        own_source(keeper)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "mine"], check=True)
    mine = own_source(keeper)
    path.write_text(fakes.TRAIN_PY.replace("0.02", "0.03"))

    assert fakes.TRAIN_PY == mine
    with pytest.raises(ConfigError, match="not what your last commit holds"):
        own_source(keeper)
    path.write_text("def load_model(:\n")
    subprocess.run([*git, "commit", "-qam", "mine, too"], check=True)
    with pytest.raises(PatchRejected):
        own_source(keeper)


def test_no_container_can_write_to_it_and_only_trainers_get_it() -> None:
    """A writable one, or one in a predictor or the scorer, is refused as a weak spec."""
    given = Mount(source="/a/warm", target="/warm")
    trainer = test_spec.spec(mounts=(given,))
    as_config(trainer)
    with pytest.raises(SpecRefused, match="/warm"):
        as_config(replace(trainer, mounts=(replace(given, writable=True),)))
    for role in (Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER, Role.PREPARE):
        with pytest.raises(SpecRefused, match="/warm"):
            as_config(replace(trainer, role=role))
