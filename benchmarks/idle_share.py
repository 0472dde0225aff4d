"""How much of its time the slot stands idle: the real loop and real containers, an LLM that takes a while to answer.

    .venv/bin/python -m benchmarks.idle_share [EXPERIMENTS [LATENCY_S]]

Needs the engine, the image and the data (`make image prepare-data`). The LLM is a server on loopback that speaks the
Messages API and answers after LATENCY_S. Idle is the time between the end of one experiment and the begin of the next,
from the begin of experiment 1 on: before it there is nothing yet to prefetch beside. Every experiment runs once,
whoever else works: what is measured is the time between them.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator import compose
from orchestrator.config import load
from orchestrator.events import ExperimentBegun, ExperimentFinished
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from tests.support.fake_messages_api import KEY, FakeMessagesApi, Message, proposal

ROOT = Path(__file__).parents[1]


@contextmanager
def copied_task() -> Iterator[Path]:
    """Copy the task: keeping a patch changes its train.py."""
    with tempfile.TemporaryDirectory(prefix="idle-share-") as folder:
        root = Path(folder)
        for name in ("locked", "mutable", "data/cpu-python"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("task.toml", "program.md"):
            shutil.copy(ROOT / name, root / name)
        subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
        yield root


def answers(latency_s: float) -> Callable[[dict[str, Any]], Message]:
    """Build an endpoint that proposes one new number at a time, for whichever file the prompt shows."""
    numbers = itertools.count(1)

    def answer(body: dict[str, Any]) -> Message:
        shown = body["messages"][0]["content"][0]["text"]
        line = next(line for line in shown.splitlines() if line.startswith("ROTARY_BASE = "))
        value = 10_000.0 + next(numbers)
        arguments = proposal(line, f"ROTARY_BASE = {value}", f"rotary base {value}", retry_rationale="a stand-in")
        return Message(arguments=arguments, latency_s=latency_s)

    return answer


def idle_percent(experiments: int, latency_s: float, prefetch: int) -> float:
    """Run a session and measure it by the journal's own times."""
    with copied_task() as root, FakeMessagesApi(always=answers(latency_s)) as api:
        flags = {"tag": "idle", "runs": root / "runs", "proposer": "claude", "prefetch": prefetch}
        flags |= {"claude.base_url": api.url, "limits.experiments": experiments, "limits.max_usd": 0.0}
        flags |= {
            "noise.rule": "lowest",
            "contention.max_extra_wait_share": 1.0,
        }
        config = load(root, flags)
        with compose.open_session(config, lambda _: None) as session:
            print(f"prefetch {prefetch}: {run_session(session)}", flush=True)
        with Journal.read(config.run_path) as journal:
            begun = [at(one.at) for one in journal.events(ExperimentBegun)]
            ended = [at(one.at) for one in journal.events(ExperimentFinished)]
            told = [f"{e.id} {e.status} {e.duration_s:.1f} s" for e in journal.experiments()]
    gaps = [start - end for end, start in zip(ended[1:-1], begun[2:], strict=True)]
    idle = 100 * sum(gaps) / (ended[-1] - begun[1])
    print(f"  experiments: {', '.join(told)}\n  gaps in s: {', '.join(f'{gap:.2f}' for gap in gaps)}", flush=True)
    return idle


def at(text: str) -> float:
    """Parse a time into seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Run both ways, one after the other."""
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    latency_s = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
    os.environ["ANTHROPIC_API_KEY"] = KEY
    ahead, after = (idle_percent(experiments, latency_s, prefetch) for prefetch in (1, 0))
    print(f"idle share: prefetch {ahead:.1f} % · one after the other {after:.1f} %")


if __name__ == "__main__":
    main()
