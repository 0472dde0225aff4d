"""Whether torch can use the leased GPU in a container as every experiment's: asked before the first experiment.

Torch takes the processor where it finds no GPU, so a driver that is too old would otherwise look like a slow train.py.
"""

import tempfile
from pathlib import Path

from orchestrator.errors import LeaseUnavailable
from orchestrator.walls import locked_files, staging
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import unique_name
from orchestrator.walls.run_once import run_once
from orchestrator.walls.spec import Mount

CHECK_S = 120.0  # the first import of torch from a cold disk
REASON_CHARS = 300
FIX = "update the host's NVIDIA driver (CUDA 13 needs 580 or newer), see that every user may open /dev/nvidia*"
CHECK = """
import torch
try:
    torch.zeros(1, device="cuda")
except Exception as error:
    raise SystemExit(f"{type(error).__name__}: {str(error).splitlines()[0]}")
"""


def check_gpu(place: ExecutionContext) -> None:
    """Start one container on the GPU that puts a number there. Raises LeaseUnavailable with torch's own reason."""
    build = place.config.root / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix=".cuda-") as name, staging.private_folder(Path(name)) as private:
        Path(name).chmod(0o755)
        locked_files.copy(place.config.root, private / "locked", place.config.task.stages)
        result = run_once(
            place,
            "cuda",
            ("-c", CHECK),
            name=unique_name(f"{place.config.tag}-cuda"),
            mounts=(Mount(source=str(private / "locked"), target="/locked"),),
            deadline_s=CHECK_S,
            folder=Path(name),
            gpu_uuid=place.gpu_uuid,
        )
    if result.exit_code != 0:
        last_line = (result.log_tail.strip().splitlines() or [f"exit code {result.exit_code}, no output"])[-1]
        raise LeaseUnavailable(
            f"torch in a container cannot use {place.gpu_uuid}: {last_line[:REASON_CHARS]}; {FIX}, or use --profile cpu"
        )
