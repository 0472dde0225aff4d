"""Read the folder of an experiment, for pages and terminals: bounded, and no link is ever followed."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import JournalError
from orchestrator.text import sanitise
from orchestrator.types import Experiment

JSON_BYTES = 1 << 20
MAX_FOLDERS = 32  # further trials of one experiment; there are a handful
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteLimit:
    """How many bytes of a text are shown: of its start and of its end."""

    head: int
    tail: int

    @property
    def both(self) -> int:
        """Return how many bytes are shown in all."""
        return self.head + self.tail


WHOLE = ByteLimit(head=4 << 20, tail=4 << 20)  # for a terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A text as it may be shown; `cut` bytes between head and tail were left out."""

    head: str = ""
    tail: str = ""
    cut: int = 0
    problem: str = ""  # why it could not be read

    def __str__(self) -> str:
        return f"{self.head}\n[{self.cut} bytes not shown]\n{self.tail}" if self.cut else self.head


@dataclass(frozen=True, slots=True)
class ExperimentFolder:
    """An open folder of the record; everything in it is opened relative to it."""

    handle: int

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open a folder. Raises OSError if it does not exist or is a link."""
        handle = os.open(path, _FOLDER_FLAGS)
        try:
            yield cls(handle)
        finally:
            os.close(handle)

    @contextmanager
    def subfolder(self, name: str) -> Iterator["ExperimentFolder"]:
        """Open a folder in this one. Raises OSError."""
        handle = os.open(name, _FOLDER_FLAGS, dir_fd=self.handle)
        try:
            yield ExperimentFolder(handle)
        finally:
            os.close(handle)

    def trials(self) -> list[str]:
        """Return the folders of further trials: every folder in this one that is neither a link nor hidden."""
        names = []
        for name in sorted(os.listdir(self.handle)):  # noqa: PTH208  # of an open folder
            mode = os.stat(name, dir_fd=self.handle, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and not name.startswith("."):
                names.append(name)
        return names[:MAX_FOLDERS]

    def text(self, name: str, limit: ByteLimit) -> Excerpt:
        """Return head and tail of a plain file, made harmless; one that does not exist is empty."""
        raw = self.read(name, limit)
        return replace(raw, head=sanitise(raw.head), tail=sanitise(raw.tail))

    def read(self, name: str, limit: ByteLimit) -> Excerpt:
        """Return head and tail of a plain file as they are."""
        try:
            with self._file(name) as handle:
                size = os.fstat(handle).st_size
                if size <= limit.both:
                    return Excerpt(head=_decode(os.pread(handle, limit.both, 0)))
                head, tail = os.pread(handle, limit.head, 0), os.pread(handle, limit.tail, size - limit.tail)
        except FileNotFoundError:
            return Excerpt()
        except OSError as error:
            return Excerpt(problem=f"cannot be read: {error.strerror}")
        return Excerpt(head=_decode(head), tail=_decode(tail), cut=size - limit.both)

    def data(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object; None if it does not exist or is not one."""
        try:
            with self._file(name) as handle:
                value = json.loads(os.pread(handle, JSON_BYTES, 0))
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        """Open a plain file. Raises OSError for a link, a pipe or a device."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=self.handle)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(0, "not a plain file")
            yield handle
        finally:
            os.close(handle)


def read_text(experiment: Experiment, name: str, trial: str = "") -> str:
    """Return a file of an experiment, or of one of its further trials, as it is; "" if it does not exist.

    Raises JournalError naming the file if it cannot be read.
    """
    path = experiment.folder / trial
    try:
        with ExperimentFolder.open(path) as folder:
            excerpt = folder.read(name, WHOLE)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise unreadable(path, error.strerror) from error
    if excerpt.problem:
        raise JournalError(f"{path / name}: {excerpt.problem}; see `autoresearch verify`")
    return str(excerpt)


def trial_folder(experiment: Experiment, trial: str) -> Path:
    """Return the folder of an experiment, or of one of its further trials. Raises JournalError for an unknown one."""
    try:
        with ExperimentFolder.open(experiment.folder) as folder:
            trials = folder.trials()
    except OSError as error:
        raise unreadable(experiment.folder, error.strerror) from error
    if trial and trial not in trials:
        raise JournalError(f"{experiment.folder}: no trial {trial!r}; further trials: {', '.join(trials) or 'none'}")
    return experiment.folder / trial


def unreadable(path: Path, reason: str | None) -> JournalError:
    """Return the error for a folder of the record that cannot be read."""
    return JournalError(f"{path}: cannot be read: {reason}; see `autoresearch verify`")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
