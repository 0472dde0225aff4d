"""A host of a real Ray cluster that offers stand-in slots, and joins again whenever Ray ends.

python -m tests.support.stand_in_host ADDRESS OWN_ADDRESS RESOURCES TOKEN_FILE
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.cluster.driver import OBJECT_STORE_BYTES, end_process, ray_start
from orchestrator.execution import join
from orchestrator.lifecycle import interruptible


def main(address: str, own: str, resources: str, token: str) -> None:
    """Stay until SIGTERM."""
    environment = join.cluster_environment(Path(token), os.environ)
    with interruptible():
        while True:
            while not join.is_answering(address):
                time.sleep(0.5)
            with tempfile.TemporaryDirectory(prefix="ar-host-", ignore_cleanup_errors=True) as name:
                process = ray_start(
                    f"--address={address}", f"--node-ip-address={own}", f"--resources={resources}",
                    f"--object-store-memory={OBJECT_STORE_BYTES}", folder=Path(name), environment=environment,
                )  # fmt: skip
                try:
                    process.wait()
                finally:
                    end_process(process)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(0)
