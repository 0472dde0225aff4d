"""What the folder of an experiment holds, read for a terminal."""

import json
import os
from pathlib import Path
from typing import Any

from orchestrator.errors import JournalError
from orchestrator.types import Experiment

MOST = 4 << 20  # bytes of a file that are shown from its start, and from its end


def read(path: Path) -> str:
    """A file of the record, of an overlong one its head and tail; one that was never made is "".

    Raises JournalError naming it when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MOST)
            rest = os.fstat(file.fileno()).st_size - len(head)
            if rest > MOST:
                head += f"\n[{rest - MOST} bytes not shown]\n".encode()
                file.seek(-MOST, os.SEEK_END)
            return (head + file.read(MOST)).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}; see `autoresearch verify`") from error


def part(experiment: Experiment, name: str) -> Path:
    """The folder of an experiment, or of one of its further runs. Raises JournalError if there is none."""
    known = sorted(path.name for path in experiment.folder.glob("*/"))
    if name and name not in known:
        raise JournalError(
            f"{experiment.folder}: there is no {name!r}; further runs of this experiment: {', '.join(known) or 'none'}"
        )
    return experiment.folder / name


def data(path: Path) -> dict[str, Any]:
    """A JSON object; one that was never made is empty. Raises JournalError."""
    try:
        found = json.loads(read(path) or "{}")
    except ValueError as error:
        raise JournalError(f"{path}: not valid JSON: {error}; see `autoresearch verify`") from error
    return found if isinstance(found, dict) else {}
