"""A container's counters in both versions of cgroups; what a host does not tell stays unknown."""

import os
from pathlib import Path

import pytest

from orchestrator.walls import cgroup_stats
from orchestrator.walls.cgroup_stats import Usage

GROUP = "docker/c0ffee"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup file system of the test's own; this process is in the container."""
    monkeypatch.setattr(cgroup_stats, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup_stats, "PROC", tmp_path / "proc")
    (tmp_path / "proc" / str(os.getpid())).mkdir(parents=True)
    return tmp_path


def write(path: Path, text: str) -> None:
    """A counter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_1(root: Path) -> None:
    """One folder per controller; the highest number of processes that was seen; I/O over all devices."""
    names = ("memory", "cpuacct", "pids", "blkio")
    write(root / "proc" / str(os.getpid()) / "cgroup", "".join(f"1:{name}:/{GROUP}\n" for name in names))
    write(root / "cgroup" / "memory" / GROUP / "memory.max_usage_in_bytes", "1000\n")
    write(root / "cgroup" / "cpuacct" / GROUP / "cpuacct.usage", "2500000000\n")
    write(root / "cgroup" / "pids" / GROUP / "pids.current", "3\n")
    moved = "8:0 Read 10\n8:0 Write 1\n8:16 Read 5\n8:16 Write 2\nTotal 18\n"
    write(root / "cgroup" / "blkio" / GROUP / "blkio.throttle.io_service_bytes_recursive", moved)
    found = cgroup_stats.read(os.getpid(), "c0ffee", Usage(peak_pids=7))

    assert Usage(peak_memory_bytes=1000, cpu_s=2.5, peak_pids=7, read_bytes=15, written_bytes=3) == found


def test_version_2(root: Path) -> None:
    """One folder for all."""
    write(root / "proc" / str(os.getpid()) / "cgroup", f"0::/{GROUP}\n")
    folder = root / "cgroup" / GROUP
    write(folder / "memory.peak", "1000\n")
    write(folder / "cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    write(folder / "pids.peak", "9\n")
    write(folder / "io.stat", "8:0 rbytes=10 wbytes=1 rios=1\n8:16 rbytes=5 wbytes=2\n")
    found = cgroup_stats.read(os.getpid(), "c0ffee", Usage())

    assert Usage(peak_memory_bytes=1000, cpu_s=2.5, peak_pids=9, read_bytes=15, written_bytes=3) == found


def test_what_is_not_told_stays_as_it_was(root: Path) -> None:
    """No file, no such process, another container's process: unknown is None, and known stays known."""
    before = Usage(peak_memory_bytes=5)
    assert before == cgroup_stats.read(os.getpid(), "c0ffee", before)
    write(root / "proc" / str(os.getpid()) / "cgroup", f"0::/{GROUP}\n")

    assert before == cgroup_stats.read(os.getpid(), "c0ffee", before)
    assert before == cgroup_stats.read(os.getpid(), "another", before)
