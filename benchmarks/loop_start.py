"""How long after `make loop` the first experiment trains, on a machine where everything is set up.

    make bench NAME=loop-start                      # python -m benchmarks.loop_start [ROUNDS]

Each round is a new run of a copy of the task, typed as a user types it, and interrupted once its trainer has started;
the first one is not counted. All is taken from the record: when it was opened, the session started and the experiment
began, and when its trainer did. Beside the seconds by the clock stand those of the processors that make and all
that it started took until the interrupted loop had ended; what the engine and its containers took is not in them.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.idle_share import at, copied_task
from benchmarks.prompt_growth import ROOT
from orchestrator.events import ContainerStarted, ExperimentBegun, SessionStarted
from orchestrator.record.record_file import NAME
from orchestrator.types import Role

ROUNDS = 5
STEPS = ("record open", "session", "experiment", "trainer")
LOOK_S, LONGEST_S = 0.05, 300


def read_times(folder: Path) -> dict[str, float]:
    """Return when each step of a run was reached, in seconds since the epoch."""
    lock, record = folder / "lock", folder / NAME
    found = {"record open": lock.stat().st_ctime} if lock.exists() else {}
    for line in record.read_bytes().splitlines(keepends=True) if record.exists() else ():
        if line.endswith(b"\n"):
            value = json.loads(line)
            is_trainer = value["kind"] == ContainerStarted.kind and value["body"]["role"] == Role.TRAINER
            steps = {SessionStarted.kind: "session", ExperimentBegun.kind: "experiment"}
            if step := "trainer" if is_trainer else steps.get(value["kind"]):
                found.setdefault(step, at(value["at"]))
    return found


def start_loop(task: Path, run: str) -> tuple[dict[str, float], float]:
    """Start a loop, end it when it trains, and return the seconds to each step and those of the processors."""
    argv = ["make", "loop", f"TASK={task}", f"RUN={run}", "EXPERIMENTS=1", "PROPOSER=sweep", "PROFILE=cpu"]
    found, began, before = dict[str, float](), time.time(), os.times()
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            while "trainer" not in found and process.poll() is None and time.time() < began + LONGEST_S:
                time.sleep(LOOK_S)
                found = read_times(task / "runs" / run)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        said = process.communicate()[1]
    if "trainer" not in found:
        sys.exit(f"loop-start: no trainer started: {said[-500:]}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {step: found[step] - began for step in STEPS}, used


def main() -> None:
    """Measure every round."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with copied_task() as task:
        start_loop(task, "warm")
        times, used = list[dict[str, float]](), list[float]()
        for number in range(rounds):
            one, processors = start_loop(task, f"round-{number}")
            times.append(one)
            used.append(processors)
            steps = ", ".join(f"{step} {one[step]:.1f}" for step in STEPS)
            print(f"round {number + 1}: {steps} s after the command; {processors:.1f} s of the processors", flush=True)
    trained = [one["trainer"] for one in times]
    print(
        f"loop-start: the first experiment trains {min(trained):.1f} s after make loop at the quickest, median"
        f" {statistics.median(trained):.1f} s; {min(used):.1f} s of the processors"
    )


if __name__ == "__main__":
    main()
