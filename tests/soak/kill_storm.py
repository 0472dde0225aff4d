"""A loop is killed at random moments, again and again: nothing outlives its deadline, nothing stays open.

    make kill-storm             # python -m tests.soak.kill_storm [--rounds 21] [--seed 1] [--parallel 2]

Each round starts the real loop on a copy of the task with a budget of seconds, and kills it somewhere between its
first line and the end of an experiment. After every seventh nobody comes back: what it left must die by its own
deadline, by the guard inside. Otherwise the next round's start must find and remove it, and close the record. With
several experiments side by side there is a baseline before the storm, as nothing runs beside it.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import JournalError
from orchestrator.record.journal import Journal
from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[2]
BUDGETS = {"time_budget_s": 8.0, "score_budget_s": 20.0, "cpus": 1.0}
LATE_S = 60.0  # past its deadline, as the reaper counts; the guard inside is much earlier
LONGEST_S = 22.0  # from a loop's start to its death


def main(rounds: int, seed: int, parallel: int) -> int:
    """Storm, then count."""
    chance, count = random.Random(seed), Counter[str]()  # noqa: S311  # no secret
    tag = f"storm-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="storm-") as name, closing(Engine.connect()) as engine:
        task = make_task(Path(name))
        if parallel > 1:
            loop(task, tag).communicate(timeout=900)
        for number in range(rounds):
            after_s = chance.uniform(0.3, LONGEST_S)
            killed_in = kill_after(loop(task, tag, parallel), after_s)
            orphans = ours(engine, tag)
            count.update(killed=1, orphans=len(orphans), several=under_way(task, tag) > 1)
            if number % 7 == 6:
                late = outlived(engine, tag)
                count.update(waited=1, late=late)
            print(
                f"round {number + 1}: killed after {after_s:.1f} s ({killed_in}), {len(orphans)} containers left",
                flush=True,
            )
        unhurried(task)
        ends = loop(task, tag)
        output = ends.communicate(timeout=900)[0]
        count["left"] = len(ours(engine, tag))
        with Journal.read(task / "runs" / tag) as journal:
            count["open"] = len(journal.unfinished())
            count["closed"] = sum(e.status.value == "infra" for e in journal.experiments())
        verified = subprocess.run(command("verify", task, tag), cwd=ROOT, capture_output=True, text=True, check=False)
    count["broken"] = int(ends.returncode != 0) + int(verified.returncode != 0)
    if count["broken"]:
        print(output[-2000:], verified.stdout, verified.stderr)
    print(
        f"kill-storm: {count['killed']} kills, {count['several']} with several under way, {count['orphans']} orphans,"
        f" {count['late']} alive past their deadline, {count['left']} left, {count['closed']} closed as infra,"
        f" {count['open']} open, {count['broken']} broken records"
    )
    return 1 if count["late"] or count["left"] or count["open"] or count["broken"] else 0


def make_task(root: Path) -> Path:
    """A copy with short budgets; the prepared data is shared."""
    for name in ("locked", "mutable"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "program.md", root)
    text = (ROOT / "task.toml").read_text(encoding="utf-8")
    for key, value in BUDGETS.items():  # of the first profile, cpu
        text = re.sub(rf"{key} = [\d.]+", f"{key} = {value}", text, count=1)
    (root / "task.toml").write_text(text, encoding="utf-8")
    (root / "data").symlink_to(ROOT / "data")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def unhurried(task: Path) -> None:
    """The last loop must end well on a busy machine too: time enough."""
    text = (task / "task.toml").read_text(encoding="utf-8")
    hurried = f"time_budget_s = {BUDGETS['time_budget_s']}"
    (task / "task.toml").write_text(text.replace(hurried, "time_budget_s = 30.0", 1), encoding="utf-8")


def command(verb: str, task: Path, tag: str, *flags: str) -> list[str]:
    """As a user types it."""
    return [sys.executable, "-m", "orchestrator", verb, "--task", str(task), "--run", tag, *flags]


def loop(task: Path, tag: str, parallel: int = 1) -> "subprocess.Popen[str]":
    """The real loop, a few experiments more than there are."""
    counts = ("--experiments", str(parallel), "--parallel", str(parallel))
    argv = command("loop", task, tag, *counts, "--proposer", "sweep")
    environment = {
        **os.environ,
        "AUTORESEARCH_NOISE__RULE": "lowest",
        "AUTORESEARCH_CONTENTION__MAX_EXTRA_WAIT_SHARE": "1",
    }
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_after(process: "subprocess.Popen[str]", seconds: float) -> str:
    """Kill a loop some time after its start; what it said it was doing last."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    said = re.findall(r"\] (\w+\.\w+).*?(role=\S+)?\s*$", output, re.MULTILINE)
    return " ".join(said[-1]).strip() if said else "at its start"


def under_way(task: Path, tag: str) -> int:
    """How many experiments the record says have begun and not ended."""
    with suppress(JournalError), Journal.read(task / "runs" / tag) as journal:
        return len(journal.unfinished())
    return 0  # killed before there was a record


def ours(engine: Engine, tag: str) -> list[dict[str, Any]]:
    """Containers of that run, running or not."""
    argv = ["docker", "ps", "-aq", "--no-trunc", "--filter", f"label=autoresearch.run={tag}"]
    found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    return [engine.inspect(container) for container in found]


def outlived(engine: Engine, tag: str) -> int:
    """Wait until the last deadline; how many still run a minute past theirs. Dead ones wait for the next start."""
    waiting = [c for c in ours(engine, tag) if c["State"]["Running"]]
    deadlines = {c["Id"]: float(c["Config"]["Labels"]["autoresearch.deadline"]) for c in waiting}
    while deadlines and time.time() < max(deadlines.values()) + LATE_S:
        if not any(c["State"]["Running"] for c in ours(engine, tag)):
            return 0
        time.sleep(1.0)
    return sum(c["State"]["Running"] for c in ours(engine, tag))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kill_storm")
    for name, usual in (("rounds", 21), ("seed", int(time.time())), ("parallel", 1)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    sys.exit(main(**vars(parser.parse_args())))
