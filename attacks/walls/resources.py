"""Attacks on memory, processes, processors, the log and the clock; each in a container of its own, judged by the host."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from attacks.walls import host
from attacks.walls.arena import INSIDE, Arena, Watch
from attacks.walls.base import AttemptResult, Finding, Observation, Oracle, Outcome, Probe, judge
from attacks.walls.weak import Weaker
from orchestrator.execution.failures import failure_of
from orchestrator.types import Status
from orchestrator.walls.container import RunningContainer

NAME = "resources, time"
MIB = 2**20
LATE_S = 2.0
DEADLINE = {"time_budget_s": 0.7, "grace_s": 0.3}
UNGUARDED = ("sh", "-c", "python3 -s -B /mutable/train.py; exec sleep 5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A probe with what its two containers differ in, and what the host looks at meanwhile."""

    probe: Probe
    profile: Mapping[str, float] = field(default_factory=dict)
    weaker: Weaker = field(default_factory=Weaker)
    watch: Watch | None = None
    alone: bool = False  # one container after the other: what is measured is this process


def above(name: str, bound: float) -> Oracle:
    """Build an oracle: whether a figure measured by the host exceeded a bound."""
    return lambda seen, _probe: seen.facts.get(name, 0) > bound


def peak(seen: Observation, _probe: str) -> bool:
    """Return whether more memory was used than allowed, by the cgroup's counter."""
    return seen.result is not None and (seen.result.peak_memory_bytes or 0) > 260 * MIB


def outlived(seen: Observation, _probe: str) -> bool:
    """Return whether the container was alive two seconds past its deadline."""
    return seen.result is None or seen.result.duration_s > seen.result.deadline_s - seen.facts["patience"] + LATE_S


def tasks(running: RunningContainer, seen: Observation) -> None:
    """Measure its highest number of tasks, by the cgroup's counter."""
    for folders in host.while_alive(running):
        if (path := host.file_of(folders, "pids/pids.current", "pids.current")) is not None:
            with suppress(OSError):
                seen.facts["tasks"] = max(seen.facts.get("tasks", 0), int(path.read_text(encoding="ascii")))


def throttling(running: RunningContainer, seen: Observation) -> None:
    """Record whether the kernel ever throttled its processes."""
    seen.facts["free"] = 1
    for folders in host.while_alive(running):
        if (path := host.file_of(folders, "cpu/cpu.stat", "cpu.stat")) is not None:
            with suppress(OSError):
                held = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
                seen.facts["free"] = int(held["nr_throttled"] == "0")


def memory(running: RunningContainer, seen: Observation) -> None:
    """Measure how much this process grows by what the container prints, in MiB."""
    before = host.memory_mib()
    for _ in host.while_alive(running):
        seen.facts["grown"] = max(seen.facts.get("grown", 0), host.memory_mib() - before)


def survivors(mark: str) -> Watch:
    """Build a watch that counts the processes alive a second after the main one has ended."""

    def watch(running: RunningContainer, seen: Observation) -> None:
        while running.alive() and "the main one ends" not in seen.lines:
            time.sleep(0.02)
        time.sleep(1.0)
        seen.facts["survivors"] = len(host.processes(mark))

    return watch


def disk(running: RunningContainer, seen: Observation) -> None:
    """Measure how much the engine wrote to the host's disk for its log, in MiB."""
    root = Path(running._engine.info()["DockerRootDir"]) / "containers" / running.id  # noqa: SLF001
    seen.facts["readable"] = root.is_dir()
    while running.alive():
        time.sleep(0.1)
    seen.facts["disk"] = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / MIB


