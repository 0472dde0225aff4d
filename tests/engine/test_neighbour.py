"""What one experiment takes, another one beside it does not miss: bombs beside a neighbour that works."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.units import MIB
from tests.support.boxes import Boxes

pytestmark = pytest.mark.engine
BOMBS = {
    "memory": "held = []\nwhile True: held.append(bytearray(16 << 20))",
    "processes": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "descriptors": "held = []\nwhile True:\n    try: held.append(open('/dev/null'))\n    except OSError: pass",
    "disk": "while True:\n    try: open('/tmp/x', 'ab').write(bytes(1 << 20))\n    except OSError: pass",
    "files": "for n in range(10**9):\n    try: open(f'/tmp/{n}', 'w').close()\n    except OSError: pass",
    "output": "import os\nwhile True: os.write(1, b'x' * (1 << 16))",
}
WORK = """
import hashlib, os, threading, time
end, digest = time.monotonic() + 14, b''
while time.monotonic() < end:
    digest = hashlib.sha256(digest + bytes(4 << 20)).digest()  # memory
    with open('/tmp/result', 'wb') as file: file.write(digest * 10000)  # disk, descriptors
    thread = threading.Thread(target=time.sleep, args=(0.001,)); thread.start(); thread.join()  # processes
print('unharmed', flush=True)
"""


def test_a_neighbour_is_not_harmed(boxes: Boxes, tmp_path: Path) -> None:
    """All kinds of bombs, one after the other; the host's disk has as much room as before."""
    (beside := tmp_path / "beside").mkdir()
    free = shutil.disk_usage(tmp_path).free
    with replace(boxes, folder=beside).started(WORK, deadline_s=60.0) as neighbour:
        for name, bomb in BOMBS.items():
            (folder := tmp_path / name).mkdir()
            result = replace(boxes, folder=folder).run(bomb, deadline_s=2.0)
            assert result.timed_out or result.oom_killed or result.exit_code, name
            assert shutil.disk_usage(tmp_path).free > free - 256 * MIB, name
        assert neighbour.alive(), "it has to last longer than the bombs, or nothing was shown"
        result = neighbour.wait()

    assert (0, "unharmed") == (result.exit_code, result.log_tail.strip())
