"""Run the scripts of sandbox/: a container engine that answers, and the image of every experiment."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import SandboxError
from orchestrator.shipped import CORPUS, SANDBOX


def start_engine(say: Callable[[str], None]) -> None:
    """Start a container engine if none answers; as root, install the distribution's. Raises SandboxError."""
    _run("engine", say=say)


def build_image(profile: str, work: Path, say: Callable[[str], None]) -> None:
    """Build the image of a profile unless it is up to date; `work` gets downloads and logs. Raises SandboxError."""
    _run("image", str(CORPUS), str(work), say=say, PROFILE=profile)


def _run(name: str, *arguments: str, say: Callable[[str], None], **variables: str) -> None:
    """Run a script of sandbox/, saying each line that it prints; what it calls an error becomes SandboxError."""
    prefix = f"{name}: "
    environment = {"PYTHON": sys.executable, **os.environ, **variables}
    command = ["bash", str(SANDBOX / f"{name}.sh"), *arguments]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(  # noqa: S603  # an argv list of ours
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            text=True, errors="replace", start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            for line in process.stdout or ():
                say(line.rstrip())
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # with what it started
            raise
        errors.seek(0)
        lines = errors.read().splitlines()
    if code:
        for line in lines:
            if not line.startswith(prefix):
                say(line)
        reasons = [line.removeprefix(prefix).strip() for line in lines if line.startswith(prefix)]
        raise SandboxError(f"{name}: {' '.join(reasons) or f'{name}.sh failed with exit code {code}'}")
