"""The context of experiments: engine, image and device, the variables and limits of every container, and its record."""

import hashlib
from dataclasses import dataclass

from orchestrator.config import Config
from orchestrator.devices.lease import Lease
from orchestrator.scoring import thresholds
from orchestrator.scoring.thresholds import Thresholds
from orchestrator.shipped import SECCOMP
from orchestrator.types import KEEP_RULE, Environment
from orchestrator.units import GIB, MIB
from orchestrator.walls import compile_cache, locked_files, seccomp, staging
from orchestrator.walls.compile_cache import CompileCache
from orchestrator.walls.engine import Engine
from orchestrator.walls.spec import Resources

_KINDS = {"runsc": "gVisor", "kata": "virtual machine"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """Where experiments run: engine, image, device and the task's files."""

    engine: Engine
    config: Config
    image_id: str
    seccomp: str
    thresholds: Thresholds
    hardware: str = "cpu"
    gpu_uuid: str | None = None
    driver: str = ""  # of the GPU
    cpuset: str = ""
    image_sha256: str = ""  # of its content
    holdout: bool = False  # score on the text that no experiment is ever scored on
    warm: CompileCache | None = None  # compile caches that every trainer starts with

    def describe(self) -> Environment:
        """Return the environment that is recorded with every experiment."""
        return Environment(
            image_id=self.image_id,
            image_sha256=self.image_sha256,
            settings=self.settings(),
            hardware=self.hardware,
            profile=self.config.profile_name,
            runtime=self.config.runtime,
            accepted_risks=",".join(self.config.accept_risk),
            gpu_uuid=self.gpu_uuid or "",
            evaluation=self.evaluation,
            audit_cap=f"{self.thresholds.audit_cap:g}",
            audit_floor=f"{self.thresholds.audit_floor:g}",
            thresholds=self.thresholds.origin,
            seccomp_sha256=hashlib.sha256(self.seccomp.encode()).hexdigest(),
            driver=self.driver,
            tier=self.tier(),
            cache_sha256=self.warm.sha256 if self.warm else "",
            locked_sha256=staging.digest(locked_files.hashes(self.config.root, self.config.task.stages)),
            data_sha256=staging.digest(staging.manifests(self.config.data_path)),
            **self.engine.describe(),
        )

    def settings(self) -> dict[str, str]:
        """Return what else a score depends on, by name: all of the profile but the thresholds, and how it is judged."""
        profile = self.config.active_profile.model_dump(exclude={"audit_cap", "audit_floor"})
        return {
            **{name: f"{value:g}" for name, value in profile.items()},
            "isolation": self.tier(),
            "keep_rule": f"{self.config.noise.rule} {KEEP_RULE}",
        }

    def tier(self) -> str:
        """Describe what isolates an experiment from the host's kernel, in addition to our seccomp profile."""
        engine = self.engine.describe()
        runtime = self.config.runtime or engine.get("default_runtime", "")
        kind = next((kind for word, kind in _KINDS.items() if word in runtime), "container")
        mode = next((mode for mode in ("rootless", "userns") if mode in engine.get("security", "")), "rootful")
        return f"{kind}, {mode}"

    @property
    def evaluation(self) -> str:
        """The part of the data that the scorer sees."""
        return "holdout" if self.holdout else "val"

    def environment(self, seed: int) -> dict[str, str]:
        """Return all variables of a container."""
        profile = self.config.active_profile
        return {
            "AUTORESEARCH_PROFILE": self.config.profile_name,
            "AUTORESEARCH_TIME_BUDGET": f"{profile.time_budget_s:g}",
            "AUTORESEARCH_SEED": str(seed),
            "HOME": "/tmp",  # noqa: S108  # inside the container
            "USER": "sandbox",
            "TMPDIR": "/tmp",  # noqa: S108
            "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
            "TRITON_CACHE_DIR": "/cache/triton",
            "CUDA_CACHE_PATH": "/cache/cuda",
            "PYTHONPATH": "/locked",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": f"{max(1, int(profile.cpus))}",
            "GOMP_SPINCOUNT": "1000",  # then sleep: spinning on a busy machine trains several times slower
            "PATH": "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }

    def resources(self) -> Resources:
        """Return the limits of one container."""
        profile = self.config.active_profile
        return Resources(
            memory=int(profile.memory_gb * GIB),
            cpus=profile.cpus,
            pids=profile.pids,
            tmp=profile.tmp_mb * MIB,
            cache=profile.cache_mb * MIB,
            shm=profile.shm_mb * MIB,
            cpuset=self.cpuset,
        )


def build_context(config: Config, engine: Engine, leased: Lease | None = None) -> ExecutionContext:
    """Return the context of experiments on a leased device, or on none yet. Raises ConfigError or ImageMissing."""
    image_id = engine.image_id(get_image_name(config))
    device, hardware = (leased.device, leased.hardware) if leased else (None, "")
    return ExecutionContext(
        engine=engine,
        config=config,
        image_id=image_id,
        image_sha256=engine.image_sha256(get_image_name(config)),
        seccomp=seccomp.read_profile(SECCOMP, config.runtime),
        thresholds=thresholds.load(config, hardware),
        hardware=hardware,
        gpu_uuid=device.uuid if device else None,
        driver=device.driver if device else "",
        cpuset=leased.cpuset if leased else "",
        warm=compile_cache.find(compile_cache.folder(config), hardware, image_id),
    )


def get_image_name(config: Config) -> str:
    """Return the name of a profile's image, as sandbox/image.sh builds it."""
    return f"autoresearch-sandbox:{config.profile_name}"
