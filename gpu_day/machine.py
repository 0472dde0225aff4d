"""Step (a): what is there. Facts for the record, and the one reason why nothing can be measured, with its mend."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gpu_day.direct import program, visible
from gpu_day.record import TrialFailedError

ASKED_OF_SMI = ("driver_version", "clocks.max.sm", "clocks.sm", "power.limit", "temperature.gpu", "memory.total")
PACKAGES = ("numpy", "tiktoken", "pynvml", "triton", "pyarrow", "rustbpe", "kernels")
LOOK_S = 120.0
LOOK = """
import json
found = {}
try:
    import torch
    found["torch"] = torch.__version__
    found["CUDA of torch"] = str(torch.version.cuda)
    torch.cuda.init()
    of = torch.cuda.get_device_properties(0)
    found["device"] = of.name
    found["compute capability"] = f"{of.major}.{of.minor}"
    found["GPU memory"] = f"{of.total_memory / 1e9:.1f} GB"
    found["flash attention of torch"] = str(torch.backends.cuda.is_flash_attention_available())
    import triton
    found["Triton"] = triton.__version__
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found."""

    hardware: str  # figures compare only where this is the same
    facts: dict[str, str]
    problem: str = ""  # why nothing can be trained here, with the mend
    start_s: float = 0.0  # to start Python with torch


def look(profile: str) -> Machine:
    """Look at this machine. Raises TrialFailedError where there is no GPU for the gpu profile."""
    gpu = profile == "gpu"
    facts = {"GPUs": gpus() if gpu else "not asked for"}
    facts |= {
        "Python": platform.python_version(),
        "processors": f"{len(os.sched_getaffinity(0))}, {_cpu()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "compiler": shutil.which("gcc") or shutil.which("clang") or "none: torch.compile needs one",
        "engine": shutil.which("docker") or "none",
        "sysfs": "yes" if Path("/sys/bus/pci/devices").is_dir() else "no PCI devices",
        "packages": ", ".join(name for name in PACKAGES if find_spec(name)),
    }
    if gpu:
        facts |= _asked_of_smi()
    began = time.monotonic()
    of_torch = _asked_of_torch()
    start_s = time.monotonic() - began
    error = of_torch.pop("error", "")
    facts |= of_torch
    if "torch" not in facts:
        problem = (
            f"torch cannot be imported by {sys.executable} ({error}): name the Python that has it, make PYTHON=python3"
        )
    else:
        problem = why_no_gpu(error, facts) if gpu and error and "device" not in facts else ""
    where = (facts.get("device", ""), f"driver {facts.get('driver_version')}") if gpu else (_cpu(), "no GPU")
    return Machine(
        hardware=", ".join((*where, f"torch {facts.get('torch')}")), facts=facts, problem=problem, start_s=start_s
    )


def why_no_gpu(error: str, facts: dict[str, str]) -> str:
    """Torch's reason with the mend."""
    if "too old" in error:
        return (
            f"torch {facts['torch']} is built for CUDA {facts['CUDA of torch']}, and driver"
            f" {facts.get('driver_version', 'unknown')} is too old for it: update the driver"
            " (CUDA 13: 580 or newer), or install a torch built for an older CUDA"
        )
    return f"torch cannot use the GPU ({error}): compare nvidia-smi; a torch built for CUDA and a matching driver do"


def gpus() -> str:
    """The names of the GPUs here. Raises TrialFailedError with the reason and the fix where there is none."""
    said = "neither nvidia-smi nor torch knows one"
    if (command := shutil.which("nvidia-smi")) is not None:
        try:
            done = subprocess.run([command, "-L"], capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired as error:
            raise TrialFailedError("nvidia-smi hangs: fix the driver, a reboot may be due") from error
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
        words = " ".join((done.stdout + done.stderr).split())[:300]
        said = f"nvidia-smi fails: {words}; fix the driver, a reboot is due after its update"
    if not (names := _asked_of_torch().get("device", "")):
        raise TrialFailedError(f"there is no NVIDIA GPU to use here ({said}): nothing was tested")
    return names


def _asked_of_smi() -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(ASKED_OF_SMI)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.split(",")]
    return dict(zip(ASKED_OF_SMI, values, strict=True)) if len(values) == len(ASKED_OF_SMI) else {}


def _asked_of_torch() -> dict[str, str]:
    """In a process of its own, as one that has used a GPU keeps memory on it."""
    try:
        done = subprocess.run(
            program(LOOK), capture_output=True, text=True, check=False, timeout=LOOK_S, env={**os.environ, **visible()}
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"error": f"importing torch ended with {type(error).__name__}"}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