STUBBORN = {
    "spin": "while True: pass",
    "ignore every signal": "for number in range(1, 65):\n  try: signal.signal(number, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n"
    "while True: time.sleep(1)",
    "stop itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "move its own clocks": "time.time = time.monotonic = lambda: 0\nlibc.clock_settime(0, ctypes.create_string_buffer(16)) if not WEAK else 0\nwhile True: pass",
    "hide in children that fork all the time": "if os.fork(): time.sleep(60)\nwhile True:\n  if os.fork(): os._exit(0)\n  time.sleep(0.01)",
    "wait in the kernel for ever": "reader, writer = os.pipe()\nos.read(reader, 1)",
    "stop or kill its guard": "for number in (9, 19, 15, 2):\n  try: os.kill(1, number)\n  except OSError: pass\nwhile True: time.sleep(1)",
}
ORPHAN = """
import subprocess
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execvp('python3', ['python3', '-c', 'import time; time.sleep(60)', '{0}'])
    os._exit(0)
time.sleep(0.5)
print('the main one ends', flush=True)
"""
FORKS = "for _ in range({0}):\n  try:\n    if os.fork() == 0: time.sleep(2); os._exit(0)\n  except OSError: break\ntime.sleep(1)"
THREADS = "for _ in range({0}):\n  try: threading.Thread(target=time.sleep, args=(2,), daemon=True).start()\n  except RuntimeError: break\n" \
          "time.sleep(1); os._exit(0)"  # fmt: skip
FLOOD = "data = b'x' * 4095 + b'\\n'\nfor _ in range(200 if WEAK else {0}): sys.stdout.buffer.write(data * 256)"
LINE = "for _ in range(200 if WEAK else {0}): sys.stdout.buffer.write(b'x' * (1 << 20))"
ENDS = "for _ in range(200 if WEAK else {0}): sys.stdout.buffer.write((b'x' if WEAK else b'\\n') * (1 << 20))"
IN_TURN = "for number in range({0}): os.write(1 + number % 2, b'x')\n" + LINE.format(0)
FILES = "for i in range(400_000): os.close(os.open(f'/dev/shm/{i}', os.O_CREAT | os.O_WRONLY))"


def cases(*, fast: bool) -> tuple[Case, ...]:
    """List all cases; with `fast` floods are smaller, of which 200 MB kept prove the control."""
    flood, line, ends, bytes_ = (200, 200, 2, 20_000) if fast else (10_240, 1024, 100, 2_000_000)
    return (
        Case(probe=Probe(name="take more memory than allowed", source="held = bytearray(400 << 20)", oracle=peak)),
        Case(probe=Probe(name="take it bit by bit", source="held = [bytes(range(256)) * 4096 for _ in range(400)]", oracle=peak)),
        Case(probe=Probe(name="take it in an unnamed file", oracle=peak,
                         source="fd = os.memfd_create('m')\nfor _ in range(400): os.write(fd, bytes(1 << 20))")),
        Case(probe=Probe(name="take it in another process", oracle=peak,
                         source="if os.fork() == 0:\n  held = bytearray(400 << 20)\nelse: os.wait()")),
        Case(probe=Probe(name="take it in files without end", source=FILES, oracle=peak), profile={"shm_mb": 64}),
        Case(probe=Probe(name="fork without end", source=FORKS.format(350), oracle=above("tasks", 270)), watch=tasks),
        Case(probe=Probe(name="start threads without end", source=THREADS.format(350), oracle=above("tasks", 270)), watch=tasks),
        Case(probe=Probe(name="open files without end", source="held = [os.open('/dev/null', os.O_RDONLY) for _ in range(5000)]\n"
                         "print('all of them', flush=True)", oracle=lambda seen, _: "all of them" in seen.lines)),
        Case(probe=Probe(name="use more processors than allowed", oracle=above("free", 0),
                         source="os.fork(); os.fork()\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"),
             profile={"cpus": 0.2}, watch=throttling),
        Case(probe=Probe(name="flood its output", source=FLOOD.format(flood), oracle=above("grown", 150)), watch=memory,
             weaker=Weaker(keeps=[]), alone=True, profile={"time_budget_s": 600.0}),
        Case(probe=Probe(name="print one endless line", source=LINE.format(line), oracle=above("grown", 150)), watch=memory,
             weaker=Weaker(keeps=[]), alone=True),
        Case(probe=Probe(name="print byte by byte to both outputs in turn", source=IN_TURN.format(bytes_), oracle=above("grown", 150)),
             watch=memory, weaker=Weaker(keeps=[]), alone=True),
        Case(probe=Probe(name="print line ends without end", source=ENDS.format(ends), oracle=above("grown", 150)), watch=memory,
             weaker=Weaker(keeps=[]), alone=True, profile={"time_budget_s": 60.0}),
        Case(probe=Probe(name="fill the host's disk with its log", source=LINE.format(100), oracle=above("disk", 50)), watch=disk,
             weaker=Weaker(host={"LogConfig": {"Type": "json-file", "Config": {}}})),
        Case(probe=Probe(name="outlive the main process", source=ORPHAN, oracle=above("survivors", 0)),
             weaker=Weaker(config={"Cmd": list(UNGUARDED)})),
        Case(probe=Probe(name="pass for one killed for memory", source="os._exit(137)", oracle=lambda seen, _: seen.facts["status"] is Status.OOM)),
        Case(probe=Probe(name="pass for one killed at its deadline", source="os.kill(os.getpid(), 9)",
                         oracle=lambda seen, _: seen.facts["status"] is Status.TIMEOUT)),
        *(
            Case(probe=Probe(name=f"{what} past its deadline", source=source, oracle=outlived), profile=DEADLINE, weaker=Weaker(patience_s=3.0))
            for what, source in STUBBORN.items()
        ),
        Case(probe=Probe(name="live longer than its deadline, once in many times", source=STUBBORN["spin"], oracle=outlived), profile=DEADLINE,
             weaker=Weaker(patience_s=3.0)),
    )  # fmt: skip


