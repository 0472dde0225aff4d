"""What an experiment may print or leave without harm: the orchestrator's memory and its record stay small.

    python -m tests.soak.flood [MIB]

Each case runs in a trainer's container, and this process, which drains and records it, is measured.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

from attacks.walls.arena import Arena
from attacks.walls.base import Observation
from attacks.walls.host import memory_mib, while_alive
from orchestrator.walls.container import RunningContainer
from orchestrator.walls.engine import Engine

LINES = "import sys\ndata = b'x' * 4095 + b'\\n'\nfor _ in range({0}): sys.stdout.buffer.write(data * 256)"
EMPTY = "import sys\nfor _ in range({0}): sys.stdout.buffer.write(b'\\n' * (1 << 20))"
BYTES = "import os\nfor i in range({0} << 20): os.write(1 + i % 2, b'x')"
ENDLESS = "import sys\nfor _ in range({0}): sys.stdout.buffer.write(b'x' * (1 << 20))"
FILES = """
import os
try:
    for i in range(10**6): os.close(os.open(f'/out/{i}', os.O_CREAT))
except OSError as error: print(i, error)
"""
BOUND_MIB = 200


def sample_memory(peak: list[float], running: RunningContainer, _seen: Observation) -> None:
    """Note the host's memory, in MiB, for as long as the container runs."""
    peak.extend(memory_mib() for _ in while_alive(running))


def main(mib: int) -> int:
    """One case after the other; the last line has the highest figure."""
    highest = 0.0
    cases = {
        f"{mib} MiB of lines": LINES.format(mib),
        f"1 line of {mib // 10} MiB": ENDLESS.format(mib // 10),
        f"{mib // 100} MiB of empty lines": EMPTY.format(mib // 100),
        "4 MiB in pieces of a byte": BYTES.format(4),
        "a million files": FILES,
    }
    engine = Engine.connect()
    with tempfile.TemporaryDirectory(prefix="flood-") as scratch:
        attacked = Arena(engine=engine, scratch=Path(scratch))
        for name, source in cases.items():
            peak: list[float] = []
            seen = attacked.one(
                source,
                profile={"time_budget_s": 540.0},
                watch=partial(sample_memory, peak),
            )
            result = seen.result
            if result is None:
                return 1
            record = sum(path.stat().st_size for path in seen.folder.rglob("*") if path.is_file()) / 2**20
            highest = max(highest, *peak)
            printed, dropped = result.stdout_bytes / 2**20, result.dropped_bytes / 2**20
            said = f"{printed:.0f} MiB printed, {dropped:.0f} MiB of it dropped and counted, record {record:.1f} MiB"
            end = result.log_tail[-60:].strip()
            print(
                f"{name}: {said}, orchestrator {max(peak):.0f} MiB, {result.duration_s:.0f} s, end: {end}", flush=True
            )
    engine.close()
    print(f"flood: orchestrator at most {highest:.0f} MiB (bound {BOUND_MIB})")
    return int(highest >= BOUND_MIB)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10240))
