"""What the estimates of a run are after most of its trials, kept in its index, so that a reader learns the rest only.

It may be deleted at any time, and counts only for the code that made it: then everything is learnt from the record.
"""

import io
import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from orchestrator import estimates, policy
from orchestrator.estimates import Beliefs, Estimates
from orchestrator.record.index import Index
from orchestrator.types import Conditions

EVERY = 20  # trials; learning one takes a quarter of a millisecond, keeping all half of one
ARRAYS = tuple(field.name for field in fields(Beliefs))


def load(index: Index) -> tuple[dict[Conditions, Estimates], int]:
    """Return what is kept, and the seq up to which it has learnt; nothing and 0 if there is nothing of this code."""
    rows = index.rows("SELECT conditions, learnt, body FROM estimates WHERE code = ?", code_digest())
    try:
        known = {_read_conditions(conditions): decode(body) for conditions, _, body in rows}
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile):  # of another numpy, or damaged
        return {}, 0
    return known, max((int(learnt) for _, learnt, _ in rows), default=0)


def save(index: Index, known: Mapping[Conditions, Estimates], learnt: int) -> None:
    """Keep what is known after an event; what cannot be written is learnt again."""
    rows = [(json.dumps(conditions), learnt, code_digest(), encode(one)) for conditions, one in known.items()]
    with suppress(sqlite3.Error), index.db:
        index.db.execute("DELETE FROM estimates")
        index.db.executemany("INSERT INTO estimates VALUES (?, ?, ?, ?)", rows)


def encode(known: Estimates) -> bytes:
    """Return estimates as bytes, exactly."""
    scalars = (known.sources, known.ages, known.others, known.usual_others, known.seen)
    file = io.BytesIO()
    arrays = {name: getattr(known.beliefs, name) for name in ARRAYS}
    np.savez(file, allow_pickle=False, scalars=np.frombuffer(json.dumps(scalars).encode(), np.uint8), **arrays)
    return file.getvalue()


def decode(data: bytes) -> Estimates:
    """Return estimates from bytes. Raises ValueError, KeyError or TypeError for what is none."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        sources, ages, others, usual_others, seen = json.loads(stored["scalars"].tobytes())
        beliefs = Beliefs(**{name: stored[name] for name in ARRAYS})
    return Estimates(
        sources=tuple(sources), ages=tuple(ages), beliefs=beliefs, others=others, usual_others=usual_others, seen=seen
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a digest of the code that learns."""
    return sha256(b"".join(Path(module.__file__ or "").read_bytes() for module in (estimates, policy))).hexdigest()


def _read_conditions(text: str) -> Conditions:
    hardware, image, cache, settings = json.loads(text)
    return Conditions(hardware, image, cache, tuple((name, value) for name, value in settings))
