"""The contract and the attacks on rootless Podman, in an engine and of a user made for them.

make test-tiers             # python -m attacks.walls.rootless [group ...]
"""

import sys
from pathlib import Path

from attacks.walls.gvisor import IMAGE
from attacks.walls.own_engine import load
from attacks.walls.own_podman import own_podman
from attacks.walls.tiers import contract, tier_of
from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[2]


def main(*groups: str) -> int:
    """Start the engine, give it the image, attack as its user."""
    with own_podman() as podman:
        load(podman.address, IMAGE)
        tier = tier_of(Engine.connect(podman.address), "")
        attack = ["-m", "attacks.walls", "--fast", *groups]
        ended = []
        for words in (contract(tier), attack):
            done = podman.run([sys.executable, *words], cwd=ROOT)
            print(done.stdout + done.stderr, end="", flush=True)
            ended.append(done.returncode)
        return max(ended)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
