"""What a probe is, what was seen of it, and the verdict. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from attacks.walls.look import Holdings, acquired
from orchestrator.types import ExecutionResult


class Verdict(StrEnum):
    """What became of an attack."""

    BLOCKED = "blocked"  # it succeeds in the weak container, and not in the trainer's
    ALLOWED = "allowed"  # it succeeded in the trainer's
    VOID = "void"  # it proves nothing: it did not run, or fails in the weak container too
    DIFFERS = "differs"  # it succeeded, as is known and explained of this tier (attacks/walls/tiers.py); not counted
    NOT_RUN = "not run"  # this machine has nothing to attack, say no GPU; not counted


class AttemptResult(StrEnum):
    """How an attempt ended, as the driver inside saw it."""

    DID = "did"
    REFUSED = "refused"  # an OSError, or an assertion that there was nothing to be had
    KILLED = "killed"
    HUNG = "hung"
    BROKE = "broke"  # the probe itself is at fault
    ABSENT = "absent"  # the kernel has no such thing at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attempt in one container."""

    how: AttemptResult
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Observation:
    """Everything known of one container's life: what its driver said, and what the host saw by itself."""

    folder: Path  # of the record
    private: Path  # the files that were mounted into it
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    result: ExecutionResult | None = None
    before: Mapping[str, str] = field(default_factory=dict)  # state of every mounted file
    after: Mapping[str, str] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)  # by the canary listeners
    looks: dict[tuple[str, str], Holdings] = field(default_factory=dict)  # at its processes, "before" and "after"
    lines: list[str] = field(default_factory=list)  # as a person would see them
    facts: dict[str, Any] = field(default_factory=dict)  # whatever else a group looks at

    def changed(self, stem: str) -> bool:
        """Return whether a mounted file of that stem was changed, created or deleted."""
        names = {name for name in {*self.before, *self.after} if stem in name}
        return any(self.before.get(name) != self.after.get(name) for name in names)

    def inspected(self, name: str) -> bool:
        """Return whether the host inspected the processes of a probe."""
        return (name, "before") in self.looks

    def acquired(self, name: str) -> list[str]:
        """List what the host saw a probe's processes acquire during the attempt."""
        if not self.inspected(name):
            return []
        return acquired(self.looks[name, "before"], self.looks.get((name, "after"), {}))


Oracle = Callable[[Observation, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """An attack: lines of Python that raise OSError or AssertionError where they are stopped."""

    name: str
    source: str
    control: str = ""  # lines before it in the weak container, which put there what the attack looks for
    oracle: Oracle | None = None  # who says whether it succeeded; None: what it acquired, or else the attempt itself
    sees: Callable[[str], bool] | None = None  # what the host sees of a process for which there is nothing left to gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A probe's verdict and why."""

    group: str
    probe: str
    verdict: Verdict
    why: str
    control: str = ""
    by_host: bool = False  # the host itself sees whether such an attack succeeds


def judge(group: str, probe: Probe, strict: Observation, weak: Observation) -> Finding:
    """Judge one probe; an attack whose control failed is void, unless it succeeded."""

    def finding(verdict: Verdict, why: str) -> Finding:
        if acquired := strict.acquired(probe.name):
            why = f"{why}; the host sees {acquired}"
        seen_of = strict.inspected(probe.name) and (probe.sees is not None or bool(weak.acquired(probe.name)))
        by_host = probe.oracle is not None or seen_of
        return Finding(group=group, probe=probe.name, verdict=verdict, why=why, control=shown(control), by_host=by_host)

    missing = Outcome(how=AttemptResult.BROKE, detail="it never ran")
    control = weak.outcomes.get(probe.name, missing)
    attack = strict.outcomes.get(probe.name, missing)
    if control.how is AttemptResult.ABSENT:
        return finding(Verdict.NOT_RUN, f"this machine has none: {control.detail}")
    if not succeeded(probe, weak, control):
        hidden = succeeded(probe, strict, attack)
        return finding(
            Verdict.ALLOWED if hidden else Verdict.VOID, f"it fails in the weak container too: {shown(control)}"
        )
    if attack.how in (AttemptResult.BROKE, AttemptResult.HUNG, AttemptResult.ABSENT):
        return finding(Verdict.VOID, shown(attack))
    return finding(Verdict.ALLOWED if succeeded(probe, strict, attack) else Verdict.BLOCKED, shown(attack))


def succeeded(probe: Probe, seen: Observation, outcome: Outcome) -> bool:
    """Return whether the attack succeeded: by the host's oracle, else by the worse of acquired and reported."""
    if probe.oracle is not None:
        return probe.oracle(seen, probe.name)
    if probe.sees is not None and seen.inspected(probe.name):
        return any(probe.sees(fact) for facts in seen.looks[probe.name, "before"].values() for fact in facts)
    return outcome.how is AttemptResult.DID or bool(seen.acquired(probe.name))


def shown(outcome: Outcome) -> str:
    """Format an outcome for a table."""
    return f"{outcome.how}: {outcome.detail}" if outcome.detail else str(outcome.how)


def mounted_file_changed(seen: Observation, name: str) -> bool:
    """Return whether the host saw a change to the file that the probe `name` attacked."""
    return seen.changed(stem(name))


def stem(name: str) -> str:
    """Return the stem of the file under /locked that belongs to a probe."""
    return "canary_" + "".join(c if c.isalnum() else "_" for c in name)
