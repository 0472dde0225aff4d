"""The contract and the attacks on rootless Podman, in an engine and of a user made for them.

make test-tiers             # python -m probes.rootless [group ...]
"""

import sys
from pathlib import Path

from orchestrator.walls.containers import Engine
from probes.gvisor import IMAGE
from probes.own_engine import load
from probes.own_podman import own_podman
from probes.tiers import contract, tier_of

ROOT = Path(__file__).parents[1]


def main(*groups: str) -> int:
    """Start the engine, give it the image, attack as its user."""
    with own_podman() as podman:
        load(podman.address, IMAGE)
        tier = tier_of(Engine.connect(podman.address), "")
        attack = ["-m", "probes", "--fast", *groups]
        ended = []
        for words in (contract(tier), attack):
            done = podman.run([sys.executable, *words], cwd=ROOT)
            print(done.stdout + done.stderr, end="", flush=True)
            ended.append(done.returncode)
        return max(ended)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
