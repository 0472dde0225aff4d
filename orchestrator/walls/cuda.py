"""Whether torch can use the leased GPU in a container as every experiment's: asked before the first experiment.

Torch takes the processor where it finds no GPU, so a driver that is too old would otherwise look like a slow train.py.
"""

import tempfile
from pathlib import Path

from orchestrator.errors import LeaseUnavailable
from orchestrator.types import Role
from orchestrator.walls import copies, locked, owner
from orchestrator.walls.box import unique
from orchestrator.walls.place import Place
from orchestrator.walls.spec import ContainerSpec, Mount

CHECK_S = 120.0  # the first import of torch from a cold disk
REASON_CHARS = 300
MEND = "update the host's NVIDIA driver (CUDA 13 needs 580 or newer), see that every user may open /dev/nvidia*"
CHECK = """
import torch
try:
    torch.zeros(1, device="cuda")
except Exception as error:
    raise SystemExit(f"{type(error).__name__}: {str(error).splitlines()[0]}")
"""


def check(place: Place) -> None:
    """Start one container on the GPU that puts a number there. Raises LeaseUnavailable with torch's own reason."""
    build = place.config.root / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix=".cuda-") as name, copies.private_folder(Path(name)) as private:
        Path(name).chmod(0o755)
        locked.copy(place.config.root, private / "locked")
        spec = ContainerSpec(
            role=Role.PREPARE,
            name=unique(f"{place.config.tag}-cuda"),
            image_id=place.image_id,
            program=("python3", "-s", "-B", "-c", CHECK),
            hard_limit_s=CHECK_S,
            mounts=(Mount(source=str(private / "locked"), target="/locked"),),
            resources=place.resources(),
            environment=place.environment(0),
            labels=owner.labels(tag=place.config.tag, experiment_id=0, attempt=1, role="cuda", dies_in_s=CHECK_S),
            seccomp=place.seccomp,
            runtime=place.config.runtime,
            gpu_uuid=place.gpu_uuid,
        )
        with place.engine.start(spec, deadline_s=CHECK_S, folder=Path(name)) as running:
            result = running.wait()
    if result.exit_code != 0:
        said = (result.log_tail.strip().splitlines() or [f"exit code {result.exit_code}, no output"])[-1]
        message = f"torch in a container cannot use {place.gpu_uuid}: {said[:REASON_CHARS]}; {MEND}, or use PROFILE=cpu"
        raise LeaseUnavailable(message)
