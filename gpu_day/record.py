"""The step files: one JSON file per step, replaced as a whole after every trial, so a cut loses one trial at most."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import AutoresearchError

Status = Literal["done", "partial", "failed", "skipped"]


class DayEndedError(AutoresearchError):
    """The day cannot go on; the message says why and what to do. What was measured is in the step files."""


class TrialFailedError(AutoresearchError):
    """A trial has no result; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the host saw of a training; None where NVML or the kernel does not tell."""

    sm_clock_mhz: float | None = None  # mean
    power_w: float | None = None  # mean
    temperature_c: float | None = None  # highest
    throttled: tuple[str, ...] = ()  # reasons for a lower clock, each once
    host_peak_mb: float | None = None  # memory of the trainer's processes together
    contended_by: str = ""  # who else used the GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measurement: a training and its score, or what else a step looks at."""

    name: str
    budget_s: float = 0.0  # of training
    began_at: str = ""
    took_s: float = 0.0
    level: str = ""  # of trust in the score: L2, or L0 where a script reports its own
    failure: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)  # by the names that train.py and the scorer print
    facts: Mapping[str, str] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def counts(self) -> bool:
        """Whether it measured what it was meant to."""
        return not self.failure and not self.conditions.contended_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the day, as its file holds it."""

    letter: str
    title: str
    profile: str
    hardware: str = ""
    status: Status = "skipped"
    reason: str = ""  # why it is not done
    trials: tuple[Trial, ...] = ()

    def trial(self, name: str) -> Trial | None:
        """The trial of this name that counts, if there is one."""
        return next((trial for trial in self.trials if trial.name == name and trial.counts), None)

    def counted(self) -> tuple[Trial, ...]:
        """The trials that count."""
        return tuple(trial for trial in self.trials if trial.counts)

    def add(self, trial: Trial) -> "Step":
        """This step with one more trial."""
        return replace(self, trials=(*self.trials, trial))


def now() -> str:
    """The time, for a record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(folder: Path, step: Step) -> None:
    """Replace a step's file. Raises DayEndedError where it cannot be written; the one before stays."""
    path = _path(folder, step.letter, step.title)
    draft = path.with_suffix(".new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(step), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DayEndedError(
            f"{path}: {error.strerror}: make room there, or name another folder with DAY=; what was measured stays"
        ) from error


def read(folder: Path) -> dict[str, Step]:
    """The steps in a folder by their letters. Raises DayEndedError for a file that is no step's."""
    return {step.letter: step for step in map(_read, sorted(folder.glob("[a-g]-*.json")))}


def _read(path: Path) -> Step:
    try:
        values = json.loads(path.read_bytes())
        trials = tuple(_trial(**trial) for trial in values.pop("trials"))
        return Step(**values, trials=trials)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DayEndedError(f"{path} is no step's file ({error}): move it away") from error


def _trial(*, conditions: dict[str, Any], **values: Any) -> Trial:  # noqa: ANN401 - JSON
    throttled = tuple(conditions.pop("throttled"))
    return Trial(**values, conditions=Conditions(**conditions, throttled=throttled))


def _path(folder: Path, letter: str, title: str) -> Path:
    return folder / f"{letter}-{title.replace(' ', '-')}.json"
