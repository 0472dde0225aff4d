"""What a scorer asks and a predictor answers: one fixed-size frame each, sizes computable by the reader beforehand."""

import struct
from dataclasses import dataclass

import numpy as np

BEGIN = "begin"  # scorer -> predictor: the trainer is gone, import what is ours
HASH = "hash"  # scorer -> predictor: nothing that ran untrusted code before lives, hash the checkpoint
HELLO = "hello"  # predictor -> scorer: what it found at /out, before any untrusted code ran in it
_HELLO = struct.Struct("<32sQ?")  # sha256, bytes, whether the place was empty before the training
HELLO_SIZE = _HELLO.size
READY = "ready"  # predictor -> scorer: torch is imported; what comes next is load_model's own time

CLAIMS, PREFIX = 1, 2
_HEADER = struct.Struct("<4sIII")  # magic, kind, rows, width
_MAGIC = b"asb1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A checkpoint as a predictor found it. What was there before the training is no result of it."""

    digest: bytes
    size: int
    fresh: bool

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        return _HELLO.pack(self.digest, self.size, self.fresh)

    @classmethod
    def decode(cls, data: bytes) -> "Hello":
        """Read a frame of HELLO_SIZE bytes."""
        digest, size, fresh = _HELLO.unpack(data)
        return cls(digest=digest, size=size, fresh=fresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """CLAIMS: `tokens` [B, T+1]; PREFIX: `tokens` [B, T] and `positions` [B]. All int32."""

    kind: int
    tokens: np.ndarray
    positions: np.ndarray

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        header = _HEADER.pack(_MAGIC, self.kind, *self.tokens.shape)
        return header + self.tokens.astype("<i4").tobytes() + self.positions.astype("<i4").tobytes()


def decode(data: bytes) -> Ask:
    """Read an Ask; the scorer is trusted, so a bad one is our own bug and raises ValueError."""
    magic, kind, rows, width = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"a frame begins with {magic!r}, expected {_MAGIC!r}")
    body = np.frombuffer(data, dtype="<i4", offset=_HEADER.size)
    return Ask(kind=kind, tokens=body[: rows * width].reshape(rows, width), positions=body[rows * width :])


def ask_name(number: int) -> str:
    """Return the name of the number-th question."""
    return f"{number:08d}.ask"


def answer_name(number: int) -> str:
    """Return the name of the answer to the number-th question."""
    return f"{number:08d}.answer"
