"""What the host sees of a training: clocks, power and temperature by NVML, memory and neighbours by /proc."""

import os
import statistics
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gpu_day.record import Conditions
from orchestrator.errors import LeaseUnavailable

if TYPE_CHECKING:
    from orchestrator.devices.gpu import Clocks, Device

EVERY_S = 2.0
SESSION, PARENT = 3, 1  # fields of /proc/PID/stat after the command's name
PROC = Path("/proc")


class Watch:
    """Looks every few seconds while its block runs; `conditions` says what it saw."""

    def __init__(self, device: "Device | None" = None, *, every_s: float = EVERY_S, proc: Path = PROC) -> None:
        """Without a device only memory is looked at."""
        self._device, self._every_s, self._proc = device, every_s, proc
        self._session = 0
        self._clocks: list[Clocks] = []
        self._host_mb = 0.0
        self._others = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def follow(self, session: int) -> None:
        """Name the session whose memory is added up."""
        self._session = session

    def conditions(self) -> Conditions:
        """Means, and the worst of what was seen."""
        clocks = self._clocks
        return Conditions(
            sm_clock_mhz=_mean([look.sm_mhz for look in clocks]),
            power_w=_mean([look.power_w for look in clocks]),
            temperature_c=max((look.temperature_c for look in clocks if look.temperature_c is not None), default=None),
            throttled=tuple(sorted({reason for look in clocks for reason in look.throttled})),
            host_peak_mb=round(self._host_mb, 1) if self._host_mb else None,
            contended_by=self._others,
        )

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            if self._session:
                self._host_mb = max(self._host_mb, memory_mb(self._session, self._proc))
            if self._device is not None:
                with suppress(LeaseUnavailable):  # a GPU that is lost ends the training, which says more
                    self._look(self._device)

    def _look(self, device: "Device") -> None:
        from orchestrator.devices import gpu, processes

        self._clocks.append(gpu.clocks(device))
        known = parents(self._proc)
        others = [pid for pid in gpu.activity(device).pids if pid in known and not descends(pid, os.getpid(), known)]
        if others and not self._others:
            self._others = processes.describe(min(others), self._proc)


def memory_mb(session: int, proc: Path = PROC) -> float:
    """Memory of all processes of a session, what they share counted once where the kernel tells."""
    found = 0.0
    for path in proc.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            if int(_fields(path)[SESSION]) == session:
                found += _resident_kb(path) / 1000 * 1.024
    return found


def parents(proc: Path = PROC) -> dict[int, int]:
    """Every process here and its parent."""
    found: dict[int, int] = {}
    for path in proc.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            found[int(path.name)] = int(_fields(path)[PARENT])
    return found


def descends(pid: int, ancestor: int, known: dict[int, int]) -> bool:
    """Whether a process is another one, or one of those that it began."""
    while pid and pid != ancestor:
        pid = known.get(pid, 0)
    return pid == ancestor


def _resident_kb(path: Path) -> int:
    """Pss, or resident pages where smaps are closed."""
    try:
        text = (path / "smaps_rollup").read_text()
        return int(text.split("\nPss:")[1].split()[0])
    except (OSError, IndexError):
        return int((path / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _fields(path: Path) -> list[str]:
    return (path / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 1) if known else None