MANY = "live longer than its deadline, once in many times"
PROBES = tuple(case.probe for case in cases(fast=True))


def run(arena: Arena) -> list[Finding]:
    """Run four attacks at a time; those that measure this process run last and alone."""
    every = cases(fast=arena.fast)
    together = [case for case in every if not case.alone]
    with ThreadPoolExecutor(4) as pool:
        found = dict(
            zip((c.probe.name for c in together), pool.map(lambda case: attack(arena, case), together), strict=True)
        )
    found |= {case.probe.name: attack(arena, case) for case in every if case.alone}
    return [found[case.probe.name] for case in every]


def attack(arena: Arena, case: Case) -> Finding:
    """Run both containers and judge."""
    probe = case.probe
    seen = []
    times = 1 if probe.name != MANY else 4 if arena.fast else 20
    for weaker, count in ((case.weaker, 1), (None, times)):
        of_its_own = f"canary-orphan-{id(case)}-{weaker is None}"
        source = f"{INSIDE}\nWEAK = {weaker is not None}\n{probe.source.replace('{0}', of_its_own)}\n"
        watch = survivors(of_its_own) if probe.source == ORPHAN else case.watch
        for _ in range(count):
            seen.append(arena.one(source, profile=case.profile, weaker=weaker, watch=watch))
            finish(seen[-1], probe, weaker)
    weak, *strict = seen
    worst = max(strict, key=lambda one: (probe.oracle or peak)(one, probe.name))
    return judge(NAME, probe, worst, weak)


def finish(seen: Observation, probe: Probe, weaker: Weaker | None) -> None:
    """Add the host's conclusions; the careless one trusts an exit code."""
    result = seen.result
    if result is None:
        return
    seen.facts["patience"] = weaker.patience_s if weaker else 0.0
    naive = {137: Status.OOM} if "memory" in probe.name else {137: Status.TIMEOUT}
    seen.facts["status"] = naive.get(result.exit_code or 0) if weaker else failure_of(result)
    said = f"{result.duration_s:.1f} s, exit code {result.exit_code}, {(result.peak_memory_bytes or 0) / MIB:.0f} MiB"
    numbers = ", ".join(
        f"{key} {value:.0f}"
        for key, value in seen.facts.items()
        if isinstance(value, (int, float)) and key != "patience"
    )
    seen.outcomes[probe.name] = Outcome(how=AttemptResult.DID, detail=f"{said}, {numbers}".rstrip(", "))
