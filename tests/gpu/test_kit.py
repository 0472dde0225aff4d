"""The kit has what a bare machine lacks, keeps under its limit, and says what it left out."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from gpu_day import kit
from gpu_day.direct import PARTS
from gpu_day.kit import Kit
from gpu_day.record import DayEndedError
from tests.support.boxes import ROOT

UPSTREAM = ROOT / "tests" / "scripts" / "upstream"
NOISE_BYTES = 3 << 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Prepared data that cannot be compressed."""
    source = open("/dev/urandom", "rb")  # noqa: SIM115, PTH123
    with source:
        for part in PARTS:
            (tmp_path / "data" / part).mkdir(parents=True)
            (tmp_path / "data" / part / "manifest.json").write_text("{}")
            (tmp_path / "data" / part / "tokens").write_bytes(source.read(NOISE_BYTES // len(PARTS)))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages without a registry."""

    def install(target: Path, _python: str) -> str:
        target.mkdir()
        (target / "tiktoken.py").write_text("")
        return ""

    monkeypatch.setattr(kit, "install", install)


def made(tmp_path: Path, data: Path, limit_mib: float, upstream: Path | None = UPSTREAM) -> Kit:
    """A kit of the cpu profile."""
    (scratch := tmp_path / "scratch").mkdir()
    return kit.make(
        tmp_path / "kit.tar.xz",
        scratch,
        profile="cpu",
        python="3.12",
        data=data,
        upstream=upstream,
        limit_mib=limit_mib,
    )


def names(path: Path) -> set[str]:
    """What an archive holds."""
    with tarfile.open(path) as archive:
        return set(archive.getnames())


def test_a_kit_holds_all_that_a_bare_machine_lacks(tmp_path: Path, data: Path) -> None:
    """The project, packages, upstream's two scripts and the data at its place; and says so itself."""
    done = made(tmp_path, data, 60.0)
    found = names(done.path)

    assert () == done.left_out
    for name in (
        "Makefile", "gpu_day/day.py", "mutable/train.py", "locked/score.py", "task.toml", "reference_models/base.py",
        "carried/tiktoken.py", "upstream/train.py", "upstream/prepare.py", "data/cpu-python/val/manifest.json",
    ):  # fmt: skip
        assert f"gpu-kit/{name}" in found
    with tarfile.open(done.path) as archive:
        listed = archive.extractfile("gpu-kit/KIT.txt")
        assert listed is not None
        assert done.lines() == listed.read().decode().splitlines()


def test_what_does_not_fit_is_left_out_and_named(tmp_path: Path, data: Path) -> None:
    """The least worthy first, with what follows from it."""
    done = made(tmp_path, data, 2.0)

    assert done.path.stat().st_size <= 2 << 20
    assert "gpu-kit/data/cpu-python/val/manifest.json" not in names(done.path)
    assert "project" == done.packed[0]
    assert 1 == len(done.left_out)
    assert done.left_out[0].startswith("data (cpu profile): with it ")
    assert "MiB, above 2; it must prepare its own, with rustbpe" in done.left_out[0]


def test_a_limit_that_not_even_the_project_fits_under_is_refused(tmp_path: Path, data: Path) -> None:
    """In one line, and no kit is left that would disappoint there."""
    with pytest.raises(DayEndedError, match=r"the project alone takes .* MiB, the limit is 0.05: raise LIMIT_MIB"):
        made(tmp_path, data, 0.05)

    assert not (tmp_path / "kit.tar.xz").exists()


def test_what_was_named_and_is_not_there_is_refused(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout, and data that is neither prepared nor text."""
    with pytest.raises(DayEndedError, match=r"has no train.py: name upstream's checkout"):
        made(tmp_path, data, 60.0, upstream=tmp_path)
    (tmp_path / "scratch").rmdir()
    (data / "val" / "manifest.json").unlink()
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(DayEndedError, match=r"could not be prepared \(exit code 3\), see above: .* DATA=folder"):
        made(tmp_path, data, 60.0)


def test_text_that_was_named_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the project's own program, without a network; what fails half-way is not taken for prepared the next time."""
    monkeypatch.setattr(kit, "ROOT", tmp_path)
    (tmp_path / "docker").write_text(
        "#!/bin/sh\nfor word; do case $word in --volume=*:/staging) to=${word#--volume=}; to=${to%:*};; esac; done\n"
        'echo "$@" > asked; for part in tokenizer train val; do mkdir $to/$part; echo > $to/$part/manifest.json; done\n'
    )
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (text := tmp_path / "text").mkdir()
    prepared = kit.prepare("gpu", tmp_path, text)
    asked = (tmp_path / "asked").read_text()

    assert (tmp_path / "data", True) == (prepared, kit.is_prepared(prepared))
    assert "--network=none" in asked
    assert f"--volume={text}:/corpus:ro" in asked
    assert "AUTORESEARCH_PROFILE=gpu" in asked
    with pytest.raises(DayEndedError, match=r"cpu-python: holds no prepared data: make prepare-data PROFILE=cpu"):
        kit.prepare("cpu", tmp_path, None)


def test_a_disk_that_is_full_is_told_with_the_mend(tmp_path: Path) -> None:
    """And no half of a kit stays."""
    (tmp_path / "kit.tar.xz").symlink_to("/dev/full")
    with pytest.raises(
        DayEndedError, match=r"No space left on device: make room there, or name another file with KIT="
    ):
        kit.pack(Kit(path=tmp_path / "kit.tar.xz", packed=(), left_out=()), [], tmp_path)

    assert not (tmp_path / "kit.tar.xz").exists()


def test_packages_that_cannot_be_had_are_left_out_and_said(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may have them itself."""
    monkeypatch.setattr(kit, "install", lambda *_: "no matching distribution")
    done = made(tmp_path, data, 60.0)

    assert ("packages tiktoken, regex, nvidia-ml-py: no matching distribution; the other machine must have them",) == (
        done.left_out
    )


def test_packages_are_those_of_the_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its version and its hashes; without a registry pip's reason is one line."""
    monkeypatch.undo()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    reason = kit.install(tmp_path / "carried", "3.12")
    wanted = (tmp_path / "carried.txt").read_text()

    assert reason.startswith("ERROR: ")
    assert list(kit.PACKAGES) == [line.split("==")[0] for line in wanted.splitlines() if "==" in line]
    assert wanted.count("--hash=sha256:") > 10


def test_outside_a_clone_there_is_no_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git says which files are the project's."""
    monkeypatch.setattr(kit, "ROOT", tmp_path)
    with pytest.raises(DayEndedError, match=r"git lists no files .*: make the kit in a clone"):
        list(kit.project())


def test_the_command_prints_one_line_where_it_cannot(tmp_path: Path) -> None:
    """Without a traceback."""
    command = [sys.executable, "-m", "gpu_day.kit", "--upstream", str(tmp_path), "--kit", str(tmp_path / "kit")]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)

    assert (1, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert done.stderr.startswith(f"gpu-kit: UPSTREAM={tmp_path} has no train.py")
