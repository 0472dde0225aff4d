"""What the walls cost: the same train.py within them and in a plain `docker run` of the same image, side by side.

    python -m benchmarks.overhead [ROUNDS [SECONDS]]

Needs the engine, the image and the data (`make image data`). Both ways get the same processors, files, seed and seconds
of training; the plain one has the engine's defaults instead of ours: its seccomp profile, capabilities, a network, a
writable root, no limits but the processors, no guard as PID 1. The two take turns and swap their order each round, so
that what else the machine does hits both. Tokens a second are those that train.py counts. The last line has the median.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from orchestrator import compose
from orchestrator.box import Box, Place
from orchestrator.config import Config, load
from orchestrator.containers import Engine
from orchestrator.lease import Lease, LeasePolicy, lease
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role

ROOT = Path(__file__).parents[1]
PLAN = Plan(train_seed=1, audit_seed=bytes(32))


def candidate() -> Candidate:
    """train.py as it is."""
    source = (ROOT / "mutable" / "train.py").read_text(encoding="utf-8")
    reply = Reply(proposer="overhead", model="", prompt="", text="")
    return Candidate(
        proposal=Proposal(hypothesis="overhead"), source=source, parent_id=None, parent_source=source, reply=reply
    )


def walled(place: Place, number: int) -> float:
    """Tokens a second in the trainer's container as every experiment has it."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Box.open(place, candidate(), PLAN, experiment_id=number, folder=folder) as box:
            running = box.start(Role.TRAINER, best=None, on_line=lambda _: None)
            result = running.wait()
    return speed(result.log_tail)


def plain(place: Place) -> float:
    """Tokens a second in `docker run` with the engine's defaults."""
    config, environment = place.config, place.environment(PLAN.train_seed)
    command = ["docker", "run", "--rm", f"--name=overhead-{uuid.uuid4().hex[:8]}", f"--cpuset-cpus={place.cpuset}"]
    mounts = {ROOT / "locked": "/locked", ROOT / "mutable": "/mutable"}
    mounts |= {config.data_path / part: f"/data/{part}" for part in ("tokenizer", "train")}
    for source, target in mounts.items():
        command += ["-v", f"{source}:{target}:ro"]
    for key, value in environment.items():
        command += ["-e", f"{key}={value}"]
    script = "mkdir -p /out /cache && exec python3 -s -B /mutable/train.py"
    done = subprocess.run(
        [*command, place.image_id, "sh", "-c", script], check=True, capture_output=True, text=True, timeout=600
    )
    return speed(done.stdout)


def speed(output: str) -> float:
    """What train.py says: its tokens over its seconds of training."""
    found = {key: float(value) for key, value in re.findall(r"^(\w+): +([\d.]+)$", output, re.MULTILINE)}
    return 1e6 * found["total_tokens_M"] / found["training_seconds"]


def compared(place: Place, rounds: int) -> list[float]:
    """Per cent that the walls cost, round by round."""
    costs = []
    for number in range(rounds):
        ways = [("walled", lambda: walled(place, number)), ("plain", lambda: plain(place))]  # noqa: B023 - used at once
        found = {name: run() for name, run in (ways if number % 2 else reversed(ways))}
        costs.append(100 * (1 - found["walled"] / found["plain"]))
        print(
            f"round {number + 1}: walled {found['walled']:,.0f} tok/s, plain {found['plain']:,.0f} tok/s,"
            f" {costs[-1]:+.1f} %", flush=True,
        )  # fmt: skip
    return costs


def settings(seconds: float) -> Config:
    """The cpu profile with another budget."""
    flags = {"tag": "overhead", "runs": ROOT / "build", "profile.cpu.time_budget_s": seconds}
    return load(ROOT, flags)


def main(rounds: int = 4, seconds: float = 15.0) -> None:
    """Take turns, then say the median."""
    (ROOT / "build").mkdir(exist_ok=True)
    config, engine = settings(seconds), Engine.connect()
    with lease(LeasePolicy(profile="cpu", cpus=config.box.cpus), wait_s=600, on_wait=print) as leased:
        costs = compared(place_on(config, engine, leased), rounds)
    print(f"overhead: {statistics.median(costs):.1f} %")


def place_on(config: Config, engine: Engine, leased: Lease) -> Place:
    """The leased processors."""
    return compose.place(config, engine, leased)


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:], strict=False)))
