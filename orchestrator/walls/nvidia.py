"""Whether an engine can hand out a GPU at all, before a device is waited for or an image built for hours of use.

    python3 -m orchestrator.walls.nvidia    # fails, with the fix, where it surely cannot

It says no only where every sign is missing; whether it works is for walls/cuda.py to try. The standard library only.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NONE = (
    "the container engine hands out no NVIDIA GPU: it knows no nvidia runtime, and there is neither a CDI specification"
    " nor nvidia-container-runtime-hook; install the NVIDIA Container Toolkit and restart the engine, or use"
    " --profile cpu"
)
COMMANDS = ("nvidia-container-runtime-hook", "nvidia-container-toolkit", "nvidia-cdi-hook", "nvidia-ctk")
WHERE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where systemd lets an engine look
SPECS = ("/etc/cdi", "/var/run/cdi")
ASK_S = 30.0


def is_missing(info: Mapping[str, Any]) -> bool:
    """Return whether an engine that describes itself so surely offers no GPU; false if it may see other files."""
    here = info.get("Name") == os.uname().nodename and Path(str(info.get("DockerRootDir") or "/nowhere")).is_dir()
    if not here or any("nvidia" in name for name in info.get("Runtimes") or {}) or info.get("DiscoveredDevices"):
        return False
    if any(_may_hold(Path(place)) for place in info.get("CDISpecDirs") or SPECS):
        return False
    return not any(shutil.which(name, path=f"{os.environ.get('PATH', '')}:{WHERE}") for name in COMMANDS)


def _may_hold(place: Path) -> bool:
    try:
        return any(place.iterdir())
    except OSError as error:
        return not isinstance(error, FileNotFoundError)


def ask_nvidia_smi() -> dict[str, Any]:
    """Return docker's own description of the engine, {} if it fails."""
    try:
        output = subprocess.run(
            ["docker", "info", "--format", "{{json .}}"],  # noqa: S607  # the one that the user would type
            capture_output=True, text=True, timeout=ASK_S, check=False,
        ).stdout  # fmt: skip
        info = json.loads(output)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


if __name__ == "__main__":
    sys.exit(f"--profile gpu: {NONE}" if is_missing(ask_nvidia_smi()) else 0)
