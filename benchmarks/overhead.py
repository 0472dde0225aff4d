"""What the walls cost: the same train.py within them and in a plain `docker run` of the same image, side by side.

    python -m benchmarks.overhead [ROUNDS [SECONDS]] [--profile gpu]

Needs the engine, the image, the data (`make image prepare-data`) and two processors, or an idle GPU. On processors both
run at the same time, each on a half of them, and swap halves each round, so that what else the machine does hits both
alike; on a GPU they take turns, and who begins changes each round. They get the same files, seed and seconds of
training; the plain one has the engine's defaults instead of ours: its seccomp profile and capabilities, root, a
writable file system, no limits but the processors, no guard as PID 1. Tokens a second are those that train.py counts
once it is warm. The last line has the median over the rounds.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from orchestrator import compose
from orchestrator.config import load
from orchestrator.devices.cpus import numbers, ranges
from orchestrator.devices.lease import build_lease_policy, lease
from orchestrator.errors import AutoresearchError
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import ExperimentSandbox

ROOT = Path(__file__).parents[1]
PLAN = Plan(train_seed=1, audit_seed=bytes(32))


def candidate() -> Candidate:
    """Wrap train.py as it is as a candidate."""
    source = (ROOT / "mutable" / "train.py").read_text(encoding="utf-8")
    reply = Reply(proposer="overhead", model="", prompt="", text="")
    return Candidate(
        proposal=Proposal(hypothesis="overhead"), source=source, parent_id=None, parent_source=source, reply=reply
    )


def walled(place: ExecutionContext, number: int) -> float:
    """Measure tokens per second in the trainer's container, as every experiment has it."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with ExperimentSandbox.open(place, candidate(), PLAN, experiment_id=number, folder=folder) as box:
            return speed(box.start(Role.TRAINER, best=None, on_line=lambda _: None).wait().log_tail)


def plain(place: ExecutionContext) -> float:
    """Measure tokens per second in `docker run` with the engine's defaults."""
    device = f"--cpuset-cpus={place.cpuset}" if place.gpu_uuid is None else f"--gpus=device={place.gpu_uuid}"
    command = ["docker", "run", "--rm", "--user=0", "--network=none", device]
    if place.gpu_uuid is not None:
        command += [f"--cpus={place.config.active_profile.cpus:g}", f"--shm-size={place.config.active_profile.shm_mb}m"]
    mounts = {ROOT / "locked": "/locked", ROOT / "mutable": "/mutable"}
    mounts |= {place.config.data_path / part: f"/data/{part}" for part in ("tokenizer", "train")}
    for source, target in mounts.items():
        command += ["-v", f"{source}:{target}:ro"]
    for key, value in place.environment(PLAN.train_seed).items():
        command += ["-e", f"{key}={value}"]
    script = "mkdir -p /out /cache && exec python3 -s -B /mutable/train.py"
    done = subprocess.run([*command, place.image_id, "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"overhead: docker run ended with {done.returncode}: {done.stderr[-500:]}")
    return speed(done.stdout)


def speed(output: str) -> float:
    """Read tokens per second from the output of train.py."""
    found = re.findall(r"^tokens_per_second: +(\d+)$", output, re.MULTILINE)
    if len(found) != 1:
        sys.exit(f"overhead: no tokens_per_second: {output[-500:]}")
    return float(found[0]) or sys.exit("overhead: not one step was done: give it more seconds, or a calmer machine")


def compared(halves: list[ExecutionContext], rounds: int) -> list[float]:
    """Measure, in per cent, what the walls cost in each round; a single context is used in turns."""
    costs = []
    with ThreadPoolExecutor(len(halves)) as pool:
        for number in range(rounds):
            one, other = (halves[0], halves[-1]) if number % 2 else (halves[-1], halves[0])
            if number % 2:
                within, beside = pool.submit(walled, one, number), pool.submit(plain, other)
            else:
                beside, within = pool.submit(plain, other), pool.submit(walled, one, number)
            costs.append(100 * (1 - within.result() / beside.result()))
            print(f"round {number + 1}: {within.result():,.0f} tok/s within the walls, {beside.result():,.0f} without")
    return costs


def main() -> None:
    """Lease, halve a set of processors, compare, then say the median."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=4)
    parser.add_argument("seconds", nargs="?", type=float, help="of each training; default: 25 on cpu, 120 on gpu")
    parser.add_argument("--profile", choices=["cpu", "gpu"], default="cpu")
    options = parser.parse_args()
    gpu = options.profile == "gpu"
    (ROOT / "build").mkdir(exist_ok=True)
    known = {"tag": "overhead", "runs": ROOT / "build", "profile_name": options.profile}
    policy = replace(build_lease_policy(load(ROOT, known)), cpus=2)
    with lease(policy, wait_s=600, on_wait=print) as leased:
        cpus = numbers(leased.cpuset)
        flags = {"time_budget_s": options.seconds or (120.0 if gpu else 25.0)}
        flags |= {} if gpu else {"cpus": len(cpus) // 2}
        dotted = {f"profile.{options.profile}.{key}": value for key, value in flags.items()}
        config = load(ROOT, {**known, **dotted})
        place = compose.build_leased_context(config, Engine.connect(), leased)
        halves = [place] if gpu else [replace(place, cpuset=ranges(half)) for half in (cpus[::2], cpus[1::2])]
        costs = compared(halves, options.rounds)
    print(f"overhead: {statistics.median(costs):.1f} %")


if __name__ == "__main__":
    try:
        main()
    except AutoresearchError as error:
        sys.exit(f"overhead: {error}")
