"""One container that runs a program of ours to its end: not an experiment, but with the same walls."""

from collections.abc import Callable
from pathlib import Path

from orchestrator.types import ExecutionResult, Role
from orchestrator.walls import container, container_labels
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import GUARD_MARGIN_S
from orchestrator.walls.spec import USER, ContainerSpec, Mount


def run_once(  # noqa: PLR0913  # each is a field of the spec
    place: ExecutionContext,
    label: str,
    program: tuple[str, ...],
    *,
    role: Role = Role.PREPARE,
    name: str,
    mounts: tuple[Mount, ...],
    deadline_s: float,
    folder: Path,
    on_line: Callable[[str], None] | None = None,
    gpu_uuid: str | None = None,
    user: str = USER,
    userns: str = "",
) -> ExecutionResult:
    """Run Python with these arguments where experiments run; block until it is removed. Raises SandboxError."""
    spec = ContainerSpec(
        role=role,
        name=name,
        image_id=place.image_id,
        program=("python3", "-s", "-B", *program),
        hard_limit_s=deadline_s + GUARD_MARGIN_S,
        mounts=mounts,
        resources=place.resources(),
        environment=place.environment(0),
        labels=container_labels.owner_labels(
            tag=place.config.tag, experiment_id=0, attempt=1, role=label, dies_in_s=deadline_s
        ),
        seccomp=place.seccomp,
        runtime=place.config.runtime,
        gpu_uuid=gpu_uuid,
        user=user,
        userns=userns,
    )
    with container.start(place.engine, spec, deadline_s=deadline_s, folder=folder, on_line=on_line) as running:
        return running.wait()
