"""Runs one benchmark by its name and stores what it printed, for docs/performance.md.

    make bench NAME=growth                          # python -m benchmarks growth [ARGUMENT ...]
    make bench NAME=?                               # all names, a line each

Each is a module of this folder and prints its figure last. What it printed lies in build/bench/NAME.json, with the
machine and the date; `make bench-report` makes the documentation of it.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "bench"
NAMES = {
    "growth": "growth",
    "idle-share": "idle_share",
    "loop-start": "loop_start",
    "overhead": "bare_docker",
    "peers": "peers",
    "prompt": "prompt_growth",
    "ray-slots": "ray_slots",
    "report": "report_open",
    "sandbox-tax": "overhead",
    "scale": "scale",
    "scoring": "scorer_cost",
    "search": "search",
    "start-up": "start_up",
}
LIST = ("?", "list")
KIB_PER_GIB = 1 << 20


def describe_machine() -> str:
    """Return what the figures depend on: processors, their model and memory."""
    model = next(iter(_values(Path("/proc/cpuinfo"), "model name")), "unknown processors")
    memory_kib = int(next(iter(_values(Path("/proc/meminfo"), "MemTotal")), "0 kB").split()[0])
    return f"{len(os.sched_getaffinity(0))} x {model}, {memory_kib / KIB_PER_GIB:.0f} GiB"


def list_names() -> str:
    """Return a line for each benchmark."""
    return "\n".join(f"{name:12} {describe(module)}" for name, module in NAMES.items())


def describe(module: str) -> str:
    """Return the first sentence of a benchmark, without importing it. Raises FileNotFoundError."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def run(name: str, arguments: list[str]) -> int:
    """Run one, show its output as it comes, store it, and return its exit code; a failed one stores nothing."""
    module, lines = f"{__package__}.{NAMES[name]}", list[str]()
    assert find_spec(module), f"benchmarks/{NAMES[name]}.py is missing"  # noqa: S101
    path = BUILD / f"{name}.json"
    BUILD.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    argv = [sys.executable, "-u", "-m", module, *arguments]
    load = os.getloadavg()[0]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None  # noqa: S101
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode == 0:
        own = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        result = {
            "name": name,
            "command": f"make bench NAME={name}" + (f' ARGS="{" ".join(arguments)}"' if arguments else ""),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": describe_machine(),
            "load": round(load, 1),  # of the machine when it began, processes that want a processor
            "lines": lines,
        }  # fmt: skip
        path.write_text(json.dumps(own | result, indent=1) + "\n", encoding="utf-8")
    return process.returncode


def main() -> int:
    """Run the benchmark that is named; an unknown name lists all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", default="?", help="of the benchmark; ? lists them")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to it")
    options = parser.parse_args()
    if options.name in NAMES:
        return run(options.name, options.arguments)
    print(list_names())
    if options.name in LIST:
        return 0
    print(f"NAME={options.name}: no such benchmark; choose one of these", file=sys.stderr)
    return 1


def _values(path: Path, key: str) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]


if __name__ == "__main__":
    sys.exit(main())
