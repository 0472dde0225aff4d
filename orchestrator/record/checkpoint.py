"""The checkpoint of a kept experiment: carried out of its volume by a container of ours, byte by byte, never opened.

Nothing is copied out of a container or followed on the host: the courier (runtime/export_checkpoint.py) reads one plain
file; what arrives is written to one file of ours, no longer than it may be, and compared with the hash that the courier
tells.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from orchestrator.errors import JournalError, RecordFailed, SandboxError
from orchestrator.record.journal import Journal
from orchestrator.types import ExecutionResult, Experiment, Role

if TYPE_CHECKING:
    from orchestrator.walls.experiment_sandbox import ExperimentSandbox

NAME = "checkpoint.pt"
PIECE = 1 << 20

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class CappedFile:
    """What arrives, in a file that must not exist yet; bytes beyond the limit or a full disk are not written."""

    file: int
    limit: int
    size: int = 0
    broken: str = ""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, data: bytes) -> None:
        """Take a piece."""
        self.size += len(data)
        if self.size > self.limit:
            self.broken = f"more than {self.limit} bytes came"
        if self.broken:
            return
        self.digest.update(data)
        try:
            while data:
                data = data[os.write(self.file, data) :]
        except OSError as error:
            self.broken = f"it cannot be written: {error.strerror}"


def carry(box: "ExperimentSandbox", limit: int) -> ExecutionResult | None:
    """Keep the checkpoint of a would-be best in its folder; without it the experiment is as good as with it."""
    said: list[str] = []
    path = box.folder / NAME
    try:
        with _parcel(path, limit) as parcel:
            running = box.start(Role.COURIER, best=None, on_line=said.append, sink=parcel.add)
            result = running.wait()
            told = next((line.removeprefix("file_sha256: ") for line in said if line.startswith("file_sha256: ")), "")
            if result.exit_code != 0 or parcel.broken or told != parcel.digest.hexdigest():
                why = parcel.broken or (said[-1] if said else f"the courier ended with {result.exit_code}")
                log.warning("checkpoint.not_kept", experiment_id=box.experiment_id, why=why)
                path.unlink(missing_ok=True)
            return result
    except (SandboxError, OSError) as error:
        log.warning("checkpoint.not_kept", experiment_id=box.experiment_id, why=str(error))
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None


@contextmanager
def _parcel(path: Path, limit: int) -> Iterator[CappedFile]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield CappedFile(file=file, limit=limit)
        os.fsync(file)
    finally:
        os.close(file)


def settle(folder: Path, *, kept: bool, checkpoint_sha256: str) -> None:
    """Leave the checkpoint that was scored in the folder of a kept experiment, and no other anywhere."""
    for path in sorted(folder.rglob(NAME)):
        told = path.with_name(f"{Role.COURIER}.log")
        with suppress(OSError):
            if kept and f"checkpoint_sha256: {checkpoint_sha256}\n" in told.read_text(encoding="utf-8"):
                path.replace(folder / NAME)
                kept = False
            else:
                path.unlink()


def recorded(journal: Journal, experiment_id: int) -> str | None:
    """SHA-256 of an experiment's checkpoint file; None if it has none on record."""
    finished = journal.records("experiment.finished", experiment_id)[0]
    digest = finished.body["files"].get(NAME)
    return None if digest is None else str(digest)


def export(experiment: Experiment, recorded_sha256: str | None, out: Path) -> int:
    """Copy a kept checkpoint to `out`, which must not exist; returns its size. Raises JournalError or RecordFailed."""
    path = experiment.folder / NAME
    if recorded_sha256 is None or not path.exists():
        raise JournalError(
            f"experiment {experiment.id} ({experiment.status}) has no checkpoint on record; kept ones may have one"
        )
    digest, size = hashlib.sha256(), 0
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(source, "rb") as reader, _parcel(out, path.stat().st_size) as parcel:
            while data := reader.read(PIECE):
                digest.update(data)
                parcel.add(data)
                size += len(data)
            broken = parcel.broken
    except OSError as error:
        raise RecordFailed(f"{error.filename or out}: {error.strerror}; name another file with --out") from error
    if broken or digest.hexdigest() != recorded_sha256:
        out.unlink(missing_ok=True)
        raise JournalError(f"{path}: does not match the record; {broken or 'see `autoresearch verify`'}")
    return size
