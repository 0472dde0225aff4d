"""Atomic replacement of files, and the error if it fails."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import RecordFailed


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
