"""A real Ray cluster of stand-in slots in network namespaces, and what is needed to look at and to kill its parts."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from orchestrator.config import Config
from orchestrator.devices.schedule import StartGate
from orchestrator.events import Event
from orchestrator.execution import join
from orchestrator.execution.experiment import ignore
from orchestrator.execution.join import HeadFacts
from orchestrator.execution.remote import RayCluster, RemoteRunner
from tests.support.network import Network, network

ROOT = Path(__file__).parents[2]
PORT = 46379


@dataclass(slots=True, kw_only=True)
class StandInCluster:
    """A head and hosts with slots."""

    net: Network
    token: Path
    facts: HeadFacts
    cluster: RayCluster
    hosts: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def runners(
        self, config: Config, record: Callable[[Event], object], own_class: str = ""
    ) -> tuple[RemoteRunner, ...]:
        """A runner per parallel experiment; the first one takes slots of a class of hardware, the others any."""
        return tuple(
            RemoteRunner(
                cluster=self.cluster, number=number, config=config, facts=self.facts,
                hardware=str if number else lambda: own_class,
                on_wait=ignore, record=record, show=ignore, gate=StartGate(run=config.run_path), again_s=0.5,
            )
            for number in range(config.parallel)
        )  # fmt: skip

    def join(self, number: int, slots: int) -> None:
        """Have a host join."""
        hardware = self.facts.settings["hardware"].get(f"host{number}", "stand-in")
        names = (join.SLOT, self.facts.resource, join.hardware_resource(hardware))
        resources = json.dumps(dict.fromkeys(names, slots))
        address, own = f"{self.net.address(0)}:{PORT}", self.net.address(number)
        argv = [sys.executable, "-m", "tests.support.stand_in_host", address, own, resources, str(self.token)]
        self.hosts.append(subprocess.Popen([*self.net.inside(number), *argv], env=variables()))


def variables() -> dict[str, str]:
    """What a host's user has in the environment."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "ANTHROPIC_API_KEY": "sk-of-a-host"}


@contextmanager
def stand_in_cluster(
    folder: Path, *, slots: tuple[int, ...], pause_s: float, hardware: Mapping[str, str] = MappingProxyType({})
) -> Iterator[StandInCluster]:
    """Start a head, and a host for each number of slots; some have hardware of a class of their own."""
    token = join.require_token(folder / "token", create=True)
    facts = HeadFacts(
        run="t", code="", release="", locked="", data="", image_id="sha256:fake", image="", ray="", python="",
        settings={"pause_s": pause_s, "folder": str(folder), "hardware": dict(hardware)},
    )  # fmt: skip
    with ExitStack() as stack:
        net = stack.enter_context(network(len(slots) + 1))
        hello = {"address": f"{net.address(0)}:{PORT}", "run": "t", "facts": join.stamp(facts)}
        argv = (*net.inside(0), sys.executable, "-m", "tests.support.stand_in_slot")
        cluster = RayCluster(argv, hello, join.cluster_environment(token, variables()))
        made = StandInCluster(net=net, token=token, facts=facts, cluster=cluster)
        stack.callback(end, made.hosts)
        stack.enter_context(cluster)
        for number, count in enumerate(slots, 1):
            made.join(number, count)
        yield made


def end(processes: list["subprocess.Popen[bytes]"]) -> None:
    """End what we started, by its id."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(60)


def processes_in(net: Network, hosts: Collection[int] = ()) -> dict[int, str]:
    """The command lines of the processes on hosts of a network, by process; on all where none is named."""
    numbers = hosts or range(net.hosts)
    inside = {os.stat(f"/run/netns/{net.name}-{number}").st_ino for number in numbers}  # noqa: PTH116
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "ns" / "net").stat().st_ino in inside:
                found[int(folder.name)] = (folder / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return found


def kill(net: Network, word: str, hosts: Collection[int] = ()) -> int:
    """Kill -9 the processes on hosts whose command line holds a word; how many there were."""
    count = 0
    for pid, command in processes_in(net, hosts).items():
        if word in command:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                count += 1
    return count
