"""An engine that surely hands out no GPU is refused before anything is waited for; any sign of one lets it try."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import preflight
from orchestrator.errors import ConfigError
from orchestrator.walls import nvidia
from tests.support.boxes import ROOT


@pytest.fixture
def info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an engine of this machine says that has no NVIDIA support; there is no program and no CDI folder."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(nvidia, "WHERE", str(tmp_path / "sbin"))
    monkeypatch.setattr(nvidia, "SPECS", (str(tmp_path / "cdi"),))
    runtimes = {"runc": {"path": "runc"}, "io.containerd.runc.v2": {"path": "runc"}}
    return {"Name": os.uname().nodename, "DockerRootDir": str(tmp_path), "Runtimes": runtimes, "CDISpecDirs": None}


def test_an_engine_without_any_sign_of_nvidia_has_none(info: dict[str, Any], tmp_path: Path) -> None:
    """An empty folder for specifications is no sign either."""
    (tmp_path / "cdi").mkdir()

    assert nvidia.is_missing(info)


@pytest.mark.parametrize(
    "changes",
    [
        {"Name": "another machine"},
        {"DockerRootDir": "/nowhere"},  # it sees other files than we do
        {"Runtimes": {"nvidia": {}}},
        {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]},
    ],
)
def test_an_engine_that_says_more_may_try(info: dict[str, Any], changes: dict[str, Any]) -> None:
    """Nor is one refused that may see what we cannot."""
    assert not nvidia.is_missing({**info, **changes})
    assert not nvidia.is_missing({})


@pytest.mark.parametrize("name", nvidia.COMMANDS)
@pytest.mark.parametrize("folder", ["bin", "sbin"])
def test_a_toolkit_that_is_installed_may_try(info: dict[str, Any], tmp_path: Path, name: str, folder: str) -> None:
    """Old engines find its hook by its name."""
    path = tmp_path / folder / name
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)

    assert not nvidia.is_missing(info)


def test_a_cdi_specification_may_try(info: dict[str, Any], tmp_path: Path) -> None:
    """In the usual folders, or where the engine looks."""
    for folder, says in (("elsewhere", {"CDISpecDirs": [str(tmp_path / "elsewhere")]}), ("cdi", {})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nvidia.yaml").write_text("cdiVersion: 0.6.0\n")

        assert not nvidia.is_missing({**info, **says})


def test_a_run_on_a_gpu_is_refused_before_one_is_waited_for(info: dict[str, Any]) -> None:
    """With the fix; the cpu profile needs none."""
    engine = cast("Any", SimpleNamespace(is_podman=False, info=lambda: info))
    preflight.require_gpu_support(cast("Any", SimpleNamespace(profile_name="cpu")), engine)
    with pytest.raises(
        ConfigError, match=r"--profile gpu: .* install the NVIDIA Container Toolkit .* or use --profile cpu"
    ):
        preflight.require_gpu_support(cast("Any", SimpleNamespace(profile_name="gpu")), engine)
    info["Runtimes"]["nvidia"] = {}
    preflight.require_gpu_support(cast("Any", SimpleNamespace(profile_name="gpu")), engine)


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense", "echo []", "echo '{}'"])
def test_what_the_command_does_not_know_stops_nothing(tmp_path: Path, answer: str) -> None:
    """`make loop` goes on to where the engine itself is asked."""
    (tmp_path / "docker").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "docker").chmod(0o755)
    for path in (tmp_path, tmp_path / "empty"):
        command = [sys.executable, "-m", "orchestrator.walls.nvidia"]

        assert 0 == subprocess.run(command, cwd=ROOT, env={"PATH": str(path)}, check=False).returncode
