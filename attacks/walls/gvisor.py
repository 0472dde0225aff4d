"""The contract and the attacks on gVisor, in an engine of their own that knows it; nothing of this machine's own engine is changed.

make test-tiers             # python -m attacks.walls.gvisor [group ...]
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from attacks.walls.own_engine import load, own_engine
from attacks.walls.tiers import contract

IMAGE = "autoresearch-sandbox:cpu"
ARGUMENTS = ["--platform=ptrace", "--network=none", "--oci-seccomp"]  # the last: our profile holds inside too
GIVEN = "GVISOR_HOST"  # the address of an engine that runs already


def main(*groups: str) -> int:
    """Start the engine, give it the image, attack; or attack in one that was given."""
    if given := os.environ.get(GIVEN):
        return attack(given, *groups)
    with own_gvisor() as address:
        load(address, IMAGE)
        return attack(address, *groups)


@contextmanager
def own_gvisor() -> Iterator[str]:
    """Start an engine that has the gVisor runtime; yields its address."""
    runsc = shutil.which("runsc")
    if runsc is None:
        sys.exit("error: runsc is not installed; on Debian: apt-get install runsc")
    with own_engine(settings={"runtimes": {"runsc": {"path": runsc, "runtimeArgs": ARGUMENTS}}}) as address:
        yield address


def attack(address: str, *groups: str) -> int:
    """Run the contract, then the probes."""
    ended = [
        subprocess.run([sys.executable, *words], env=environment(address), check=False).returncode
        for words in (contract("runsc"), ["-m", "attacks.walls", "--fast", "--runtime", "runsc", *groups])
    ]
    return max(ended)


def environment(address: str) -> dict[str, str]:
    """Return the environment of a program that is to use the engine."""
    return {**os.environ, "DOCKER_HOST": address, GIVEN: address, "RUNTIME": "runsc"}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
