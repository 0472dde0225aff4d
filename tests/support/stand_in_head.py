"""A Ray head that tells hosts what a test wants them to hear, and a worker that asks it without patience.

python -m tests.support.stand_in_head head ADDRESS FACTS_FILE      a head; the facts are written again and again
python -m tests.support.stand_in_head worker ADDRESS TASK TOKEN    `autoresearch worker`, which looks more often
"""

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

from orchestrator import cli
from orchestrator.cluster import worker
from orchestrator.cluster.driver import end_process, start_head
from orchestrator.execution import join
from orchestrator.lifecycle import interruptible

EVERY_S = 0.1


def be_head(address: str, facts: Path) -> None:
    """Stay until SIGTERM; a fact `clock` is added to the time of now."""
    raylet = importlib.import_module("ray._raylet")
    with interruptible(), tempfile.TemporaryDirectory(prefix="sh-", ignore_cleanup_errors=True) as name:
        head = start_head(address, Path(name))
        try:
            store = raylet.GcsClient(address=address)
            while head.poll() is None:
                told = join.HeadFacts.model_validate_json(facts.read_bytes())
                text = told.model_copy(update={"clock": time.time() + told.clock}).model_dump_json()
                store.internal_kv_put(join.KEY.encode(), text.encode(), True, join.NAMESPACE.encode())
                time.sleep(EVERY_S)
        finally:
            end_process(head)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "head":
        be_head(where, Path(rest[0]))
    else:
        worker.LOOK_S = EVERY_S
        os.environ["TERM"] = "dumb"
        sys.argv = ["autoresearch", "worker", "--address", where, "--task", rest[0], "--token-file", rest[1]]
        cli.main()
