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

from orchestrator.errors import ConfigError, SandboxError
from orchestrator.walls import locked_files
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import unique_name
from orchestrator.walls.run_once import run_once
from orchestrator.walls.spec import UID, Mount

PARTS = ("train", "val", "holdout")  # a task about text has a tokenizer beside them
PREPARE_S = 6 * 3600.0  # tens of gigabytes take hours
IN_IMAGE = "python"


def name_corpus(data: str) -> str:
    """Return the name of a corpus: the one in the image, or a folder on the host, distinguished by its path."""
    if data == IN_IMAGE:
        return IN_IMAGE
    path = Path(data).resolve()
    plain = re.sub(r"[^A-Za-z0-9]+", "-", path.name).strip("-")[:20]
    return f"{plain}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def is_ready(target: Path) -> bool:
    """Return whether every part was prepared."""
    return all((target / part / "manifest.json").is_file() for part in PARTS)


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
    """Make `data/<profile>-<corpus>` unless it is there. Raises ConfigError or SandboxError with the fix."""
    target = place.config.data_path
    if is_ready(target):
        return target
    corpus = None if data == IN_IMAGE else Path(data).resolve()
    if corpus is not None and not corpus.is_dir():
        raise ConfigError(f"--data {data}: no such folder; name one with .txt, .jsonl or .parquet files")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
        private = staging.with_name(f"{staging.name}-locked")
        try:
            locked_files.copy(place.config.root, private / "locked")
            _run(place, staging, corpus, image_id, on_line)
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


def _run(
    place: ExecutionContext, staging: Path, corpus: Path | None, image_id: str, on_line: Callable[[str], None]
) -> None:
    user, userns = place.engine.host_user_mapping()
    if not os.getuid():
        os.chown(staging, UID, UID)
    mounts = [
        Mount(source=str(staging.with_name(f"{staging.name}-locked") / "locked"), target="/locked"),
        Mount(source=str(staging), target="/staging", writable=True),
    ]
    if corpus is not None:
        mounts.append(Mount(source=str(corpus), target="/corpus"))
    with tempfile.TemporaryDirectory() as folder:
        result = run_once(
            replace(place, image_id=image_id),
            "prepare",
            ("/locked/make_data.py", "--out", "/staging", "--corpus", "/corpus" if corpus else IN_IMAGE),
            name=unique_name(f"prepare-{place.config.profile_name}"),
            mounts=tuple(mounts),
            deadline_s=PREPARE_S,
            folder=Path(folder),
            on_line=lambda line: on_line(f"data: {line}"),
            user=user,
            userns=userns,
        )
    if result.exit_code != 0:
        raise SandboxError(f"the data could not be prepared (exit code {result.exit_code}): {result.log_tail[-500:]}")
