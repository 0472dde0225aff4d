"""What the estimates of a run are after most of its trials, kept in its index, so that a reader learns the rest only.

It may be deleted at any time, and counts only for the code that made it: then everything is learnt from the record.
numpy is imported by whoever learns something or asks for it, as most commands do neither.
"""

import io
import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from orchestrator import policy
from orchestrator.record.index import Index
from orchestrator.types import Conditions, Experiment, Status

if TYPE_CHECKING:
    from orchestrator.estimates import Estimates

EVERY = 20  # trials; learning one takes a quarter of a millisecond, keeping all half of one
ARRAYS = ("mean", "cov", "log_weight", "shape", "rate")  # of Beliefs
CODE = ("estimates.py", "policy.py")  # what learns


@dataclass(slots=True)
class Known:
    """What was learnt of a run so far."""

    estimates: dict[Conditions, "Estimates"] = field(default_factory=dict)
    now: Conditions | None = None  # of the newest experiment that was kept or ran again
    learnt: int = 0  # the seq up to which everything that finished is in it
    unsaved: dict[int, float | None] = field(default_factory=dict)  # see `costs_after`

    def learn(self, seq: int, number: int, experiment: Experiment | None, *, is_away: bool) -> None:
        """Take in the next experiment that finished; None for one that taught nothing, for it was revised.

        One that ran `away`, on another class of hardware than the run's own, says nothing of what is best now.
        """
        self.learnt = seq
        if experiment is not None:
            known = policy.learn(self.estimates.get(experiment.conditions), experiment)
            if known is not None:
                self.estimates[experiment.conditions] = known
            ran_again = experiment.remeasures_id is not None and experiment.is_judged
            if (experiment.status is Status.KEEP or ran_again) and not is_away:
                self.now = experiment.conditions
        here = None if self.now is None else self.estimates.get(self.now)
        self.unsaved[number] = None if here is None else here.level(here.best())[0]


def load(index: Index) -> Known:
    """Return what the index has, if this code made it; nothing otherwise."""
    rows = index.rows("SELECT conditions, is_now, learnt, body FROM estimates WHERE code = ?", code_digest())
    try:
        found = [(_read_conditions(text), is_now, learnt, decode(body)) for text, is_now, learnt, body in rows]
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile):  # of another numpy, or damaged
        return Known()
    return Known(
        estimates={conditions: one for conditions, _, _, one in found},
        now=next((conditions for conditions, is_now, _, _ in found if is_now), None),
        learnt=max((learnt for _, _, learnt, _ in found), default=0),
    )


def save(index: Index, known: Known) -> None:
    """Keep what is known; what cannot be written is learnt again."""
    rows = [
        (json.dumps(conditions), conditions == known.now, known.learnt, code_digest(), encode(one))
        for conditions, one in known.estimates.items()
    ]
    with suppress(sqlite3.Error), index.db:
        index.db.execute("DELETE FROM estimates")
        index.db.executemany("INSERT INTO estimates VALUES (?, ?, ?, ?, ?)", rows)
        index.db.executemany("INSERT OR REPLACE INTO best_after VALUES (?, ?)", known.unsaved.items())
        known.unsaved.clear()


def costs_after(index: Index, known: Known, first: int = 0) -> dict[int, float | None]:
    """Return what the best was estimated to cost after each experiment from `first` on."""
    query = "SELECT experiment_id, cost FROM best_after WHERE experiment_id >= ?"
    rows = index.rows(query, first) if known.learnt else ()
    saved = [(int(number), cost) for number, cost in rows]
    return dict([*saved, *(one for one in known.unsaved.items() if one[0] >= first)])


def encode(known: "Estimates") -> bytes:
    """Return estimates as bytes, exactly."""
    import numpy as np  # noqa: PLC0415

    scalars = (known.sources, known.ages, known.others, known.usual_others, known.seen)
    file = io.BytesIO()
    arrays = {name: getattr(known.beliefs, name) for name in ARRAYS}
    np.savez(file, allow_pickle=False, scalars=np.frombuffer(json.dumps(scalars).encode(), np.uint8), **arrays)
    return file.getvalue()


def decode(data: bytes) -> "Estimates":
    """Return estimates from bytes. Raises ValueError, KeyError or TypeError for what is none."""
    import numpy as np  # noqa: PLC0415

    from orchestrator.estimates import Beliefs, Estimates  # noqa: PLC0415

    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        sources, ages, others, usual_others, seen = json.loads(stored["scalars"].tobytes())
        beliefs = Beliefs(**{name: stored[name] for name in ARRAYS})
    return Estimates(
        sources=tuple(sources), ages=tuple(ages), beliefs=beliefs, others=others, usual_others=usual_others, seen=seen
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a digest of the code that learns."""
    home = Path(__file__).parents[1]
    return sha256(b"".join((home / name).read_bytes() for name in CODE)).hexdigest()


def _read_conditions(text: str) -> Conditions:
    hardware, image, cache, settings = json.loads(text)
    return Conditions(hardware, image, cache, tuple((name, value) for name, value in settings))
