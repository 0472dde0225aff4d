"""Network namespaces on one machine, joined by a bridge in the first: hosts that nothing else can reach."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Hosts 0 to n-1; the first is the head."""

    name: str
    hosts: int

    def address(self, number: int) -> str:
        """The address of a host within the network."""
        return f"10.77.0.{number + 1}"

    def inside(self, number: int) -> list[str]:
        """What precedes a command that runs on a host: its network and a host name of its own."""
        return [
            "ip", "netns", "exec", f"{self.name}-{number}", "unshare", "--uts", "sh", "-c",
            f'hostname host{number}; exec "$@"', "sh",
        ]  # fmt: skip

    def cut(self, number: int) -> None:
        """Take a host off the network; nobody is told."""
        ip("-n", f"{self.name}-0", "link", "set", f"port{number}", "down")

    def mend(self, number: int) -> None:
        """Put it back."""
        ip("-n", f"{self.name}-0", "link", "set", f"port{number}", "up")


def ip(*arguments: str, check: bool = True) -> None:
    """Run ip, as root."""
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)


@contextmanager
def network(hosts: int) -> Iterator[Network]:
    """Make hosts, and remove them again; needs root."""
    net = Network(name=f"ray{os.getpid()}", hosts=hosts)
    head = f"{net.name}-0"
    try:
        for number in range(hosts):
            ip("netns", "add", f"{net.name}-{number}")
            ip("-n", f"{net.name}-{number}", "link", "set", "lo", "up")
        ip("-n", head, "link", "add", "bridge0", "type", "bridge")
        ip("-n", head, "addr", "add", f"{net.address(0)}/24", "dev", "bridge0")
        ip("-n", head, "link", "set", "bridge0", "up")
        for number in range(1, hosts):
            host = f"{net.name}-{number}"
            ip("link", "add", f"port{number}", "netns", head, "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", head, "link", "set", f"port{number}", "master", "bridge0", "up")
            ip("-n", host, "addr", "add", f"{net.address(number)}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
        yield net
    finally:
        for number in range(hosts):
            ip("netns", "del", f"{net.name}-{number}", check=False)
