"""Loops of two users fight for one and for two fake GPUs and are killed at random: none may share, none may leak.

    make lease-storm            # python -m tests.soak.lease_storm [rounds] [seed]

Every loop is a process that leases through the real code (real flock, real NVML binding, fake library) and reports,
with the monotonic clock, when it had a GPU and when it was about to give it back; what a killed one held, it held
until just before the kill. While it holds a GPU, NVML lists it as a process there. Two such spans of one GPU that
overlap are a double. A GPU that cannot be leased at the end, with everyone dead, has leaked.
"""

import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.devices.lease import LeasePolicy, lease
from orchestrator.errors import LeaseUnavailable
from tests.support.fake_nvml import Machine

NOBODY = 65534
LOOPS_PER_USER = 3
KILLED_SHARE = 0.2  # of the rounds end with the death of the holder, and as many with that of any loop
HELD_S = 0.03
WAIT_S = 60.0


@dataclass(slots=True)
class Storm:
    """What happened so far on one machine."""

    policy: LeasePolicy
    chance: random.Random
    machine: Machine | None = None  # shows who holds what
    hears: int = -1
    says: int = -1
    unheard: deque[str] = field(default_factory=deque)
    loops: dict[int, int] = field(default_factory=dict)  # pid -> user
    holds: dict[int, tuple[str, float]] = field(default_factory=dict)  # pid -> GPU, since
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    rounds: int = 0
    kills: int = 0
    longest_wait_s: float = 0.0

    def run(self, rounds: int) -> None:
        """Let loops of both users fight until so many leases were taken; then end them all."""
        self.hears, self.says = os.pipe()
        for user in (os.getuid(), NOBODY) * LOOPS_PER_USER:
            self.begin(user)
        while self.rounds < rounds:
            if not self.unheard:
                self.listen(WAIT_S)
            self.heard(self.unheard.popleft().split())
        for pid in list(self.loops):
            self.kill(pid)
        os.close(self.hears)
        os.close(self.says)

    def begin(self, user: int) -> None:
        """Start one loop as a user; without root they are all ours."""
        pid = os.fork()
        if pid:
            self.loops[pid] = user
            return
        try:
            os.close(self.hears)
            if os.getuid() == 0 and user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            loop(self.policy, self.says)
        finally:
            os._exit(1)

    def listen(self, wait_s: float) -> None:
        """Queue what loops said, in their order. Raises LeaseUnavailable if they stay silent."""
        if not select.select([self.hears], [], [], wait_s)[0]:
            raise LeaseUnavailable(f"no lease within {wait_s:g} s")
        self.unheard += os.read(self.hears, 65536).decode().splitlines()  # lines are shorter than what a pipe tears

    def heard(self, words: list[str]) -> None:
        """Write down a lease taken or given back, and sometimes kill its holder."""
        what, pid, name, at = words[0], int(words[1]), words[2], float(words[3])
        if what == "took":
            self.rounds += 1
            self.holds[pid] = (name, at)
            self.show()
            self.longest_wait_s = max(self.longest_wait_s, float(words[4]))
            if (dice := self.chance.random()) < 2 * KILLED_SHARE:
                time.sleep(self.chance.uniform(0, HELD_S / 2))
                self.replace(pid if dice < KILLED_SHARE else self.chance.choice(list(self.loops)))
        elif pid in self.holds:
            taken, since = self.holds.pop(pid)
            self.spans.append((taken, since, at))
            self.show()

    def show(self) -> None:
        """Let NVML list the holders, and nobody else."""
        if self.machine is not None:
            self.machine.procs = [(name, pid) for pid, (name, _) in self.holds.items()]
            self.machine.write()

    def replace(self, pid: int) -> None:
        """Kill a loop and start another one of the same user."""
        user = self.loops[pid]
        self.kill(pid)
        self.kills += 1
        self.begin(user)

    def kill(self, pid: int) -> None:
        """SIGKILL; what it held, it held until now at least, unless it says in time that it gave it back."""
        now = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        del self.loops[pid]
        while select.select([self.hears], [], [], 0)[0]:
            self.listen(0)
        while self.unheard:  # all of it, also what came before: a lease may have been given back by then
            self.late(self.unheard.popleft().split())
        if pid in self.holds:
            name, since = self.holds.pop(pid)
            self.spans.append((name, since, now))
        self.show()

    def late(self, words: list[str]) -> None:
        """Lines that came while we killed: nobody is killed for them."""
        if words[0] == "took":
            self.rounds += 1
            self.holds[int(words[1])] = (words[2], float(words[3]))
            self.longest_wait_s = max(self.longest_wait_s, float(words[4]))
        else:
            self.heard(words)

    def doubles(self) -> int:
        """Pairs of spans of one GPU that overlap."""
        last: dict[str, float] = {}
        found = 0
        for name, since, until in sorted(self.spans, key=lambda span: span[1]):
            found += since < last.get(name, 0.0)
            last[name] = max(last.get(name, 0.0), until)
        return found

    def leaked(self, gpus: int) -> int:
        """GPUs that cannot be had now that everyone is dead."""
        return gpus - _had(self.policy, gpus)


def _had(policy: LeasePolicy, gpus: int) -> int:
    if not gpus:
        return 0
    try:
        with lease(policy, wait_s=1):
            return 1 + _had(policy, gpus - 1)
    except LeaseUnavailable:
        return 0


def loop(policy: LeasePolicy, says: int) -> None:
    """Lease, hold, give back, for ever."""
    chance = random.Random(os.getpid())  # noqa: S311  # a game, no secret
    while True:
        asked = time.monotonic()
        with lease(policy, wait_s=WAIT_S) as got:
            now = time.monotonic()
            os.write(says, f"took {os.getpid()} {got.name} {now!r} {now - asked!r}\n".encode())
            time.sleep(chance.uniform(0, HELD_S))
            os.write(says, f"gave {os.getpid()} {got.name} {time.monotonic()!r}\n".encode())


def storm(gpus: int, rounds: int, seed: int) -> tuple[int, int, int, float, int]:
    """Run one storm: rounds, doubles, leaks, the longest wait and the kills."""
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        Path(name).chmod(0o755)
        machine = Machine(Path(name))
        for number in range(gpus):
            machine.gpu(f"GPU-{number}")
        policy = LeasePolicy(
            profile="gpu", samples=2, interval_s=0.002, poll_s=0.02, reserve_gpus=0, sysfs=machine.sysfs
        )
        what = Storm(policy=policy, chance=random.Random(seed), machine=machine)  # noqa: S311  # a game, no secret
        what.run(rounds)
        return min(what.rounds, rounds), what.doubles(), what.leaked(gpus), what.longest_wait_s, what.kills


def main(rounds: int = 200, seed: int = 0) -> int:
    """Half of the rounds on one GPU, half on two."""
    total, doubles, leaked, longest = 0, 0, 0, 0.0
    for gpus in (1, 2):
        done, shared, lost, wait, kills = storm(gpus, rounds // 2 if gpus == 1 else rounds - total, seed + gpus)
        print(f"{gpus} GPU: {done} rounds, {kills} kills, {shared} double, {lost} leaked, longest wait {wait:.1f} s")
        total, doubles, leaked, longest = total + done, doubles + shared, leaked + lost, max(longest, wait)
    print(f"leases: {total} rounds, {doubles} double, {leaked} leaked, longest wait {longest:.1f} s")
    return 1 if doubles or leaked else 0


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
