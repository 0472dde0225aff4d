"""A cluster whose parts are killed again and again: every experiment ends once, none is lost, nothing is left running.

    make ray-storm MINUTES=15    # python -m tests.soak.ray_storm [--minutes 15] [--hosts 3] [--seed 1]

A head and hosts in network namespaces of one machine, the real loop, real workers, and real containers of an engine of
its own. Slots, raylets, workers, the head, its driver, the loop and the engine are killed, and hosts are cut off the
network. Then all is quiet: a last session runs what is owed, and everything is counted.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from attacks.walls.own_engine import load, until_it_answers
from orchestrator.errors import AutoresearchError
from orchestrator.events import ExperimentBegun, ExperimentFinished
from orchestrator.execution import join
from orchestrator.record.journal import Journal
from orchestrator.types import QUEUED_AGAIN
from orchestrator.walls.engine import Engine
from tests.soak import kill_storm
from tests.support.network import Network, network
from tests.support.ray_cluster import PORT, kill, processes_in

ROOT = Path(__file__).parents[2]
TAG = "ray-storm"
BUDGETS = {"time_budget_s": 6.0, "score_budget_s": 30.0, "cpus": 1.0}
PAUSE_S = (8.0, 30.0)  # between two kills
CUT_S = (5.0, 40.0)
PATIENCE_S = 90.0  # for what is killed next to run
WARM_S = 300.0  # for the baseline, before anything is killed
CALM_S = 420.0  # for the last session
REAPED_S = 90.0  # for what is left behind to be removed
WORDS = {  # in the command lines of what is killed, and where
    "slot": ("ray::RemoteSlot", None),
    "raylet": ("/raylet --", None),
    "worker": ("orchestrator worker", None),
    "head": ("gcs_server", 0),
    "driver": ("orchestrator.cluster.driver", 0),
    "loop": ("orchestrator loop", 0),
}


@dataclass(slots=True, kw_only=True)
class StormEngine:
    """An engine of the storm's own, that is killed and started again on what it had."""

    root: Path
    daemon: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"unix://{self.root}/docker.sock"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (self.root / "pid").unlink(missing_ok=True)
        (self.root / "daemon.json").write_text("{}")
        argv = [
            "dockerd", f"--data-root={self.root}/data", f"--exec-root={self.root}/exec", f"--pidfile={self.root}/pid",
            "-H", self.address, "--bridge=none", "--iptables=false", "--ip6tables=false",
            f"--config-file={self.root}/daemon.json",
        ]  # fmt: skip
        with (self.root / "log").open("a") as log:
            self.daemon = subprocess.Popen(argv, stdout=log, stderr=log)
        until_it_answers(self.daemon, self.address, self.root / "log")

    def kill(self) -> None:
        """As the kernel would, its containerd too; what runs in containers goes on for now."""
        containerd = self.root / "exec" / "containerd" / "containerd.pid"
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            with suppress(OSError, ValueError):
                os.kill(int(containerd.read_text()), signal.SIGKILL)
            containerd.unlink(missing_ok=True)

    def stop(self) -> None:
        """End it well, with its containers."""
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(60)
            subprocess.run(["umount", str(self.root / "data")], capture_output=True, check=False)  # its own, on itself

    def containers(self) -> list[dict[str, str]]:
        """The labels of the run's containers that run; none while it does not answer."""
        argv = ["docker", "-H", self.address, "ps", "-q", "--filter", f"label=autoresearch.run={TAG}"]
        found = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
        labels = []
        with suppress(AutoresearchError), closing(Engine.connect(self.address)) as engine:
            labels = [engine.inspect(one)["Config"]["Labels"] for one in found]
        return labels


