"""A container's output, bounded: head and tail are kept, everything is counted and hashed."""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from orchestrator.text import sanitise

HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 20
LINE_BYTES = 4096  # longer lines are cut into several
STAMP_BYTES = 17  # before and after every line of the file
SHOW_EVERY_S = 0.1  # in a flood
SHOWN_BYTES = 16 << 10  # of the end, in results


class BoundedLog:
    """Fed with raw chunks of stdout and stderr; writes `[  12.345 out] text` lines to a file.

    While the head fills, every line goes to `on_line`; later chunks are kept raw in a ring, and only their last line is
    shown, so that a flood costs neither memory nor much time.
    """

    def __init__(self, path: Path, on_line: Callable[[str], None] | None) -> None:
        """Create a log at `path` (0600); raises OSError."""
        self.counts = {"out": 0, "err": 0}
        self.dropped = 0
        self._hash = hashlib.sha256()
        self._on_line = on_line or (lambda _line: None)
        self._started = time.monotonic()
        self._show_next = 0.0
        self._file = path.open("w", encoding="utf-8")
        path.chmod(0o600)
        self._partial = {"out": b"", "err": b""}
        self._written = 0
        self._ring: deque[tuple[float, str, bytes]] = deque()
        self._ring_bytes = 0
        self._end: deque[str] = deque()
        self._end_chars = 0

    def feed(self, stream: str, data: bytes) -> None:
        """Append a chunk of `out` or `err`."""
        self.count(stream, data)
        if self._written < HEAD_BYTES:
            self._lines(time.monotonic() - self._started, stream, data)
            return
        self._ring.append((time.monotonic() - self._started, stream, data))
        self._ring_bytes += _size(data)
        while self._ring_bytes - _size(self._ring[0][2]) >= TAIL_BYTES:
            _, _, oldest = self._ring.popleft()
            self._ring_bytes -= _size(oldest)
            self.dropped += len(oldest)
        if time.monotonic() >= self._show_next:
            self._show_next = time.monotonic() + SHOW_EVERY_S
            self._on_line(sanitise(data[-LINE_BYTES:].decode("utf-8", "replace").rstrip().rpartition("\n")[2]))

    def count(self, stream: str, data: bytes) -> None:
        """Count and hash a chunk that goes elsewhere."""
        self.counts[stream] += len(data)
        self._hash.update(stream.encode() + len(data).to_bytes(4, "big") + data)

    def close(self) -> None:
        """Write the tail and what had no line end."""
        if self.dropped:
            self._write(f"[{'':9} ---] {self.dropped} bytes dropped\n")
        for seconds, stream, data in self._ring:
            self._lines(seconds, stream, data)
        for stream, rest in self._partial.items():
            if rest:
                self._line(time.monotonic() - self._started, stream, rest)
        self._file.close()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole output, dropped bytes included."""
        return self._hash.hexdigest()

    @property
    def tail(self) -> str:
        """The sanitised end of the output."""
        return "\n".join(self._end)

    def _lines(self, seconds: float, stream: str, data: bytes) -> None:
        *whole, rest = (self._partial[stream] + data).split(b"\n")
        for line in whole:
            self._line(seconds, stream, line)
        while len(rest) > LINE_BYTES:
            self._line(seconds, stream, rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        self._partial[stream] = rest

    def _line(self, seconds: float, stream: str, line: bytes) -> None:
        for start in range(0, max(len(line), 1), LINE_BYTES):
            text = sanitise(line[start : start + LINE_BYTES].decode("utf-8", "replace").replace("\n", " "))
            self._write(f"[{seconds:9.3f} {stream}] {text}\n")
            self._end.append(text)
            self._end_chars += len(text) + 1
            while self._end_chars > SHOWN_BYTES and len(self._end) > 1:
                self._end_chars -= len(self._end.popleft()) + 1
            self._on_line(text)

    def _write(self, text: str) -> None:
        self._written += len(text)
        self._file.write(text)
        self._file.flush()


def _size(data: bytes) -> int:
    """Return the bytes a chunk takes in the file, so that many small ones or empty lines are bounded too."""
    return len(data) + STAMP_BYTES * (1 + data.count(b"\n"))
