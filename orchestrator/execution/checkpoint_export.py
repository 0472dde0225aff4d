"""Copy the checkpoint of a would-be champion to the host, byte by byte, by a container that runs our code only.

Nothing is copied out of a container or followed on the host: the exporter (runtime/export_checkpoint.py) reads one
plain file and prints it; what arrives is compared with the hashes that the exporter and the scorer report.
"""

from contextlib import suppress
from pathlib import Path

from orchestrator.errors import SandboxError
from orchestrator.logger import log
from orchestrator.record.checkpoint import NAME, open_capped
from orchestrator.types import ExecutionResult, Role
from orchestrator.walls.experiment_sandbox import ExperimentSandbox


def export_checkpoint(
    sandbox: ExperimentSandbox, limit: int, checkpoint_sha256: str
) -> tuple[ExecutionResult | None, Path | None]:
    """Return how the exporter ended, and the file; None for a file that is not the checkpoint that was scored.

    An experiment without its checkpoint file is as good as with it: a failure is logged.
    """
    lines: list[str] = []
    path, result, reason = sandbox.folder / NAME, None, ""
    try:
        with open_capped(path, limit) as file:
            exporter = sandbox.start(Role.EXPORTER, best=None, on_line=lines.append, sink=file.add)
            result = exporter.wait()
            reported = dict(line.split(": ", 1) for line in lines if ": " in line)
            expected = {"file_sha256": file.digest.hexdigest(), "checkpoint_sha256": checkpoint_sha256}
            if result.exit_code != 0 or file.broken or not expected.items() <= reported.items():
                reason = file.broken or (lines[-1] if lines else f"the exporter ended with {result.exit_code}")
    except (SandboxError, OSError) as error:
        reason = str(error)
    if not reason:
        return result, path
    log.warning("checkpoint.not_kept", experiment_id=sandbox.experiment_id, reason=reason)
    with suppress(OSError):
        path.unlink()
    return result, None
