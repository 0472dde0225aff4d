"""The seal of a run: size and SHA-256 of its own files as the last session left them, so that no byte goes unseen.

The chain covers what is recorded. A database has bytes that no record is made of, and some files are only derived;
the seal covers those while no session is writing. It proves nothing against a person who makes it anew: anchors do.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator import files
from orchestrator.errors import RecordFailed

NAME = "seal.json"
PIECE = 1 << 20
SEALED = ("journal.db", "record.jsonl", "results.tsv", "session.log")
GROWS = "session.log"  # what a session says after its journal is closed comes behind what is sealed


def write(folder: Path, head: str) -> None:
    """Seal a run whose journal was closed; without room for it there is none, which verify says."""
    sealed = {name: _facts(folder / name) for name in SEALED if (folder / name).is_file()}
    with suppress(RecordFailed):
        files.write(folder / NAME, _text(head, sealed))


def remove(folder: Path) -> None:
    """Break the seal: a session writes."""
    (folder / NAME).unlink(missing_ok=True)


def findings(folder: Path, head: str) -> Iterator[str]:
    """What is not as it was sealed; nothing where there is no seal."""
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{NAME}: cannot be read: {error.strerror}"
        return
    try:
        said = json.loads(text)
        sealed, whole = said["files"], text == _text(said["head"], said["files"]).encode()
    except (ValueError, KeyError, TypeError):
        sealed, whole = {}, False
    if not whole:
        yield f"{NAME}: is not what was written"
        return
    if said["head"] != head:
        yield f"{NAME}: the last record is not the one that was sealed"
    for name in SEALED:
        said_of = sealed.get(name)
        size = said_of["bytes"] if said_of and name == GROWS else None
        if said_of != (_facts(folder / name, size) if (folder / name).is_file() else None):
            yield f"{name}: is not what was sealed when the last session ended"


def _facts(path: Path, size: int | None = None) -> dict[str, int | str]:
    """Of the whole file, or of its first `size` bytes."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else min(size, path.stat().st_size)
    whole = left
    with path.open("rb") as file:
        while left and (data := file.read(min(left, PIECE))):
            digest.update(data)
            left -= len(data)
    return {"bytes": whole - left, "sha256": digest.hexdigest()}


def _text(head: str, sealed: dict[str, dict[str, int | str]]) -> str:
    """Carries its own hash, so that a changed seal is known from a changed file."""
    body = {"files": sealed, "head": head}
    own = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "own_sha256": own}, sort_keys=True, indent=1) + "\n"
