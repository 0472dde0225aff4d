"""A container's counters in both versions of cgroups; what a host does not tell stays unknown."""

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.walls import cgroup_stats
from orchestrator.walls.cgroup_stats import THREADS_S, ThreadWaits, Usage

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


class Threads:
    """The threads of one process in a container, on a clock of their own."""

    def __init__(self, root: Path) -> None:
        """Lay out its control group."""
        self.task, self.now = root / "proc" / str(os.getpid()) / "task", 0.0
        self.waits = ThreadWaits(clock=lambda: self.now)
        write(self.task.parent / "cgroup", f"0::/{GROUP}\n")
        write(root / "cgroup" / GROUP / "cgroup.procs", f"{os.getpid()}\n")

    def look(self, **waited_s: float) -> float | None:
        """Let these threads exist, and time pass; what is told of their waiting."""
        shutil.rmtree(self.task, ignore_errors=True)
        for name, seconds in waited_s.items():
            write(self.task / name.removeprefix("t") / "schedstat", f"999 {int(seconds * 1e9)} 5\n")
        self.now += THREADS_S
        return cgroup_stats.read(os.getpid(), "c0ffee", Usage(), self.waits).waited_s


def test_the_waiting_of_all_threads_is_summed(root: Path) -> None:
    """Those that ended count on, and so does one whose number another thread has by now."""
    threads = Threads(root)

    assert 3.0 == threads.look(t7=1.0, t8=2.0)
    assert 3.5 == threads.look(t7=1.5)
    assert 3.75 == threads.look(t7=1.5, t8=0.25)
    assert 4.0 == threads.look(t7=1.5, t8=0.25, t9=0.25)


def test_what_threads_wait_is_not_known_where_the_kernel_does_not_tell(root: Path) -> None:
    """No schedstat, or the processes of another namespace."""
    threads = Threads(root)

    assert threads.look() is None
    write(threads.task / "7" / "schedstat", "")
    assert cgroup_stats.read(os.getpid(), "c0ffee", Usage(), threads.waits).waited_s is None


def test_threads_are_not_looked_at_all_the_time(root: Path) -> None:
    """However many there are, looking at them takes a bounded share of one processor."""
    threads = Threads(root)
    first = threads.look(t7=1.0)
    write(threads.task / "7" / "schedstat", "999 2000000000 5\n")
    threads.now += 0.5 * THREADS_S

    assert first == cgroup_stats.read(os.getpid(), "c0ffee", Usage(), threads.waits).waited_s
    threads.now += 0.5 * THREADS_S
    assert 2.0 == cgroup_stats.read(os.getpid(), "c0ffee", Usage(), threads.waits).waited_s


def test_pressure_is_a_total_in_microseconds(root: Path) -> None:
    """The first line's; cgroup v2 only."""
    write(root / "proc" / str(os.getpid()) / "cgroup", f"0::/{GROUP}\n")
    lines = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0 avg60=0 avg300=0 total=7\n"
    write(root / "cgroup" / GROUP / "cpu.pressure", lines)

    assert 1.5 == cgroup_stats.read(os.getpid(), "c0ffee", Usage()).pressure_s
