"""What a scorer tells the host, and what the host tells a scorer (docs/tasks.md). Standard library only.

A scorer prints messages: JSON objects, one per line, which only this module writes. The host writes files to the
scorer's control folder: one when the trainer is gone, one when predictor A is gone, one when an asked program is gone.
"""

import json
import struct
from pathlib import Path

import frames

TRAINED = "trained"  # the trainer is gone; contains the seconds that load_model may take
LOAD_SECONDS = struct.Struct("<d")
SEED, SEED_BYTES = "seed", 32  # predictor A is gone; contains the audit seed
ENDED = "ended"  # the candidate is gone, which answered questions
FOREVER = float("inf")  # the guard and the host end this container in time


def send(event: str, **fields: str | float | None) -> None:
    """Print one message; numbers keep their full precision. Raises ValueError for NaN and infinity.

    The line is ASCII with control characters and quotes escaped, so no text in a field can begin another message.
    """
    print(json.dumps({"event": event, **fields}, allow_nan=False), flush=True)


def wait_for_training(control: Path) -> float:
    """Wait until the trainer is gone; return the seconds that load_model may take."""
    frames.wait(control, TRAINED, until=FOREVER, poll_s=frames.WAITING_POLL_S)
    return float(LOAD_SECONDS.unpack(frames.read(control, TRAINED, LOAD_SECONDS.size))[0])


def wait_for_seed(control: Path, until: float) -> bytes:
    """Return the audit seed, which the host writes only after predictor A is gone; raises NoAnswer at `until`."""
    frames.wait(control, SEED, until=until, poll_s=0.005)
    return frames.read(control, SEED, SEED_BYTES)


def wait_for_end(control: Path, until: float) -> None:
    """Wait until the candidate is gone, which the host ends when it reads `claims`; raises NoAnswer at `until`."""
    frames.wait(control, ENDED, until=until, poll_s=0.005)
