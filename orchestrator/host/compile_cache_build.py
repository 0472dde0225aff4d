"""Fill the compile cache: a minute of the human's own train.py, and what it compiled copied out by our own code."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator import files, patch
from orchestrator.errors import ConfigError, PatchRejected, SandboxError
from orchestrator.logger import log
from orchestrator.record.git_branch import ResultBranch
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role
from orchestrator.walls import compile_cache
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import ExperimentSandbox
from orchestrator.walls.run_once import run_once
from orchestrator.walls.spec import UID, Mount

COPY_S = 120.0
TRAINING_S = 60.0  # a first step compiles everything, however long that takes


def add_compile_cache(
    place: ExecutionContext, keeper: ResultBranch, on_wait: Callable[[str], None]
) -> ExecutionContext:
    """Return the context with a compile cache if it has a GPU.

    Builds a missing cache first; if that fails, the context is returned without one.
    """
    if place.gpu_uuid is None or place.warm is not None:
        return place
    on_wait("your committed train.py compiles, once for this GPU and image")
    try:
        return replace(place, warm=build(place, keeper, lambda _: None))
    except (ConfigError, PatchRejected, SandboxError, OSError, UnicodeDecodeError) as error:
        log.warning("compile_cache.not_filled", reason=str(error))
        return place


def read_committed_source(keeper: ResultBranch) -> str:
    """Return train.py if it equals the last commit. Raises ConfigError: what a loop put there fills no cache."""
    source = files.read_text(keeper.path)
    committed = keeper.read_head_version()
    if committed is None or patch.as_shown(committed) != patch.as_shown(source):
        raise ConfigError(
            f"{keeper.path} is not what your last commit holds, and compiled code must come from a file that you stand"
            " for: commit it if it is yours, or put yours back"
        )
    patch.check(source, ())
    return source


def build(place: ExecutionContext, keeper: ResultBranch, on_line: Callable[[str], None]) -> compile_cache.CompileCache:
    """Train for a minute and keep what was compiled. Raises ConfigError, PatchRejected or SandboxError."""
    source, among = read_committed_source(keeper), compile_cache.folder(place.config)
    limits = place.config.active_profile
    brief = place.config.with_profile(time_budget_s=TRAINING_S, grace_s=limits.time_budget_s + limits.grace_s)
    reply = Reply(proposer="build-cache")
    candidate = Candidate(
        proposal=Proposal(hypothesis="warm"), source=source, parent_id=None, parent_source=source, reply=reply
    )
    among.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=among, prefix=".warming-") as name:
        staging, cache = Path(name), Path(name) / "cache"
        staging.chmod(0o755)
        (cache / compile_cache.FILES).mkdir(parents=True)
        cold = replace(place, config=brief, warm=None)
        with ExperimentSandbox.open(cold, candidate, Plan.draw(), experiment_id=0, folder=staging) as sandbox:
            sandbox.start(Role.PREDICTOR_A, best=None, on_line=on_line)  # holds the volume, and does nothing else
            trained = sandbox.start(Role.TRAINER, best=None, on_line=on_line, keep_cache=True).wait()
            if trained.exit_code != 0:
                raise SandboxError(
                    f"train.py did not end well (exit code {trained.exit_code}): {trained.log_tail[-500:]}"
                )
            _copy_out(sandbox, staging, cache / compile_cache.FILES, on_line)
        digest = hashlib.sha256(source.encode()).hexdigest()
        made = compile_cache.seal(cache, hardware=place.hardware, image_id=place.image_id, train_sha256=digest)
        return compile_cache.put(made, among, hardware=place.hardware, image_id=place.image_id)


def _copy_out(sandbox: ExperimentSandbox, staging: Path, target: Path, on_line: Callable[[str], None]) -> None:
    """Copy out plain files only, in a container without the training data that runs nothing but our code."""
    user, userns = sandbox.place.engine.host_user_mapping()
    if not os.getuid():
        os.chown(target, UID, UID)
    mounts = (
        Mount(source=str(sandbox.private / Role.TRAINER / "locked"), target="/locked"),
        Mount(source=f"{sandbox.name}-out", target="/corpus", volume=True),
        Mount(source=str(target), target="/staging", writable=True),
    )
    copy = "import guard, pathlib; guard.copy_plain(pathlib.Path('/corpus/cache'), pathlib.Path('/staging'))"
    result = run_once(
        sandbox.place,
        "warm",
        ("-c", copy),
        name=f"{sandbox.name}-warm",
        mounts=mounts,
        deadline_s=COPY_S,
        folder=staging,
        on_line=on_line,
        user=user,
        userns=userns,
    )
    if result.exit_code != 0:
        raise SandboxError(
            f"the compile cache could not be copied (exit code {result.exit_code}): {result.log_tail[-500:]}"
        )