@dataclass(slots=True, kw_only=True)
class Storm:
    """What runs, and is started again when it is killed."""

    net: Network
    engine: StormEngine
    task: Path
    token: Path
    chance: random.Random
    log: Path
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    late: set[str] = field(default_factory=set)
    cut_until: dict[int, float] = field(default_factory=dict)
    bag: list[str] = field(default_factory=list)  # what is killed next: each kind before any comes again

    def command(self, name: str) -> list[str]:
        """The loop on the head, or the worker of a host."""
        address = ["--address", f"{self.net.address(0)}:{PORT}", "--token-file", str(self.token)]
        common = [sys.executable, "-m", "orchestrator"]
        if name == "loop":
            limits = ["--experiments", "0", "--parallel", str(self.net.hosts - 1), "--proposer", "sweep"]
            return [*self.net.inside(0), *common, *loop_words(self.task), *limits, "--executor", "ray", *address]
        number = int(name.removeprefix("host"))
        return [*self.net.inside(number), *common, "worker", "--task", str(self.task), "--slots", "1", *address]

    def environment(self) -> dict[str, str]:
        """Tests' limits, and the storm's engine."""
        return {
            **os.environ, "PYTHONPATH": str(ROOT), "DOCKER_HOST": self.engine.address,
            "AUTORESEARCH_NOISE__RULE": "lowest", "AUTORESEARCH_CONTENTION__MAX_EXTRA_WAIT_SHARE": "1",
            "AUTORESEARCH_LIMITS__CONSECUTIVE_INFRA": "100000",
        }  # fmt: skip

    def keep_running(self, *names: str) -> None:
        """Start whatever does not run."""
        for name in names:
            if name not in self.processes or self.processes[name].poll() is not None:
                with (self.log / f"{name}.log").open("ab") as log:
                    self.processes[name] = subprocess.Popen(
                        self.command(name), env=self.environment(), stdout=log, stderr=log, cwd=ROOT
                    )

    @property
    def hosts(self) -> list[str]:
        """The names of the workers."""
        return [f"host{number}" for number in range(1, self.net.hosts)]

    def warm_up(self) -> None:
        """Start everything, and wait for the baseline."""
        record = self.task / "runs" / TAG / "record.jsonl"
        until = time.monotonic() + WARM_S
        while time.monotonic() < until and not (record.exists() and b"experiment.finished" in record.read_bytes()):
            self.keep_running("loop", *self.hosts)
            time.sleep(1.0)

    def rage(self, seconds: float) -> None:
        """Kill one thing after another."""
        until = time.monotonic() + seconds
        strike_at = time.monotonic() + self.chance.uniform(*PAUSE_S)
        while time.monotonic() < until:
            self.keep_running("loop", *self.hosts)
            self.mend()
            self.look()
            now = time.monotonic()
            if now > strike_at and self.strike(late=now > strike_at + PATIENCE_S):
                strike_at = time.monotonic() + self.chance.uniform(*PAUSE_S)
            time.sleep(1.0)

    def strike(self, *, late: bool) -> bool:
        """Kill what is next, if it runs; whether another comes next: if not it is waited for, until it is late."""
        if not self.bag:
            self.bag = [*WORDS, "slot", "raylet", "engine", "network"]
            self.chance.shuffle(self.bag)
        what = self.bag[-1]
        if what == "engine":
            self.engine.kill()
            time.sleep(self.chance.uniform(0.0, 5.0))
            self.engine.start()
            count = 1
        elif what == "network":
            number = self.chance.randrange(1, self.net.hosts)
            self.net.cut(number)
            self.cut_until[number] = time.monotonic() + self.chance.uniform(*CUT_S)
            count = 1
        else:
            word, host = WORDS[what]
            hosts = range(1, self.net.hosts) if host is None else (host,)
            running = [one for one in hosts if any(word in line for line in processes_in(self.net, (one,)).values())]
            if not running and not late:
                return False
            count = kill(self.net, word, (self.chance.choice(running),)) if running else 0
        self.bag.pop()
        self.killed[what] += bool(count)
        print(f"{time.strftime('%H:%M:%S')} {what}: {count} killed", flush=True)
        return True

    def mend(self, *, now: bool = False) -> None:
        """Put hosts back on the network whose time is up."""
        for number, until in list(self.cut_until.items()):
            if now or time.monotonic() > until:
                self.net.mend(number)
                del self.cut_until[number]

    def look(self) -> None:
        """Note what outlived its deadline by a minute."""
        for labels in self.engine.containers():
            if time.time() > float(labels["autoresearch.deadline"]) + kill_storm.LATE_S + 5.0:
                self.late.add(f"{labels['autoresearch.experiment']} {labels['autoresearch.role']}")

    def calm(self) -> bool:
        """Run what is owed and one experiment more, to the end; whether the session ended well."""
        self.mend(now=True)
        loop = self.processes.pop("loop")
        loop.terminate()
        wait_for(lambda: loop.poll() is not None, 120.0)
        until = time.monotonic() + CALM_S
        while time.monotonic() < until:
            self.keep_running(*self.hosts)
            argv = self.command("loop")
            argv[argv.index("--experiments") + 1] = str(enough(self.task / "runs" / TAG))
            with (self.log / "loop.log").open("ab") as log:
                last = subprocess.Popen(argv, env=self.environment(), stdout=log, stderr=log, cwd=ROOT)
            if wait_for(partial(_has_ended, last), until - time.monotonic()) and last.returncode == 0:
                return True
            if last.poll() is None:
                last.kill()
                last.wait()
        return False

    def stop(self) -> None:
        """End all of it, by the ids of what was started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
                continue
            process.kill()
            process.wait()


def enough(folder: Path) -> int:
    """How many experiments a run has once it has run what is owed and one more; they count from its first session."""
    with Journal.read(folder) as journal:
        return journal.spent().experiments + len(journal.queued()) + len(journal.unfinished()) + 1


def loop_words(task: Path) -> list[str]:
    """The command and the run."""
    return ["loop", "--task", str(task), "--run", TAG]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait; whether it came to pass."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def count(folder: Path) -> tuple[int, int, int]:
    """Of a run: its judged experiments, those that count twice, and those that are lost."""
    with Journal.read(folder) as journal:
        begun = Counter(one.event.experiment_id for one in journal.events(ExperimentBegun))
        ended = Counter(one.event.experiment_id for one in journal.events(ExperimentFinished))
        experiments = {one.id: one for one in journal.experiments()}
        owed = {one.id for one in journal.queued()}
    repeats = Counter(one.retry_of for one in experiments.values() if one.retry_of is not None)
    twice = sum(number > 1 for number in (begun | ended).values())
    twice += sum(number > 1 or experiments[one].is_judged for one, number in repeats.items() if one in experiments)
    judged = sum(one.status not in QUEUED_AGAIN for one in experiments.values())
    return judged, twice, len(begun.keys() - ended.keys()) + len(owed)


def main(minutes: float, hosts: int, seed: int) -> int:
    """Storm, calm down, count."""
    kill_storm.BUDGETS = BUDGETS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s-", ignore_cleanup_errors=True)))
        folder.chmod(0o711)
        for name in ("task", "engine", "logs"):
            (folder / name).mkdir()
        task = kill_storm.make_task(folder / "task")
        net = stack.enter_context(network(hosts + 1))
        engine = StormEngine(root=folder / "engine")
        engine.start()
        stack.callback(engine.stop)
        for image in ("autoresearch-sandbox:cpu", "autoresearch-sandbox:cpu-library"):
            load(engine.address, image)
        storm = Storm(
            net=net, engine=engine, task=task, chance=random.Random(seed), log=folder / "logs",  # noqa: S311  # no secret
            token=join.require_token(folder / "token", create=True),
        )  # fmt: skip
        stack.callback(storm.stop)
        storm.warm_up()
        storm.rage(minutes * 60)
        well = storm.calm()
        storm.stop()
        wait_for(lambda: not engine.containers() and not processes_in(net), REAPED_S)
        remains = [*(str(labels) for labels in engine.containers()), *processes_in(net).values()]
        verify = [sys.executable, "-m", "orchestrator", "verify", "--task", str(task), "--run", TAG]
        verified = subprocess.run(verify, cwd=ROOT, capture_output=True, text=True, check=False)
        judged, twice, lost = count(task / "runs" / TAG)
        fine = well and not verified.returncode and not storm.late and not twice and not lost and not remains
        if not fine:
            for log in sorted(storm.log.iterdir()):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
            print("\n".join(f"left: {one[:300]}" for one in remains))
            print(f"last session ended well: {well}; late: {sorted(storm.late)}; {verified.stdout}{verified.stderr}")
    kills = ", ".join(f"{number} {what}" for what, number in storm.killed.most_common())
    print(f"killed: {kills}")
    print(
        f"ray-storm: {judged} experiments, {twice} twice, {lost} lost, {len(remains)} left,"
        f" {storm.killed.total()} kills",
        flush=True,
    )
    return 0 if fine else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.ray_storm")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    sys.exit(main(**vars(parser.parse_args())))
