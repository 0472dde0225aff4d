"""Prepare the task's data once, in a container without network, from a corpus on the host or in the image."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.config import Config
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.host.source import CORPUS, IN_IMAGE, MANIFEST, describe_change, mount_source, scan_source
from orchestrator.types import Stages
from orchestrator.walls import locked_files
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import unique_name
from orchestrator.walls.run_once import run_once
from orchestrator.walls.spec import UID, Mount

ERROR = "error: "  # begins the one line in which the files in the container say what is wrong
PREPARE_S = 6 * 3600.0  # tens of gigabytes take hours


def needs_data(config: Config) -> bool:
    """Return whether the task makes data before its first experiment."""
    return config.task.stages is Stages.TRAIN or (config.root / "locked" / locked_files.MAKE_DATA).is_file()


def check_train(target: Path) -> None:
    """Hash the training set before a session: a trainer has no time for large files of it. Raises ConfigError."""
    folder = target / "train"
    manifest = folder / "manifest.json"
    try:
        files = {name: str(facts["sha256"]) for name, facts in json.loads(manifest.read_bytes())["files"].items()}
        for name, expected in files.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise ConfigError(
                        f"{folder / name} does not match its manifest; remove {target}, then run"
                        " `autoresearch prepare-data`"
                    )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{manifest}: it or a file it lists cannot be read ({error}); remove {target}, then run"
            " `autoresearch prepare-data`"
        ) from error


def prepare(place: ExecutionContext, data: str, image_id: str, on_line: Callable[[str], None]) -> Path:
    """Make `data/<profile>-<corpus>` anew. Raises ConfigError or SandboxError with the fix."""
    target = place.config.data_path
    if data != IN_IMAGE and not Path(data).exists():
        raise ConfigError(f"--data {data}: no such folder; name one with .txt, .jsonl or .parquet files")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
        private = _private(staging)
        try:
            locked_files.copy(place.config.root, private / "locked", place.config.task.stages)
            source = None if data == IN_IMAGE else scan_source(data)
            _run(replace(place, image_id=image_id), staging, data, on_line)
            if source is not None:
                if change := describe_change(source, scan_source(data, source)):
                    raise ConfigError(f"--data {data}: it changed while it was prepared ({change}); prepare it again")
                source.save(staging)
                if not os.getuid():
                    os.chown(staging / MANIFEST, UID, UID)  # as everything there
            shutil.rmtree(target, ignore_errors=True)
            staging.chmod(0o755)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(private, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or target}: cannot be written: {error.strerror}; free some space or fix the permissions"
        ) from error
    return target


def _private(staging: Path) -> Path:
    """Return the folder of what the container reads besides the user's text."""
    return staging.with_name(f"{staging.name}-private")


def _run(place: ExecutionContext, staging: Path, data: str, on_line: Callable[[str], None]) -> None:
    """Make the data in a container; what it says of /corpus is said of the user's own path."""
    user, userns = place.engine.host_user_mapping()
    if not os.getuid():
        os.chown(staging, UID, UID)
    mounts = [
        Mount(source=str(_private(staging) / "locked"), target="/locked"),
        Mount(source=str(staging), target="/staging", writable=True),
        *([] if data == IN_IMAGE else mount_source(data, _private(staging) / "links")),
    ]
    errors: list[str] = []

    def hear(line: str) -> None:
        line = in_your_words(line, data)
        if line.startswith(ERROR):
            errors.append(line.removeprefix(ERROR))
        else:
            on_line(f"data: {line}")

    with tempfile.TemporaryDirectory() as folder:
        result = run_once(
            place,
            "prepare",
            ("/locked/make_data.py", "--out", "/staging", "--corpus", IN_IMAGE if data == IN_IMAGE else CORPUS),
            name=unique_name(f"prepare-{place.config.profile_name}"),
            mounts=tuple(mounts),
            deadline_s=PREPARE_S,
            folder=Path(folder),
            on_line=hear,
            user=user,
            userns=userns,
        )
    if result.exit_code != 0 and errors:
        raise ConfigError(f"--data: {errors[-1]}")
    if result.exit_code != 0:
        tail = in_your_words(result.log_tail[-500:], data)
        raise SandboxError(f"the data could not be prepared (exit code {result.exit_code}): {tail}")


def in_your_words(line: str, data: str) -> str:
    """Return a line of the container with the user's own path in place of the container's."""
    return line if data == IN_IMAGE else re.sub(rf"(?<![\w/.-]){CORPUS}(?![\w-])", lambda _: data.rstrip("/"), line)
