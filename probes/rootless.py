"""The attacks on rootless Podman, in an engine and of a user made for them.

make test-tiers             # python -m probes.rootless [group ...]
"""

import sys
from pathlib import Path

from tests.own_podman import own_podman

ROOT = Path(__file__).parents[1]
IMAGE = "autoresearch-sandbox:cpu"


def main(*groups: str) -> int:
    """Start the engine, give it the image, attack as its user."""
    with own_podman() as podman:
        podman.load(IMAGE)
        done = podman.run([sys.executable, "-m", "probes", "--fast", *groups], cwd=ROOT)
        print(done.stdout + done.stderr, end="")
        return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
