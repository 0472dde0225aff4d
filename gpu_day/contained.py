"""Step (g): the same within the product's containers, what the walls cost, the attacks on a GPU, and sharing one.

Only where an engine hands out GPUs and the image is there. These run the product itself, which takes its own lease.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpu_day import ROOT
from gpu_day.direct import Direct, last_words, shown
from gpu_day.record import Trial, TrialFailedError, now
from gpu_day.watch import Watch
from orchestrator.walls import nvidia

IMAGE = "autoresearch-sandbox:gpu"
OWN = ROOT / ".venv" / "bin" / "python"  # this program may run in another one, for its torch
LOOP_S = 90  # of training, long enough to be disturbed
SEEN_S = 240.0  # for a loop to say what it is waited for
FOREIGN = "import time, torch; taken = torch.ones(1 << 28, device='cuda'); print('on it', flush=True); time.sleep(60)"


def why_not() -> str:
    """Why there can be no containers here, "" if there can. Raises TrialFailedError where only the image is missing."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    asked = (["version", "--format", "{{.Server.Version}}"], ["image", "inspect", IMAGE])
    version, image = (
        subprocess.run(["docker", *words], capture_output=True, text=True, check=False) for words in asked
    )
    if version.returncode != 0:
        return f"no engine answers: {' '.join(version.stderr.split())[:200]}"
    if nvidia.is_missing(nvidia.ask_nvidia_smi()):
        return "the engine hands out no NVIDIA GPU, see `autoresearch doctor`"
    if image.returncode != 0:
        raise TrialFailedError(
            f"an engine answers, but {IMAGE} is not there: make image PROFILE=gpu; or --direct, without walls"
        )
    return ""


def baseline(check: Direct) -> Trial:
    """One baseline of the gpu profile through the whole product; what its record says."""
    began_at, began = now(), time.monotonic()
    place = ["--run", "test-gpu", "--runs", str(check.folder)]
    data = [] if check.corpus == "python" else ["--data", check.corpus]
    box = check.box()
    environment = {**os.environ, "AUTORESEARCH_NOISE__RULE": "lowest"}
    environment |= {f"AUTORESEARCH_PROFILE__GPU__{key.upper()}": f"{box[key]}" for key in ("time_budget_s", "large_k")}
    for command in (
        [*_autoresearch(), "prepare-data", "--profile", "gpu", *data],
        [*_autoresearch(), "loop", "--profile", "gpu", *data, *place, "--proposer", "sweep", "--hours", "0.01"],
    ):
        if (code := subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode) != 0:
            raise TrialFailedError(f"`autoresearch {command[3]}` ended with exit code {code}, see above: no figures")
    result = json.loads((check.folder / "test-gpu" / "0000" / "result.json").read_text())
    score = result["experiment"]["score"]
    if score is None:
        raise TrialFailedError(
            f"the baseline has no score: {result['experiment']['status']}: {result['experiment']['reason']}"
        )
    ended = {execution["role"]: execution["ended_s"] for execution in result["executions"]}
    figures = {"val_bpb": score["value"], "scoring_seconds": ended["scorer"] - ended["trainer"]}
    return Trial(
        name=check.name, budget_s=check.seconds, began_at=began_at, took_s=round(time.monotonic() - began, 1),
        level=score["level"], figures={**result["self_reported"], **figures},
    )  # fmt: skip


def command(name: str, words: list[str], limit_s: float, figure: str = "") -> Trial:
    """One of the product's own checks; its last line, and the number in it as `figure`."""
    began_at, began = now(), time.monotonic()
    with Watch() as watch:
        output = shown(
            " ".join(words), [_python(), "-m", *words], {**os.environ, "PYTHONUNBUFFERED": "1"}, limit_s, watch
        )
    line = last_words(output)
    number = re.search(r"-?\d+(?:\.\d+)?", line)
    return Trial(
        name=name, began_at=began_at, took_s=round(time.monotonic() - began, 1), facts={"last line": line},
        figures={figure: float(number[0])} if figure and number else {},
    )  # fmt: skip


def shared(folder: Path, foreign: list[str] | None = None, loop: Callable[[str], list[str]] | None = None) -> Trial:
    """Two loops and another's process on one GPU: the second loop waits, the first one's trial is contended."""
    began_at, began = now(), time.monotonic()
    loop = loop or (lambda tag: loop_command(folder, tag))
    environment = {
        **os.environ, "AUTORESEARCH_NOISE__RULE": "lowest", "AUTORESEARCH_GPU__RESERVE_GPUS": "0",
        "AUTORESEARCH_PROFILE__GPU__TIME_BUDGET_S": f"{LOOP_S}",
    }  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, words: list[str]) -> Path:
        path = folder / f"{name}.log"
        with path.open("wb") as log:
            started.append(
                subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
        return path

    try:
        first = start("first", loop("first"))
        _await(first, "role=trainer", "the first loop trains")
        second = start("second", loop("second"))
        facts = {"second loop": _await(second, "is taken", "the second loop waits for the GPU")}
        start(
            "foreign", foreign or ["docker", "run", "--rm", "--gpus=all", "--entrypoint=python3", IMAGE, "-c", FOREIGN]
        )
        facts["first loop"] = _await(first, "contended", "the first loop notices the other process")
    finally:
        for process in reversed(started):
            _end(process)
    return Trial(name="shared", began_at=began_at, took_s=round(time.monotonic() - began, 1), facts=facts)


def _await(log: Path, word: str, what: str) -> str:
    """The line of a log with a word in it. Raises TrialFailedError if it does not come."""
    deadline = time.monotonic() + SEEN_S
    while time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if word in line:
                print(f"  {log.stem}: {line}", flush=True)
                return line.strip()[:300]
        time.sleep(0.5)
    raise TrialFailedError(f"not seen within {SEEN_S:g} s: {what}; it last said: {last_words(log.read_text())}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, then make it."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                continue


def loop_command(folder: Path, tag: str) -> list[str]:
    """One loop of the gpu profile, with a record in `folder`."""
    place = ["--run", tag, "--runs", str(folder / "runs")]
    return [*_autoresearch(), "loop", "--profile", "gpu", *place, "--proposer", "sweep", "--hours", "0.1"]


def _autoresearch() -> list[str]:
    return [_python(), "-m", "orchestrator"]


def _python() -> str:
    return str(OWN if OWN.exists() else sys.executable)
