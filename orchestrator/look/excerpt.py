"""The files of an experiment, read for a page that others may see: bounded, sanitised, no link ever followed."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from orchestrator.text import sanitise

JSON_BYTES = 1 << 20
FOLDERS = 32  # further runs of one experiment; there are a handful


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How many bytes of a text are shown, of its start and of its end."""

    head: int
    tail: int

    @property
    def both(self) -> int:
        """All that may be shown."""
        return self.head + self.tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A text as it may be shown; `cut` bytes between head and tail were left out."""

    head: str = ""
    tail: str = ""
    cut: int = 0
    problem: str = ""  # why it could not be read


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder of the record; everything in it is opened relative to it."""

    handle: int

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Raises OSError where there is none, or where it is a link."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield cls(handle)
        finally:
            os.close(handle)

    @contextmanager
    def inside(self, name: str) -> Iterator["Folder"]:
        """A folder of this one; raises OSError."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=self.handle)
        try:
            yield Folder(handle)
        finally:
            os.close(handle)

    def names(self) -> list[str]:
        """Everything that is in it."""
        return sorted(os.listdir(self.handle))  # noqa: PTH208  # of an open folder

    def folders(self) -> list[str]:
        """The folders in it that are no links and not hidden."""
        found = []
        for name in self.names():
            mode = os.stat(name, dir_fd=self.handle, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and not name.startswith("."):
                found.append(name)
        return found[:FOLDERS]

    def text(self, name: str, bound: Bound) -> Excerpt:
        """Head and tail of a plain file; one that was never made is empty."""
        try:
            with self._file(name) as handle:
                size = os.fstat(handle).st_size
                if size <= bound.both:
                    return Excerpt(head=_decoded(os.pread(handle, bound.both, 0)))
                head, tail = os.pread(handle, bound.head, 0), os.pread(handle, bound.tail, size - bound.tail)
        except FileNotFoundError:
            return Excerpt()
        except OSError as error:
            return Excerpt(problem=f"cannot be read: {error.strerror}")
        return Excerpt(head=_decoded(head), tail=_decoded(tail), cut=size - bound.both)

    def data(self, name: str) -> dict[str, Any] | None:
        """A JSON object; None where it is not there or is none."""
        try:
            with self._file(name) as handle:
                found = json.loads(os.pread(handle, JSON_BYTES, 0))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        """A plain file; raises OSError for a link, a pipe or a device."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=self.handle)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(0, "it is no plain file")
            yield handle
        finally:
            os.close(handle)


def _decoded(data: bytes) -> str:
    return sanitise(data.decode("utf-8", "replace"))
