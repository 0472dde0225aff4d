"""The contract and the attacks on gVisor, in an engine of their own that knows it; nothing of this machine's own engine is changed.

make test-tiers             # python -m probes.gvisor
"""

import os
import shutil
import subprocess
import sys

from probes.tiers import contract
from tests.own_engine import load, own_engine

IMAGE = "autoresearch-sandbox:cpu"
ARGUMENTS = ["--platform=ptrace", "--network=none", "--oci-seccomp"]  # the last: our profile holds inside too


def main() -> int:
    """Start the engine, give it the image, attack."""
    runsc = shutil.which("runsc")
    if runsc is None:
        sys.exit("error: runsc is not installed; on Debian: apt-get install runsc")
    with own_engine(settings={"runtimes": {"runsc": {"path": runsc, "runtimeArgs": ARGUMENTS}}}) as address:
        load(address, IMAGE)
        environment = {**os.environ, "DOCKER_HOST": address, "RUNTIME": "runsc"}
        attack = ["-m", "probes", "--fast", "--runtime", "runsc"]
        ended = [
            subprocess.run([sys.executable, *words], env=environment, check=False).returncode
            for words in (contract("runsc"), attack)
        ]
        return max(ended)


if __name__ == "__main__":
    sys.exit(main())
