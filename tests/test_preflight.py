"""What keeps experiments from running here is known before anything is built, leased or started."""

import errno
import fcntl
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from orchestrator import preflight
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError, ImageMissing, RecordFailed
from orchestrator.host.doctor import Check, Severity
from orchestrator.record.journal import Journal
from orchestrator.types import Level, Score
from orchestrator.units import GIB
from tests.support.journals import finish, kept
from tests.test_doctor import GOOD

if TYPE_CHECKING:
    from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engineless:
    """What an engine says of itself and its machine; it has no image and starts nothing."""

    memory_gib: float = 31.1  # a desktop that was sold with 32
    is_podman: bool = False
    limits: bool = True
    limits_swap: bool = True
    unsupported_limits: tuple[str, ...] = ()

    def info(self) -> dict[str, Any]:
        """With NVIDIA's runtime."""
        return {"Runtimes": {"runc": {}, "nvidia": {}}}

    def memory_bytes(self) -> int:
        """Of the machine."""
        return int(self.memory_gib * GIB)

    def processors(self) -> int:
        """Of the machine."""
        return 16

    def check_runtime(self, runtime: str) -> None:
        """It knows all."""

    def image_id(self, name: str) -> str:
        """None was built."""
        raise ImageMissing(f"image {name} not found")


def gpu(parallel: int = 1) -> Config:
    """The profile as task.toml has it."""
    return load(ROOT, {"tag": "t", "runs": ROOT / "runs", "profile_name": "gpu", "parallel": parallel})


def refuse(config: Config, engine: Engineless) -> None:
    """Ask."""
    preflight.require_engine(config, cast("Engine", engine))


def test_the_gpu_profile_fits_a_desktop() -> None:
    """With 32 GB, of which the kernel has taken some."""
    refuse(gpu(), Engineless())


def test_memory_that_is_not_there_is_named_by_its_key() -> None:
    """Fewer side by side is advice only where there are several."""
    with pytest.raises(ConfigError, match=r"^task.toml: \[profile.gpu\] memory_gb = 24: this .* lower memory_gb$"):
        refuse(gpu(), Engineless(memory_gib=15.5))
    with pytest.raises(ConfigError, match=r"memory_gb = 24 for each of --parallel 2: .* 31.1 GB; lower either$"):
        refuse(gpu(2), Engineless())


def test_an_engine_that_hands_out_no_gpu_is_told() -> None:
    """Podman, through this API; preparing data asks for no GPU, and is not refused."""
    podman = Engineless(is_podman=True)

    refuse(gpu(), podman)
    with pytest.raises(ConfigError, match="--profile gpu: Podman cannot pass a single GPU to a container"):
        preflight.require_gpu_support(gpu(), cast("Engine", podman))


def cpu(root: Path, **flags: object) -> Config:
    """The task that is shipped, in a directory of its own, on one processor."""
    shutil.copy(ROOT / "task.toml", root)
    return load(root, {"tag": "t", "runs": root / "runs", "profile.cpu.cpus": 1, **flags})


def check(config: Config, engine: Engineless, journal: Journal | None = None, *, machine_only: bool = False) -> str:
    """Return what is wrong, "" if nothing."""
    try:
        preflight.check(config, cast("Engine", engine), journal, machine_only=machine_only)
    except (ConfigError, ImageMissing) as error:
        return str(error)
    return ""


