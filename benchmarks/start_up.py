"""How long a command takes to start, as a whole process: `autoresearch --help`, and `status` of a short run.

    make bench NAME=start-up                        # python -m benchmarks.start_up [ROUNDS]

Each command and a bare `python -c pass` run in turns; the quickest and the middle one of each count. The most memory
is read while each runs once more.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.growth import read_peak_mib
from benchmarks.prompt_growth import ROOT, fill
from orchestrator.record.journal import Journal

ROUNDS = 9


def measure(argv: Sequence[str]) -> float:
    """Return the milliseconds from start to end of a process. Raises CalledProcessError."""
    began = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
    return 1000 * (time.perf_counter() - began)


def measure_memory(argv: Sequence[str]) -> float:
    """Return the most MiB that a process had."""
    most = 0.0
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd=ROOT) as process:
        while process.poll() is None:
            with suppress(OSError):
                most = max(most, read_peak_mib(process.pid))
    return most


def main() -> None:
    """Measure every command in turns."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    program = str(Path(sys.executable).with_name("autoresearch"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        folder.mkdir()
        fill(folder, 0, 20)
        Journal.open(folder).close()
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "--help": [program, "--help"],
            "status": [program, "status", "--runs", name, "--run", "run"],
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name_, argv in commands.items():
                found[name_].append(measure(argv))
        memory = {name_: measure_memory(argv) for name_, argv in commands.items()}
    for name_, one in found.items():
        middle, most = statistics.median(one), memory[name_]
        print(f"{name_:15} quickest {min(one):4.0f} ms, median {middle:4.0f} ms, {most:3.0f} MiB")
    print(f"start-up: --help {min(found['--help']):.0f} ms, status {min(found['status']):.0f} ms")


if __name__ == "__main__":
    main()
