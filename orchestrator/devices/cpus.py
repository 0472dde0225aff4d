"""The processors of this machine, siblings next to each other, and how busy they have been."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE_COLUMN, _STEAL_COLUMN = 3, 7  # of /proc/stat; user, nice and system come before


def online_cores(sysfs: Path, allowed: Collection[int]) -> list[int]:
    """List the processors that are online and allowed, the threads of one core next to each other."""
    root = sysfs / "devices/system/cpu"
    found = [cpu for cpu in numbers((root / "online").read_text()) if cpu in allowed]
    return sorted(found, key=lambda cpu: (*_core(root / f"cpu{cpu}/topology"), cpu))


def numbers(text: str) -> list[int]:
    """Parse `0-2,5` into numbers."""
    pairs = [part.split("-") for part in text.strip().split(",") if part]
    return [number for pair in pairs for number in range(int(pair[0]), int(pair[-1]) + 1)]


def ranges(cpus: Iterable[int]) -> str:
    """Format numbers as `0-2,5`, the engine's syntax."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def cpu_model(proc: Path) -> str:
    """Return the first processor's model name by /proc/cpuinfo."""
    lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
    found = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return found or os.uname().machine


def work_and_steal_s(proc: Path, cpus: Collection[int]) -> tuple[float, float]:
    """Return the seconds that programs have worked on these processors since boot, and what the hypervisor took.

    Interrupts are no program's work: who sends itself packets is not to look like others.
    """
    work = steal = 0
    for line in (proc / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            work += sum(map(int, ticks[:_IDLE_COLUMN]))
            steal += int(ticks[_STEAL_COLUMN])
    return work / TICKS_PER_S, steal / TICKS_PER_S


def clock_mhz(sysfs: Path, cpus: Collection[int]) -> float | None:
    """Return the mean clock of these processors; None where the kernel does not tell, as on most virtual machines."""
    files = (sysfs / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus)
    try:
        kilohertz = [int(file.read_text()) for file in files]
    except (OSError, ValueError):
        return None
    return sum(kilohertz) / len(kilohertz) / 1000 if kilohertz else None


def _core(topology: Path) -> tuple[int, int]:
    """Return package and core of a processor; (0, 0) if the kernel does not report them."""
    try:
        return int((topology / "physical_package_id").read_text()), int((topology / "core_id").read_text())
    except OSError:
        return 0, 0
