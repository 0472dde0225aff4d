"""A host joins a cluster with its slots, as long as it has code, image, data and settings in common with the head."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import compose, files
from orchestrator.cluster import host
from orchestrator.cluster.driver import OBJECT_STORE_BYTES, WrongToken, ask_store, end_process, last_line, ray_start
from orchestrator.cluster.slot import remove_leftovers
from orchestrator.config import Config
from orchestrator.devices import gpu
from orchestrator.devices.lease import build_lease_policy, count_by_hardware
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.execution import join
from orchestrator.execution.join import HeadFacts
from orchestrator.host.source import IN_IMAGE, name_corpus
from orchestrator.walls.engine import Engine
from orchestrator.walls.reaper import reap_in_background

LOOK_S = 2.0
ASK_EVERY = 3  # looks
ASK_S = 60.0
AGAIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What `autoresearch worker` was started with."""

    address: str
    root: Path
    token_file: Path | None
    slots: int | None
    node_ip: str
    data: Path | None
    accept_risk: tuple[str, ...]
    say: Callable[[str], None]

    def run(self, environment: Mapping[str, str]) -> None:
        """Join, and join again whenever the head comes back. Raises AutoresearchError where this host may not join."""
        join.require_ray()
        join.split_address(self.address)
        token = join.require_token(self.token_file, create=False)
        if not join.is_answering(self.address):
            raise ConfigError(
                f"--address {self.address}: nothing answers; start `autoresearch loop --executor ray` there"
            )
        with files.temporary_folder("arw-") as folder:
            here = host.Host(folder=folder, root=self.root, accept_risk=self.accept_risk)
            host.write_host(here)
            variables = join.cluster_environment(token, environment) | {host.VARIABLE: str(folder)}
            joined = False
            while True:
                head = self.wait_for_head(variables)
                try:
                    config, engine = self.prepare(here, head)
                    with closing(engine), reap_in_background(engine.reap):
                        joined = True
                        try:
                            self.serve(here, head, config, variables)
                        finally:
                            with suppress(SandboxError):  # the next start reaps
                                engine.reap()
                except SandboxError as error:  # the engine: it may come back
                    if not joined:
                        raise
                    self.say(f"{error}; trying again")
                    time.sleep(AGAIN_S)
                finally:
                    remove_leftovers(here.folder)

    def wait_for_head(self, variables: Mapping[str, str]) -> HeadFacts:
        """Return the facts of a head that lives. Raises ConfigError where it does not take this host's token."""
        before, said = "", False
        while True:
            if join.is_answering(self.address):
                facts = ask_head(self.address, variables)
                if facts and before and facts != before:  # its clock is compared only where it is known to run
                    head = join.parse_facts(facts)
                    if skew := join.find_clock_skew(head, time.time()):
                        raise ConfigError(skew)
                    return head
                before = facts
            if not said:
                self.say(f"waiting for the head at {self.address}")
                said = True
            time.sleep(LOOK_S)

    def prepare(self, here: host.Host, head: HeadFacts) -> tuple[Config, Engine]:
        """Make what is missing here, and compare all of it with the head's. Raises AutoresearchError."""
        require_equal(head, join.collect_versions())
        config = host.load_config(here, head.settings, tag=head.run, runs=here.folder)
        require_equal(head, join.collect_locked(config))
        source = IN_IMAGE if config.corpus == IN_IMAGE else str(self.data or "")
        if source and name_corpus(source) == config.corpus:
            compose.set_up(config, source, self.say)
        engine = compose.connect_engine(config)
        require_equal(head, join.collect_inputs(config, engine))
        return config, engine

    def serve(self, here: host.Host, head: HeadFacts, config: Config, variables: Mapping[str, str]) -> None:
        """Offer slots until the head is gone or has other facts."""
        offered = count_slots(config, self.slots)
        resources = {join.SLOT: sum(offered.values()), head.resource: sum(offered.values())}
        resources |= {join.hardware_resource(hardware): count for hardware, count in offered.items()}
        ray_folder = Path(tempfile.mkdtemp(prefix="r-", dir=here.folder))
        process = ray_start(
            f"--address={self.address}", f"--node-ip-address={self.node_ip or route_to(self.address)}",
            f"--resources={json.dumps(resources)}", f"--object-store-memory={OBJECT_STORE_BYTES}",
            folder=ray_folder, environment=dict(variables),
        )  # fmt: skip
        try:
            for hardware, count in offered.items():
                self.say(f"joins {self.address} for run {head.run} with {count} x {hardware}")
            self.watch(here, head, process, variables)
            if process.poll() is not None:
                self.say(f"Ray ended: {last_line(ray_folder / 'ray.log')}; joining again")
        finally:
            end_process(process)
            shutil.rmtree(ray_folder, ignore_errors=True)

    def watch(
        self, here: host.Host, head: HeadFacts, process: "subprocess.Popen[bytes]", variables: Mapping[str, str]
    ) -> None:
        """Say what the slots run, until Ray ends or the head is another one."""
        held, looks = dict[int, str](), 0
        while process.poll() is None:
            time.sleep(LOOK_S)
            looks += 1
            now = host.held(here.folder)
            for pid, what in now.items():
                if held.get(pid) != what:
                    self.say(f"runs {what}")
            held = now
            if looks % ASK_EVERY:
                continue
            if not join.is_answering(self.address):
                continue  # Ray itself gives up, in time
            facts = ask_head(self.address, variables)
            if facts and join.parse_facts(facts).digest != head.digest:
                self.say("the head has other code, data, image or settings now: joining again")
                return


def ask_head(address: str, variables: Mapping[str, str]) -> str:
    """Return the head's facts, "" if there are none. Raises ConfigError.

    In a process of its own: Ray ends a process whose token it cannot use.
    """
    argv = [sys.executable, "-m", "orchestrator.cluster.worker", address]
    try:
        done = subprocess.run(  # noqa: S603  # an argv list of ours
            argv, env=dict(variables), capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode == REFUSED:
        raise ConfigError(done.stdout.strip())
    return done.stdout.strip() if done.returncode == 0 else ""


REFUSED = 3


def require_equal(head: HeadFacts, here: Mapping[str, str]) -> None:
    """Raise ConfigError, with the mend, where this host may not join."""
    if reason := join.find_difference(head, here):
        raise ConfigError(reason)


def count_slots(config: Config, wanted: int | None) -> dict[str, int]:
    """Return how many slots this host offers, by hardware class. Raises ConfigError."""
    with gpu.open_nvml() if config.profile_name == "gpu" else nullcontext():
        there = count_by_hardware(build_lease_policy(config))
    left = sum(there.values()) if wanted is None else wanted
    if not 0 < left <= sum(there.values()):
        raise ConfigError(f"--slots {left}: this host has devices for 1 to {sum(there.values())}")
    offered: dict[str, int] = {}
    for hardware, count in there.items():
        if one := min(count, left - sum(offered.values())):
            offered[hardware] = one
    return offered


def route_to(address: str) -> str:
    """Return this host's address on the way to another; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(join.split_address(address))
        return str(probe.getsockname()[0])


if __name__ == "__main__":
    try:
        print(ask_store(sys.argv[1]))  # noqa: T201  # its answer
    except WrongToken as error:
        print(error)  # noqa: T201
        sys.exit(REFUSED)
