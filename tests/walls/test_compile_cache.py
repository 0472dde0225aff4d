"""Warm compile caches: who may fill them, when they count, and that no experiment can change one."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from orchestrator.config import load
from orchestrator.errors import ConfigError, PatchRejected, SandboxError, SpecRefused
from orchestrator.host import compile_cache_build
from orchestrator.host.compile_cache_build import read_committed_source
from orchestrator.record.git_branch import ResultBranch
from orchestrator.scoring.thresholds import UNBOUNDED
from orchestrator.types import Environment, Role
from orchestrator.walls import compile_cache
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.spec import Mount
from orchestrator.walls.spec_policy import validate_spec
from tests.support import fakes
from tests.walls import test_spec

ROOT = Path(__file__).parents[2]
IMAGE = "sha256:fake"


def filled(caches: Path, hardware: str, kernel: str) -> compile_cache.CompileCache:
    """A cache of two files."""
    sealed = caches / ".sealed"
    for name, text in (("inductor/ab/graph.py", "compiled"), ("triton/kernel.so", kernel)):
        path = sealed / compile_cache.FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = compile_cache.seal(sealed, hardware=hardware, image_id=IMAGE, train_sha256="0" * 64)
    return compile_cache.put(made, caches, hardware=hardware, image_id=IMAGE)


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    """Where there is one cache."""
    filled(tmp_path / "warm", "H100", "code")
    return tmp_path / "warm"


@pytest.fixture
def cache(caches: Path) -> compile_cache.CompileCache:
    """That one."""
    found = compile_cache.find(caches, "H100", IMAGE)
    assert found is not None
    return found


def test_a_cache_counts_only_where_it_was_made(caches: Path, cache: compile_cache.CompileCache) -> None:
    """The same hardware and image; elsewhere there is none."""
    assert {"inductor/ab/graph.py", "triton/kernel.so"} == set(cache.files)
    assert compile_cache.find(caches, "A100", IMAGE) is None
    assert compile_cache.find(caches, "H100", "sha256:other") is None
    assert compile_cache.find(caches / "nowhere", "H100", IMAGE) is None


def test_filling_another_takes_none_away(caches: Path, cache: compile_cache.CompileCache, tmp_path: Path) -> None:
    """Whoever began with the first goes on with it, whatever is filled beside it; who begins gets the newest."""
    elsewhere, newer = filled(caches, "A100", "other code"), filled(caches, "H100", "newer code")
    cache.copy(tmp_path / "copy")

    assert "code" == (tmp_path / "copy/triton/kernel.so").read_text()
    assert newer == compile_cache.find(caches, "H100", IMAGE)
    assert elsewhere == compile_cache.find(caches, "A100", IMAGE)


def test_a_cache_that_nobody_began_with_for_a_month_is_removed(
    caches: Path, cache: compile_cache.CompileCache, tmp_path: Path
) -> None:
    """When the next one is filled, of whatever image; one that is in use is not, however old it is."""
    unused = filled(caches, "A100", "other code")
    for made in (cache, unused):
        os.utime(made.folder, (0, 0))
    cache.copy(tmp_path / "copy")
    filled(caches, "H100", "newer code")

    assert cache.folder.is_dir()
    assert not unused.folder.exists()


def test_a_session_on_a_gpu_without_one_says_what_fills_it() -> None:
    """It is worth more than most ideas; the cpu profile compiles nothing."""
    without = Environment(profile="gpu")
    filled_there, on_cpu = replace(without, cache_sha256="ab"), replace(without, profile="cpu")

    assert "see `autoresearch build-cache`" in compile_cache.describe_missing(without)
    assert "" == compile_cache.describe_missing(filled_there) == compile_cache.describe_missing(on_cpu)


FAULTS = (ConfigError("not committed"), SandboxError("no"), PatchRejected("no"), OSError(28, "No space left on device"))


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_session_on_a_gpu_fills_one_where_there_is_none(
    cache: compile_cache.CompileCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    """Once; on the cpu profile never; and where it cannot be filled experiments begin without, and the log says why."""
    asked = []

    def fill(place: ExecutionContext, *_: object) -> compile_cache.CompileCache | None:
        asked.append(place.gpu_uuid)
        if fault is not None:
            raise fault
        return cache

    monkeypatch.setattr(compile_cache_build, "build", fill)
    config = load(ROOT, {"tag": "warm", "runs": tmp_path / "runs", "profile_name": "gpu"})
    on_cpu = ExecutionContext(engine=cast("Any", None), config=config, image_id=IMAGE, seccomp="", thresholds=UNBOUNDED)
    branch, waits = ResultBranch(path=config.mutable_path, tag="warm"), list[str]()
    with structlog.testing.capture_logs() as logged:
        warmed = compile_cache_build.add_compile_cache(replace(on_cpu, gpu_uuid="GPU-1"), branch, waits.append)

    assert (cache if fault is None else None) is warmed.warm
    assert warmed is compile_cache_build.add_compile_cache(warmed, branch, waits.append)
    assert on_cpu is compile_cache_build.add_compile_cache(on_cpu, branch, waits.append)
    assert ([] if fault is None else [("compile_cache.not_filled", str(fault))]) == [
        (line["event"], line["reason"]) for line in logged
    ]
    assert ["GPU-1"] * (1 if fault is None else 2) == asked
    assert ["your committed train.py compiles, once for this GPU and image"] * len(asked) == waits


def test_every_container_gets_a_copy_of_its_own(cache: compile_cache.CompileCache, tmp_path: Path) -> None:
    """Other inodes, the same bytes."""
    cache.copy(tmp_path / "copy")
    copy, original = tmp_path / "copy/triton/kernel.so", cache.folder / compile_cache.FILES / "triton/kernel.so"

    assert copy.read_text() == original.read_text() == "code"
    assert copy.stat().st_ino != original.stat().st_ino


def test_a_changed_file_is_never_handed_out(cache: compile_cache.CompileCache, tmp_path: Path) -> None:
    """It is named, with the fix; so is one that is gone."""
    path = cache.folder / compile_cache.FILES / "triton/kernel.so"
    path.write_text("poison")
    with pytest.raises(SandboxError, match=r"kernel\.so was changed after it was written"):
        cache.copy(tmp_path / "one")
    path.unlink()
    with pytest.raises(SandboxError, match=r"kernel\.so: No such file"):
        cache.copy(tmp_path / "two")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd"])
def test_a_manifest_names_nothing_outside(caches: Path, cache: compile_cache.CompileCache, name: str) -> None:
    """Whoever wrote it."""
    manifest = json.loads((cache.folder / compile_cache.MANIFEST).read_text())
    manifest["files"][name] = "0" * 64
    (cache.folder / compile_cache.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SandboxError, match="names a file outside"):
        compile_cache.find(caches, "H100", IMAGE)


def test_a_manifest_that_cannot_be_read_is_said(caches: Path, cache: compile_cache.CompileCache) -> None:
    """With what to remove."""
    (cache.folder / compile_cache.MANIFEST).write_text("{")
    with pytest.raises(SandboxError, match="cannot be read"):
        compile_cache.find(caches, "H100", IMAGE)


def test_only_plain_files_are_sealed(cache: compile_cache.CompileCache) -> None:
    """A link in a cache is refused, not followed."""
    (cache.folder / compile_cache.FILES / "link").symlink_to("/etc/passwd")
    with pytest.raises(SandboxError, match="plain files only"):
        compile_cache.seal(cache.folder, hardware="H100", image_id=IMAGE, train_sha256="0" * 64)


def test_only_what_the_human_committed_fills_a_cache(tmp_path: Path) -> None:
    """Neither what a loop put in place, nor what does not parse, nor a file outside of git."""
    path = tmp_path / "train.py"
    path.write_text(fakes.TRAIN_PY)
    keeper = ResultBranch(path=path, tag="t")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    with pytest.raises(ConfigError, match="commit it if it is yours"):
        read_committed_source(keeper)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "mine"], check=True)
    mine = read_committed_source(keeper)
    path.write_text(fakes.TRAIN_PY.replace("0.02", "0.03"))

    assert fakes.TRAIN_PY == mine
    with pytest.raises(ConfigError, match="not what your last commit holds"):
        read_committed_source(keeper)
    path.write_text("def load_model(:\n")
    subprocess.run([*git, "commit", "-qam", "mine, too"], check=True)
    with pytest.raises(PatchRejected):
        read_committed_source(keeper)


def test_no_container_can_write_to_it_and_only_trainers_get_it() -> None:
    """A writable one, or one in a predictor or the scorer, is refused as a weak spec."""
    given = Mount(source="/a/warm", target="/warm")
    trainer = test_spec.spec(mounts=(given,))
    validate_spec(trainer)
    with pytest.raises(SpecRefused, match="/warm"):
        validate_spec(replace(trainer, mounts=(replace(given, writable=True),)))
    for role in (Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER, Role.PREPARE):
        with pytest.raises(SpecRefused, match="/warm"):
            validate_spec(replace(trainer, role=role))
