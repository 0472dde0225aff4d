"""A GPU day without a GPU: the kit, unpacked on a bare machine, and cut off twice.

    make gpu-day REHEARSE=1 MINUTES=4               # python -m gpu_day.rehearsal --minutes 4

The bare machine is a container with Python and torch, without an engine and without a network. There `python3 -m
gpu_day` runs steps (a) to (f) on the cpu profile with small budgets. It is killed in the middle of step (c) and of step
(e), like a machine that is taken away; nothing that it started may outlive it. Further calls finish the day: every step
has its file, and what was measured before each cut is in it unchanged.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpu_day import ROOT, kit, record
from gpu_day.record import DayEndedError, Step, Trial

IMAGE = "autoresearch-sandbox:cpu-library"  # the one of the experiments lacks parts of pyarrow
STAND_IN = ROOT / "tests" / "scripts" / "upstream"  # scripts in upstream's manner that a processor can run
FIRST_CUT, SECOND_CUT = "(c) would-be best: ours, at most", "(e) noise: seed 3, at most"
INTO_S = 3.0  # seconds into a trial, when it trains
LETTERS = "abcdefg"
RUN = "echo $$ > /tmp/day.pid; exec python3 -B -m gpu_day --profile cpu --minutes {minutes:.2f}"
WAITING = "import signal, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN); time.sleep(3600)"
ALIVE = (  # trainer, predictors, scorer: all that `program` starts
    "import pathlib\nfound = 0\nfor path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
    "    try: found += b'ctypes.CDLL(None).' + b'prctl' in path.read_bytes()\n"
    "    except OSError: pass\nprint(found)"
)
GONE_S = 5.0


@dataclass(slots=True, kw_only=True)
class Bare:
    """The container that plays the lent machine."""

    name: str
    folder: Path

    def day(self, minutes: float, cut: str = "") -> bool:
        """One call of the day; it is killed INTO_S after it printed `cut`. Whether it was."""
        command = ["docker", "exec", self.name, "sh", "-c", RUN.format(minutes=minutes)]
        was_cut = threading.Event()

        def kill() -> None:
            was_cut.set()
            subprocess.run(["docker", "exec", self.name, "sh", "-c", "kill -9 $(cat /tmp/day.pid)"], check=True)

        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            timer = threading.Timer(INTO_S, kill)
            for line in process.stdout or ():
                print(f"  {line}", end="", flush=True)
                if cut and cut in line:
                    timer.start()
            timer.cancel()
        return was_cut.is_set()

    def leftovers(self) -> int:
        """How many processes of a killed day are alive after a few seconds."""
        deadline = time.monotonic() + GONE_S
        while True:
            alive = int(docker("exec", self.name, "python3", "-c", ALIVE))
            if not alive or time.monotonic() > deadline:
                return alive
            time.sleep(0.3)

    def steps(self) -> dict[str, Step]:
        """The step files."""
        return record.read(self.folder / kit.NAME / "build" / "gpu-day")


def rehearse(minutes: float, image: str) -> dict[str, Step]:
    """Play the day through and return its steps. Raises DayEndedError with what is not as it should be."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-rehearsal-") as name, bare(Path(name), image) as machine:

        def left() -> float:
            return minutes - (time.monotonic() - began) / 60

        before: dict[str, Step] = {}
        cuts = 0
        for cut in (FIRST_CUT, SECOND_CUT):
            if not machine.day(left(), cut):
                raise DayEndedError(f"the day ended before it could be cut off at {cut!r}: see above")
            cuts += 1
            if alive := machine.leftovers():
                raise DayEndedError(f"{alive} processes outlived the day that started them")
            after = machine.steps()
            check_kept(before, after)
            before = after
            print(
                f"rehearsal: cut off, {sum(len(step.counted()) for step in after.values())} trials measured", flush=True
            )
        while not is_done(machine.steps()) and left() > 0:
            machine.day(left())
        steps = machine.steps()
        check_kept(before, steps)
        if not is_done(steps):
            lacking = ", ".join(f"({s.letter}) {s.status}: {s.reason}" for s in steps.values() if s.status != "done")
            raise DayEndedError(f"not done within {minutes:g} min: {lacking}")
    trials = sum(len(step.counted()) for step in steps.values())
    print(f"rehearsal: {len(steps)} files, {cuts} cuts, {trials} trials, {time.monotonic() - began:.0f} s", flush=True)
    return steps


def check_kept(before: Mapping[str, Step], after: Mapping[str, Step]) -> None:
    """Raise DayEndedError where a trial that was measured is another one now, or gone."""
    for letter, step in before.items():
        now: tuple[Trial, ...] = after[letter].trials if letter in after else ()
        if now[: len(step.trials)] != step.trials:
            raise DayEndedError(
                f"({letter}) {step.title}: what was measured before the cut is not in its file any more"
            )


def is_done(steps: Mapping[str, Step]) -> bool:
    """Whether every step has its file, and (a) to (f) all their trials."""
    return "".join(sorted(steps)) == LETTERS and all(steps[letter].status == "done" for letter in LETTERS[:-1])


@contextmanager
def bare(folder: Path, image: str) -> Iterator[Bare]:
    """The kit in a container that has nothing else. Raises DayEndedError where there can be none."""
    name = f"gpu-rehearsal-{uuid.uuid4().hex[:12]}"
    version = docker(
        "run", "--rm", "--network=none", image, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
    )
    (folder / "scratch").mkdir()
    made = kit.make(
        folder / f"{kit.NAME}.tar.xz", folder / "scratch", profile="cpu", python=version, data=None, upstream=STAND_IN,
        limit_mib=kit.LIMIT_MIB,
    )  # fmt: skip
    print(f"rehearsal: kit of {made.path.stat().st_size / kit.MIB:.1f} MiB, on Python {version}", flush=True)
    with tarfile.open(made.path) as archive:
        archive.extractall(folder, filter="data")
    started = [
        "run", "--detach", "--rm", f"--name={name}", "--network=none", f"--user={os.getuid()}:{os.getgid()}",
        f"--volume={folder / kit.NAME}:/day", "--workdir=/day", "--env=HOME=/tmp", "--env=USER=day", image,
    ]  # fmt: skip
    docker(*started, "python3", "-c", WAITING)
    try:
        yield Bare(name=name, folder=folder)
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def docker(*words: str) -> str:
    """What a docker command prints. Raises DayEndedError if it fails."""
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DayEndedError("a rehearsal needs an engine here: make image") from error
    if done.returncode != 0:
        raise DayEndedError(
            f"docker {words[0]}: {done.stderr.strip()[-300:]}; make image, or IMAGE=one with python3 and torch"
        )
    return done.stdout.strip()


def main() -> None:
    """End with one line that says what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0, help="for all of it")
    parser.add_argument("--image", default=IMAGE, help="has python3 with torch and numpy")
    options = parser.parse_args()
    try:
        rehearse(options.minutes, options.image)
    except DayEndedError as error:
        sys.exit(f"rehearsal: {error}")


if __name__ == "__main__":
    main()