def test_what_must_be_so_is_checked_in_the_order_in_which_it_is_mended(tmp_path: Path) -> None:
    """First the machine and its devices, which no command can make; then the run, the data and the image."""
    config, engine, journal = cpu(tmp_path), Engineless(), Journal.open(tmp_path / "runs" / "t")
    with journal:
        finish(journal, kept(2.0, score=Score(level=Level.L0, value=2.0)))
        many = cpu(tmp_path, parallel=1000, **{"profile.cpu.memory_gb": 0.001})
        found = [check(config, Engineless(limits=False, unsupported_limits=("memory",), memory_gib=0.1), journal)]
        found += [check(config, Engineless(memory_gib=0.1), journal), check(many, engine, journal)]
        found += [check(config, engine, journal), check(config, engine)]
        shutil.copytree(ROOT / "data" / "cpu-python", tmp_path / "data" / "cpu-python")
        found += [check(config, engine), check(config, engine, machine_only=True)]

    starts = [
        "the engine cannot limit memory", "task.toml: [profile.cpu] memory_gb", "--parallel 1000: only ",
        "run t has scores at L0, which --scoring audited does not produce; start a new run with --run NAME",
        f"{tmp_path}/data/cpu-python: the data is not prepared; run `autoresearch prepare-data`",
        "image autoresearch-sandbox:cpu not found", "",
    ]  # fmt: skip
    assert [(start, True) for start in starts] == [
        (start, said.startswith(start) and bool(said) == bool(start)) for start, said in zip(starts, found, strict=True)
    ]


def test_what_a_task_shares_is_in_its_data(tmp_path: Path) -> None:
    """The file, the key and the folder are named, whether it is missing or has folders of its own."""
    config = cpu(tmp_path, **{"task.shared_data": ["words"]})
    shutil.copytree(ROOT / "data" / "cpu-python", config.data_path)
    expected = (
        rf"^{tmp_path}/task.toml: task.shared_data = \['words'\]: {config.data_path}/words is no folder of files; "
    )
    with pytest.raises(ConfigError, match=expected):
        preflight.require_data(config)
    (config.data_path / "words" / "more").mkdir(parents=True)
    with pytest.raises(ConfigError, match=expected):
        preflight.require_data(config)
    (config.data_path / "words" / "more").rmdir()
    (config.data_path / "words" / "all.txt").write_text("word")

    preflight.require_data(config)


def test_unsafe_findings_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU run on a machine with other users, on an engine that is too small as well."""
    monkeypatch.setattr(preflight, "collect", lambda _: replace(GOOD, people=("bob",)))
    monkeypatch.setattr(
        preflight,
        "run_checks",
        lambda _: [Check(name="limits", judgement=Severity.UNSAFE, detail="none", fix="update")],
    )
    asked = [check(gpu(), Engineless(memory_gib=0.1)), check(gpu(), Engineless(is_podman=True, memory_gib=0.1))]

    assert 2 * ["unsafe on a machine that bob use too: limits: none (update); fix it, or --accept-risk limits"] == asked


def test_a_night_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few bytes, or not one file more."""
    found = os.statvfs(tmp_path)

    def room(blocks: int, inodes: int) -> str:
        full = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_files=inodes and found.f_files, f_favail=inodes - 1)
        monkeypatch.setattr(os, "statvfs", lambda _: full)
        try:
            preflight.require_storage(cpu(tmp_path))
        except ConfigError as error:
            return str(error)
        return ""

    assert "" == room(1 << 30, 0)  # some file systems count no inodes
    assert room(256, 9).startswith(
        f"{tmp_path}/runs: 1 MB are free; a session needs 512 MB for records and checkpoints"
    )
    assert room(1 << 30, 1).startswith(f"{tmp_path}/runs: no inode is free; ")


@pytest.mark.parametrize("fails", [None, errno.ENOLCK])
def test_a_file_system_that_does_not_lock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int | None
) -> None:
    """Where a lock is refused, and where everybody gets it."""

    def flock(*_: object) -> None:
        if fails is not None:
            raise OSError(fails, os.strerror(fails))

    preflight.require_storage(cpu(tmp_path))
    monkeypatch.setattr(fcntl, "flock", flock)
    why = "No locks available" if fails else "a lock is given twice"
    with pytest.raises(ConfigError, match=rf"runs: its file system does not lock files \({why}\), .*--runs FOLDER$"):
        preflight.require_storage(cpu(tmp_path))


def test_a_record_on_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is opened before anything is checked."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RecordFailed, match=r"/runs/t: cannot be locked: No locks available; .* --runs FOLDER"):
        Journal.open(tmp_path / "runs" / "t")
