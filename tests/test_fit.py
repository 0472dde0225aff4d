"""What keeps experiments from running here is known before an image is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from orchestrator import preflight
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError
from orchestrator.units import GIB

if TYPE_CHECKING:
    from orchestrator.walls.engine import Engine

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engineless:
    """What an engine says of itself and its machine; it has no image and starts nothing."""

    memory_gib: float = 31.1  # a desktop that was sold with 32
    is_podman: bool = False
    limits: bool = True
    limits_swap: bool = True

    def info(self) -> dict[str, Any]:
        """With NVIDIA's runtime."""
        return {"Runtimes": {"runc": {}, "nvidia": {}}}

    def memory_bytes(self) -> int:
        """Of the machine."""
        return int(self.memory_gib * GIB)

    def processors(self) -> int:
        """Of the machine."""
        return 16

    def check_runtime(self, runtime: str) -> None:
        """It knows all."""


def gpu(parallel: int = 1) -> Config:
    """The profile as task.toml has it."""
    return load(ROOT, {"tag": "t", "runs": ROOT / "runs", "profile_name": "gpu", "parallel": parallel})


def refuse(config: Config, engine: Engineless) -> None:
    """Ask."""
    preflight.refuse_unfit(config, cast("Engine", engine))


def test_the_gpu_profile_fits_a_desktop() -> None:
    """With 32 GB, of which the kernel has taken some."""
    refuse(gpu(), Engineless())


def test_memory_that_is_not_there_is_named_by_its_key() -> None:
    """Fewer side by side is advice only where there are several."""
    with pytest.raises(ConfigError, match=r"^task.toml: \[profile.gpu\] memory_gb = 24: this .* lower memory_gb$"):
        refuse(gpu(), Engineless(memory_gib=15.5))
    with pytest.raises(ConfigError, match=r"memory_gb = 24 for each of --parallel 2: .* 31.1 GB; lower either$"):
        refuse(gpu(2), Engineless())


def test_an_engine_that_hands_out_no_gpu_is_told() -> None:
    """Podman, through this API; preparing data asks for no GPU, and is not refused."""
    podman = Engineless(is_podman=True)

    refuse(gpu(), podman)
    with pytest.raises(ConfigError, match="--profile gpu: Podman cannot pass a single GPU to a container"):
        preflight.refuse_gpu(gpu(), cast("Engine", podman))
