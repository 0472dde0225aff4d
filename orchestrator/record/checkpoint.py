"""The checkpoint of a kept experiment: one plain file, capped in size and hashed, never opened as anything else."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import JournalError, RecordFailed
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment

NAME = "checkpoint.pt"
PIECE = 1 << 20


@dataclass(slots=True, kw_only=True)
class CappedFile:
    """A new file that takes at most `limit` bytes; what goes beyond that or finds the disk full is not written."""

    file: int
    limit: int
    size: int = 0
    broken: str = ""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, data: bytes) -> None:
        """Append a piece."""
        self.size += len(data)
        if self.size > self.limit:
            self.broken = f"more than {self.limit} bytes"
        if self.broken:
            return
        self.digest.update(data)
        try:
            while data:
                data = data[os.write(self.file, data) :]
        except OSError as error:
            self.broken = f"cannot be written: {error.strerror}"


@contextmanager
def open_capped(path: Path, limit: int) -> Iterator[CappedFile]:
    """Create a file of at most `limit` bytes. Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield CappedFile(file=file, limit=limit)
        os.fsync(file)
    finally:
        os.close(file)


def keep_checkpoint(folder: Path, scored: Path | None) -> None:
    """Keep the scored checkpoint in the folder of a kept experiment; remove any other below it."""
    with suppress(OSError):
        if scored is not None and scored != folder / NAME:
            scored.replace(folder / NAME)
    for path in folder.rglob(NAME):
        if scored is None or path != folder / NAME:
            with suppress(OSError):
                path.unlink()


def recorded_sha256(journal: Journal, experiment_id: int) -> str | None:
    """Return the SHA-256 of an experiment's checkpoint file; None if none is recorded."""
    return journal.finished(experiment_id).files.get(NAME)


def copy_checkpoint(experiment: Experiment, recorded_sha256: str | None, out: Path) -> int:
    """Copy a kept checkpoint to `out`, which must not exist; returns its size. Raises JournalError or RecordFailed."""
    path = experiment.folder / NAME
    if recorded_sha256 is None or not path.exists():
        raise JournalError(
            f"experiment {experiment.id} ({experiment.status}) has no checkpoint on record; kept ones may have one"
        )
    digest, size = hashlib.sha256(), 0
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(source, "rb") as reader, open_capped(out, path.stat().st_size) as capped:
            while data := reader.read(PIECE):
                digest.update(data)
                capped.add(data)
                size += len(data)
            broken = capped.broken
    except OSError as error:
        raise RecordFailed(f"{error.filename or out}: {error.strerror}; name another file with --out") from error
    if broken or digest.hexdigest() != recorded_sha256:
        out.unlink(missing_ok=True)
        raise JournalError(f"{path}: does not match the record; {broken or 'see `autoresearch verify`'}")
    return size
