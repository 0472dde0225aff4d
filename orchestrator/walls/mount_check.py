"""Whether a container sees this machine's files: asked before the first experiment.

An engine from a snap shows containers another folder than the one it was asked for, and one on another machine has none
of them: every experiment would fail, or train on something else.
"""

import hashlib
import secrets
import tempfile
from pathlib import Path

from orchestrator.errors import SandboxError
from orchestrator.files import explain_write_error
from orchestrator.walls import locked_files, staging
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import unique_name
from orchestrator.walls.run_once import run_once
from orchestrator.walls.spec import Mount

CHECK_S = 60.0  # the first container from a cold disk
REASON_CHARS = 300
PROBE, MANIFEST = "preflight.txt", Path("train", "manifest.json")
CHECK = """
import hashlib, sys
for path in sys.argv[1:]:
    print("seen", hashlib.sha256(open(path, "rb").read()).hexdigest())
"""
MEND = (
    "an engine from a snap sees files below the home folder only, and one on another machine none of this one: move"
    " them (--runs FOLDER puts records elsewhere), or use another engine (DOCKER_HOST)"
)


def check_mounts(place: ExecutionContext) -> None:
    """Start one container that reads a new file beside the records, and the data. Raises SandboxError."""
    runs, data = place.config.runs, place.config.data_path / MANIFEST.parent
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_write_error(runs, error) from error
    with staging.private_folder(runs) as private, tempfile.TemporaryDirectory() as folder:
        locked_files.copy(place.config.root, private / "locked", place.config.task.stages)
        staging.put(private / "locked" / PROBE, secrets.token_bytes(32))
        expected = {f"/locked/{PROBE}": private / "locked" / PROBE}
        mounts = [Mount(source=str(private / "locked"), target="/locked")]
        if data.is_dir():  # a task may need no data
            expected[f"/corpus/{MANIFEST.name}"] = data / MANIFEST.name
            mounts.append(Mount(source=str(data), target="/corpus"))
        try:
            result = run_once(
                place,
                "preflight",
                ("-c", CHECK, *expected),
                name=unique_name(f"{place.config.tag}-preflight"),
                mounts=tuple(mounts),
                deadline_s=CHECK_S,
                folder=Path(folder),
            )
        except SandboxError as error:
            if "does not exist" in str(error):  # what the engine was asked to mount
                raise SandboxError(f"the engine does not see this machine's files: {error}; {MEND}") from error
            raise
        seen = [line.split()[-1] for line in result.log_tail.splitlines() if " seen " in f" {line} "]
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in expected.values()]
        if result.exit_code != 0 or seen != hashes:
            said = (result.log_tail.strip().splitlines() or [f"exit code {result.exit_code}"])[-1][:REASON_CHARS]
            raise SandboxError(f"containers do not see {runs} and {data} as they are here ({said}); {MEND}")
