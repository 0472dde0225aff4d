"""How a long record is read: time and memory of every view of runs with 100 to 100,000 experiments.

    make bench NAME=growth                          # python -m benchmarks.growth [EXPERIMENTS]

Records are made in bulk of the journal's own events; each view then runs in a process of its own, after its imports,
and the best of three counts, with the most memory that the process ever had. Times are of the processor, as others may
use the machine; beside them, in brackets, what passed by the clock. `prompt` is all that the loop does between
two experiments until the prompt is built; `index` rebuilds the index from the record.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import prompt_growth
from benchmarks.prompt_growth import ROOT, fill
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import NAME

SIZES = (100, 1000, 10_000, 100_000)
REPEATS = 3
LONGEST_REPORT = 10_000  # experiments; the page of a longer run is not asked for here
MIB = 1 << 20
LONG_MS = 10_000
KIB_PER_MIB = 1 << 10


def build_prompt(folder: Path) -> Callable[[], object]:
    """Return what builds a prompt in an open session."""
    builder = prompt_growth.make_builder()
    journal = Journal.open(folder)
    prompt_growth.turn(journal, builder)
    return lambda: prompt_growth.turn(journal, builder)


def print_status(folder: Path) -> Callable[[], object]:
    """Return what prints the status of a run."""
    from orchestrator.cli.look import print_status as status  # noqa: PLC0415  # only this process needs it

    return partial(status, task=ROOT, runs=folder.parent, run=folder.name)


def verify(folder: Path) -> Callable[[], object]:
    """Return what verifies a record."""
    from orchestrator.record.verify import find_damage  # noqa: PLC0415

    return lambda: list(find_damage(folder))


def rebuild_index(folder: Path) -> Callable[[], object]:
    """Return what rebuilds the index from the record, as `autoresearch reindex` does."""
    from orchestrator.record.index import NAME as INDEX  # noqa: PLC0415
    from orchestrator.record.index import Index  # noqa: PLC0415

    def rebuild() -> None:
        (folder / INDEX).unlink()
        Index.open(folder, folder / NAME).db.close()

    return rebuild


def write_report(folder: Path) -> Callable[[], object]:
    """Return what builds the report of a run."""
    from orchestrator.look.report import Report  # noqa: PLC0415

    return lambda: Report(folder=folder).build()


VIEWS: Mapping[str, Callable[[Path], Callable[[], object]]] = {
    "prompt": build_prompt,
    "status": print_status,
    "verify": verify,
    "report": write_report,
    "index": rebuild_index,  # last: what others learnt of the run goes with it
}


def measure_here(view: str, folder: Path) -> dict[str, float]:
    """Return the milliseconds that a view takes of the processor and by the clock, and the most MiB of this process."""
    run, times, used = VIEWS[view](folder), list[float](), list[float]()
    sys.stdout.flush()
    quiet, out = os.open(os.devnull, os.O_WRONLY), os.dup(1)
    os.dup2(quiet, 1)
    for _ in range(REPEATS):
        began, began_cpu = time.perf_counter(), time.process_time()
        run()
        sys.stdout.flush()
        times.append(1000 * (time.perf_counter() - began))
        used.append(1000 * (time.process_time() - began_cpu))
        if times[-1] > LONG_MS:  # once is enough
            break
    os.dup2(out, 1)
    return {"ms": min(used), "clock_ms": min(times), "mib": read_peak_mib(os.getpid())}


def read_peak_mib(pid: int) -> float:
    """Return the most MiB of memory that a process has had since its program began. Raises OSError once it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith("VmHWM")), 0)) / KIB_PER_MIB


def measure(view: str, folder: Path) -> dict[str, float]:
    """Return the same, measured in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.growth", "--here", view, str(folder)]
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def describe(size: int, records: int, found: Mapping[str, Mapping[str, float]], size_bytes: int) -> str:
    """Return the line of one length of run."""
    speeds = [f"{view} {records / found[view]['ms'] * 1000:,.0f} records/s" for view in ("verify", "index")]
    times = [
        f"{view} {found[view]['ms']:,.0f} ({found[view]['clock_ms']:,.0f}) ms"
        for view in ("prompt", "status", "report")
        if view in found
    ]
    most = max(found, key=lambda view: found[view]["mib"])
    memory = f"at most {found[most]['mib']:,.0f} MiB ({most})"
    return f"{size:>7,} experiments: {', '.join([*times, *speeds, memory])}, {size_bytes / size:,.0f} bytes each"


def main() -> None:
    """Grow a record and measure every view at each length."""
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(measure_here(sys.argv[2], Path(sys.argv[3]))))
        return
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    done, last = 0, ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        folder.mkdir()
        for size in (*(size for size in SIZES if size < largest), largest):
            fill(folder, done, size)
            done = size
            with Journal.open(folder) as journal:
                best, records = journal.champion(), journal.span()[1]
                assert best is not None  # noqa: S101
                best.experiment.folder.mkdir(exist_ok=True)
                shutil.copy(ROOT / "mutable" / "train.py", best.experiment.folder)
            views = [view for view in VIEWS if view != "report" or size <= LONGEST_REPORT]
            found = {view: measure(view, folder) for view in views}
            size_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            last = describe(size, records, found, size_bytes)
            print(last, flush=True)
            print(f"{'':>7}  memory: " + ", ".join(f"{view} {one['mib']:,.0f} MiB" for view, one in found.items()))
    print(f"growth: {last.strip()}")


if __name__ == "__main__":
    main()
