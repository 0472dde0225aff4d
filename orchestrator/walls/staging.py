"""Private copies of what an experiment's containers read, one for each container, and the hashes of it all."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.files import explain_write_error


@contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """Create a folder next to the record that containers may read; removed at the end."""
    try:
        private = Path(tempfile.mkdtemp(prefix=".private-", dir=folder))
        private.chmod(0o755)
    except OSError as error:
        raise explain_write_error(folder, error) from error
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)


def copy(source: Path, target: Path, pattern: str) -> None:
    """Copy to new inodes: a read-only mount is not an integrity boundary for shared ones."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob(pattern)):
        put(target / path.name, path.read_bytes())


def put(path: Path, data: bytes) -> None:
    """Write a file for containers to read, in place at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (path.parent, path.parent.parent):  # whatever the user's umask is
            folder.chmod(0o755)
        hidden = path.with_name(f".{path.name}")
        hidden.write_bytes(data)
        hidden.chmod(0o644)
        hidden.replace(path)
    except OSError as error:
        raise explain_write_error(path, error) from error


def manifests(data: Path) -> dict[str, str]:
    """Return the SHA-256 of the manifest of each part of the data, which names the hashes of the part's files."""
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data.glob("*/manifest.json"))
    }


def digest(hashes: dict[str, str]) -> str:
    """Return one hash for many, as `sha256sum` would print them."""
    return hashlib.sha256("".join(f"{value}  {name}\n" for name, value in hashes.items()).encode()).hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every copy, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
