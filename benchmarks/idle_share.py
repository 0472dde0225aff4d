"""How much of its time the slot stands idle: the real loop and real containers, an LLM that takes a while to answer.

    .venv/bin/python -m benchmarks.idle_share [EXPERIMENTS [LATENCY_S]]

Needs the engine, the image and the data (`make image prepare-data`). The LLM is a server on loopback that speaks the
Messages API and answers after LATENCY_S; without arguments, after what 5, 15 and 60 s are to the 300 s of a GPU's
experiment, scaled to this profile's budget. Idle is the time between the end of one experiment and the begin of the
next, from the begin of experiment 1 on: before it there is nothing yet to prefetch beside. Every experiment runs once,
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
EXPERIMENTS, LATENCY_S = 3, 6.0
LATENCIES_S = (5.0, 15.0, 60.0)  # of the LLM, to a GPU's experiment


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
            "recording.llm_lessons": False,  # the stand-in answers nothing else than proposals
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


def compare(experiments: int, latency_s: float) -> tuple[float, float]:
    """Measure with one proposal prefetched, and asking one after the other."""
    return idle_percent(experiments, latency_s, 1), idle_percent(experiments, latency_s, 0)


def compare_scaled() -> tuple[list[float], list[float]]:
    """Measure both ways with every latency, and print a line for each."""
    profiles = load(ROOT, {"tag": "idle", "runs": ROOT / "runs"}).profile
    gpu_s, here_s = (profiles[name].time_budget_s for name in ("gpu", "cpu"))
    found = []
    for latency_s in LATENCIES_S:
        scaled_s = latency_s * here_s / gpu_s
        found.append(compare(EXPERIMENTS, scaled_s))
        print(
            f"an LLM that takes {latency_s:g} s of {gpu_s:g} s, here {scaled_s:.2f} s of {here_s:g} s:"
            f" prefetch {found[-1][0]:.1f} %, one after the other {found[-1][1]:.1f} %",
            flush=True,
        )
    return [ahead for ahead, _ in found], [after for _, after in found]


def main() -> None:
    """Run both ways, one after the other."""
    os.environ["ANTHROPIC_API_KEY"] = KEY
    if len(sys.argv) > 1:
        ahead, after = compare(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else LATENCY_S)
        print(f"idle share: prefetch {ahead:.1f} % · one after the other {after:.1f} %")
        return
    aheads, afters = (" ".join(f"{share:.1f}" for share in shares) for shares in compare_scaled())
    named = " ".join(f"{latency_s:g}" for latency_s in LATENCIES_S)
    print(f"idle share at {named} s: prefetch {aheads} % · one after the other {afters} %")


if __name__ == "__main__":
    main()
