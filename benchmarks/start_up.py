"""How long a command takes to start, as a whole process: `autoresearch --help`, and `status` of a short run.

    make bench NAME=start-up                        # python -m benchmarks.start_up [ROUNDS]

Each command and a bare `python -c pass` run in turns; the quickest and the middle one of each count, by the clock, and
the least that one took of the processors, as others may use the machine. Before, each runs once for its memory, and for
Python to keep what it compiles, as after any first start. What no command can do without is measured as well: the
library of the command line, which checks each argument with pydantic, and, for a command that tells the best of a run,
numpy, with which that is estimated.
"""

import os
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
LIBRARIES = "import typer, rich.console, rich.table, pydantic; pydantic.TypeAdapter(int)"
AS_USERS = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measure(argv: Sequence[str]) -> tuple[float, float]:
    """Return the milliseconds of a process by the clock and of the processors. Raises CalledProcessError."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd=ROOT, env=AS_USERS)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return 1000 * (time.perf_counter() - began), 1000 * (used.ru_utime + used.ru_stime)


def measure_memory(argv: Sequence[str]) -> float:
    """Return the most MiB that a process had since its program began; what it was forked from does not count."""
    most = 0.0
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd=ROOT, env=AS_USERS) as process:
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
            "its libraries": [sys.executable, "-c", LIBRARIES],
            "and numpy": [sys.executable, "-c", f"{LIBRARIES}; import numpy"],
            "--help": [program, "--help"],
            "status": [program, "status", "--runs", name, "--run", "run"],
        }
        memory = {name_: measure_memory(argv) for name_, argv in commands.items()}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name_, argv in commands.items():
                found[name_].append(measure(argv))
    for name_, one in found.items():
        clock, used = zip(*one, strict=True)
        print(
            f"{name_:15} quickest {min(clock):4.0f} ms, median {statistics.median(clock):4.0f} ms,"
            f" of the processors {min(used):4.0f} ms, {memory[name_]:3.0f} MiB"
        )
    shown = {
        name_: f"{min(row[0] for row in one):.0f} ({min(row[1] for row in one):.0f}) ms" for name_, one in found.items()
    }
    print(
        f"start-up: --help {shown['--help']}, status {shown['status']}, its libraries alone {shown['and numpy']};"
        " in brackets of the processors"
    )


if __name__ == "__main__":
    main()
