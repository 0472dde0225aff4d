"""Atomic replacement of files, the error if it fails, and folders that go with their process."""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.errors import RecordFailed

NEW_S = 60.0  # a folder that young may belong to a process that has not locked it yet


def put(path: Path, data: bytes | Iterable[bytes], mode: int) -> None:
    """Replace a file atomically and durably: after a crash it is the old or the new one. Raises OSError."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.writelines([data] if isinstance(data, bytes) else data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def read_text(path: Path) -> str:
    """Return a UTF-8 file as it is, line ends and a byte order mark included. Raises OSError, UnicodeDecodeError."""
    return path.read_bytes().decode()


def write(path: Path, text: str | Iterable[str]) -> None:
    """Write a file, given whole or in parts, atomically with mode 0600; raises RecordFailed naming it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        put(path, (part.encode() for part in ([text] if isinstance(text, str) else text)), 0o600)
    except OSError as error:
        raise explain_write_error(path, error) from error


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically; raises RecordFailed."""
    write(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def explain_write_error(path: Path, error: OSError) -> RecordFailed:
    """Return the error for a file that could not be written, with the fix."""
    return RecordFailed(f"{path}: cannot be written: {error.strerror}; free some space or use --runs FOLDER")


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder, and first remove those with this prefix whose process was killed."""
    for other in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError), locked_folder(other):
            if time.time() - other.stat().st_mtime > NEW_S:
                shutil.rmtree(other, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name, locked_folder(Path(name)):
        yield Path(name)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder as long as this process lives. Raises OSError where another process has locked it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
