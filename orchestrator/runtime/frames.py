"""Fixed-size binary frames between the scorer and a predictor, as files on a size-capped volume.

One side writes a frame under a hidden name and renames it; the other polls for the name. The reader trusts nothing:
it refuses links and special files, wants exactly the size it computed beforehand, and copies the bytes before use.
Files rather than pipes or shared memory, because they behave alike on runc and gVisor.
"""

import os
import stat
import time
from pathlib import Path

import numpy as np

POLL_S = 0.002
WAITING_POLL_S = 0.05  # before the first frame, while a trainer may need the processor


class FrameError(Exception):
    """The other side broke the protocol: what it did. Our own harness never does."""


class NoAnswer(FrameError):  # what happened, not a fault of ours
    """The other side did not answer in time."""


def write(folder: Path, name: str, data: bytes) -> None:
    """Put `data` in place at once: a reader sees the whole frame or none."""
    hidden = folder / f".{name}"
    with hidden.open("wb") as file:
        file.write(data)
    hidden.rename(folder / name)


def wait(folder: Path, name: str, *, until: float, poll_s: float = POLL_S) -> None:
    """Wait for a frame to appear until the monotonic time `until`; raises NoAnswer when it does not."""
    path = folder / name
    while not os.path.lexists(path):
        if time.monotonic() > until:
            raise NoAnswer(f"frame {name} did not come in time")
        time.sleep(poll_s)


def read(folder: Path, name: str, size: int) -> bytes:
    """Copy a frame of exactly `size` bytes; raises FrameError for anything but a plain file of that size."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FrameError(f"frame {name} cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FrameError(f"frame {name} is not a plain file")
        if status.st_size != size:
            raise FrameError(f"frame {name} has {status.st_size} bytes, expected {size}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(size + 1)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise FrameError(f"frame {name} changed its size while it was read")
    return data


def to_array(data: bytes, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """View the bytes of a frame as an array of `shape`; the caller computed the size from that shape."""
    return np.frombuffer(data, dtype=dtype).reshape(shape)
