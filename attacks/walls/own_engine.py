"""An engine of one's own: own data, own socket, no bridge, no firewall rules."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import EngineUnavailable
from orchestrator.walls.engine import Engine

START_S = 30
STOP_S = 20


@contextmanager
def own_engine(path_first: Path | None = None, settings: dict[str, Any] | None = None) -> Iterator[str]:
    """Start dockerd with a folder put before its PATH, and settings for daemon.json; yields its address."""
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        root.chmod(0o711)  # for users it may be told to map to
        address = f"unix://{root}/docker.sock"
        command = [
            "dockerd", f"--data-root={root}/data", f"--exec-root={root}/exec", f"--pidfile={root}/pid", "-H", address,
            "--bridge=none", "--iptables=false", "--ip6tables=false", f"--config-file={root}/daemon.json",
        ]  # fmt: skip
        (root / "daemon.json").write_text(json.dumps(settings or {}))
        path = os.pathsep.join([*([str(path_first)] if path_first else []), os.environ["PATH"]])
        with (root / "log").open("w") as log:
            daemon = subprocess.Popen(command, env={**os.environ, "PATH": path}, stdout=log, stderr=log)
        try:
            until_it_answers(daemon, address, root / "log")
            yield address
        finally:
            daemon.terminate()
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def until_it_answers(engine: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait for an engine that was started. Raises AssertionError with the end of its log if it never answers."""
    deadline = time.monotonic() + START_S
    while engine.poll() is None and time.monotonic() < deadline:
        try:
            Engine.connect(address).close()
        except EngineUnavailable:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{engine.args!r} did not start:\n{log.read_text()[-2000:]}")


def load(address: str, image: str) -> None:
    """Give an engine an image that the machine's own has."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        command = ["docker", "-H", address, "load", "-q"]
        subprocess.run(command, stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL)
