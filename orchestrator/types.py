"""The words of the project, as immutable values and Protocols. Imports nothing of ours.

Data flows one way through the loop and every arrow is one of these values:
Context -> Reply -> Proposal -> Candidate -> Trial -> Verdict -> Experiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

Conditions = tuple[str, str, str]  # scores compare only where these are the same: hardware, image, compile cache


FOR_A_PERSON = "for a person to look at: "  # how the rule begins of what may have been a cheat
INTERRUPTED = "interrupted: "  # and of what Ctrl-C ended


class Status(StrEnum):
    """How an experiment ended. A missing number is None, never 0.0."""

    KEEP = "keep"  # strictly better than the best so far: the new best
    DISCARD = "discard"  # scored, not better
    CRASH = "crash"  # the program failed
    TIMEOUT = "timeout"  # still running at its deadline
    OOM = "oom"  # killed for memory, or, in its own words, out of GPU memory
    INVALID = "invalid"  # the patch was refused before anything ran
    CHEAT = "cheat"  # the scorer refused it: a human should look
    CONTENDED = "contended"  # someone else used the device: not judged, queued again
    INFRA = "infra"  # we or the engine failed: never blamed on the patch, queued again


class Role(StrEnum):
    """What a container of an experiment is for; decides what it may see."""

    TRAINER = "trainer"
    PREDICTOR_A = "predictor-a"
    PREDICTOR_B = "predictor-b"
    SCORER = "scorer"
    PREPARE = "prepare"
    COURIER = "courier"  # carries the checkpoint of a would-be best to the host


class Level(StrEnum):
    """How far a score can be trusted (docs/scoring.md)."""

    L0 = "L0"  # self-reported by the code under test
    L1 = "L1"  # scored apart from full logits of a fresh predictor
    L2 = "L2"  # claims + prefix audit
    L3 = "L3"  # L2, retrained with host-chosen seeds, on a second private holdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a reply cost, in the API's own words; all zero for proposers without an LLM."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def prompt_tokens(self) -> int:
        """What was sent, from the API's cache or not."""
        return self.input_tokens + self.cache_creation_input_tokens + self.cache_read_input_tokens

    @property
    def total_tokens(self) -> int:
        """All tokens, whatever they were used for."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Replace the one place in the parent where `search` stands, by `replace`."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a proposer answered, word for word, stored before anyone parses it."""

    proposer: str
    model: str
    prompt: str
    text: str
    usage: Usage = field(default_factory=Usage)
    parent_id: int | None = None  # the best when it was asked: its edits are against that file
    calls: tuple[int, ...] = ()  # journal records that charged its usage already, failed calls included
    refusals: tuple[str, ...] = ()  # models that refused before this one answered, each with the category
    cost_known: bool = True  # False: nobody told what it cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One idea: why, what is expected of it, and the patch as edits or as a whole file.

    No edits and no source is the empty patch: the baseline.
    """

    hypothesis: str
    expected_effect: str = ""
    edits: tuple[Edit, ...] = ()
    source: str | None = None
    parent_id: int | None = None  # None: the best so far
    retry_rationale: str = ""  # why something close to an earlier experiment is worth another one


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A full train.py ready to run, pinned, with what it was made from."""

    proposal: Proposal
    source: str
    parent_id: int | None  # None: the file the session began with
    parent_source: str
    reply: Reply
    attempt: int = 1
    retry_of: int | None = None
    remeasures_id: int | None = None  # the kept experiment that this one runs again, to see whether it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the host decides about a run before it starts, unknown to the code under test."""

    train_seed: int
    audit_seed: bytes  # 32 bytes; its hash is committed before, the seed revealed after


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """How one container lived and died. Times are seconds; sizes are bytes."""

    role: Role
    container_id: str
    exit_code: int | None  # None: it never ended by itself and was killed
    oom_killed: bool
    timed_out: bool  # the host killed it at its deadline
    killed_by: str | None  # who ended it and why, None if it ended by itself
    duration_s: float  # host's monotonic clock, from start to end
    deadline_s: float
    log_tail: str  # sanitised end of its output
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    dropped_bytes: int = 0
    log_sha256: str = ""
    started_s: float = 0.0  # by the host's monotonic clock, as is the deadline: started_s + deadline_s
    ended_s: float = 0.0
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    peak_pids: int | None = None
    read_bytes: int | None = None  # from block devices
    written_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The scorer's number. `val_bpb` is in bits per byte of raw validation text."""

    value: float
    level: Level
    standard_error: float | None = None  # of the audit; None where there is none: L0, L1
    audited_positions: int = 0  # K
    undetectable_bpb: float | None = (
        None  # the largest lie about few tokens that the audit would have overlooked, at 5 %
    )
    tokens: int = 0
    claims_sha256: str = ""
    audit_seed: str = ""
    mean_difference_nats: float | None = None  # of audited - claimed
    max_difference_nats: float | None = None  # of |audited - claimed|


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Everything that running a candidate once brought to light, before it is judged."""

    executions: tuple[ExecutionResult, ...]
    score: Score | None
    failure: Status | None  # None: it was scored
    message: str  # what to fix, for the LLM and the human; "" when scored
    checkpoint_sha256: str = ""
    checkpoint_bytes: int = 0
    gpu_used: bool | None = None  # by the training; None: there is none, or nobody looked
    contended_by: str = ""
    repeat_scores: tuple[float, ...] = ()  # val_bpb of each run, where it ran more than once with different seeds

    @classmethod
    def infra(cls, why: object) -> Self:
        """One that the sandbox spoiled, not the candidate."""
        return cls(executions=(), score=None, failure=Status.INFRA, message=str(why))

    @property
    def runs(self) -> tuple[float, ...]:
        """The val_bpb of every run; none if it was not scored."""
        return self.repeat_scores or ((self.score.value,) if self.score else ())

    @property
    def trainer(self) -> ExecutionResult | None:
        """How its (first) trainer lived and died; None if none ran."""
        return next((execution for execution in self.executions if execution.role is Role.TRAINER), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the loop makes of a trial, and the rule that says so."""

    status: Status
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One finished turn of the loop, as the journal tells it."""

    id: int  # 0 is the baseline
    parent_id: int | None
    status: Status
    reason: str
    hypothesis: str
    expected_effect: str
    proposer: str
    model: str
    score: Score | None
    message: str
    source_sha256: str
    started_at: str  # ISO 8601, UTC
    duration_s: float  # slot time: from the first container to the verdict
    train_s: float
    usage: Usage
    attempt: int
    folder: Path  # runs/<tag>/NNNN, the record of this experiment
    retry_of: int | None = None  # the infra or contended experiment that this one runs again
    commit: str = ""  # of a kept patch on autoresearch/<tag>
    fingerprint: str = ""  # of the normalised syntax tree, to recognise repeats
    image_id: str = ""
    hardware: str = ""  # scores compare only within one hardware class
    warm_sha256: str = ""  # of the compile cache that its training began with; "" for none
    peak_memory_bytes: int | None = None
    repeat_scores: tuple[float, ...] = ()  # val_bpb of each run, where it ran more than once with different seeds
    remeasures_id: int | None = None  # the kept experiment that this one ran again, to see whether it holds

    @property
    def runs(self) -> tuple[float, ...]:
        """The val_bpb of every run; none if it was not scored."""
        return self.repeat_scores or ((self.score.value,) if self.score else ())

    @property
    def value(self) -> float | None:
        """The mean over its runs, of which there mostly is one; None where there is no score."""
        return sum(self.runs) / len(self.runs) if self.runs else None

    @property
    def proposed_by(self) -> str:
        """The proposer and its model, which mostly has its name: claude-opus-4-5."""
        return self.model if self.model.startswith(self.proposer) else f"{self.proposer} {self.model}".strip()

    @property
    def outcome(self) -> str:
        """Its status, as a person reads it: what they ended themselves was no failure."""
        interrupted = self.status is Status.INFRA and self.reason.startswith(INTERRUPTED)
        return "interrupted" if interrupted else self.status.value

    @property
    def is_judged(self) -> bool:
        """Whether it came to a verdict: what is queued again did not, though it may have a score."""
        return self.status not in (Status.CONTENDED, Status.INFRA)

    @property
    def judged_value(self) -> float | None:
        """Its val_bpb where that says something."""
        return self.value if self.is_judged else None

    @property
    def trust_suffix(self) -> str:
        """What every view puts behind a number that only the script itself says."""
        return " (L0, self-reported)" if self.level == Level.L0 else ""

    @property
    def level(self) -> str:
        """How far its score can be trusted; "" where there is none."""
        return self.score.level.value if self.score else ""

    @property
    def needs_review(self) -> bool:
        """Whether a human should look at it."""
        return self.status is Status.CHEAT or self.reason.startswith(FOR_A_PERSON)

    @property
    def conditions(self) -> Conditions:
        """What its score depends on besides the source."""
        return self.hardware, self.image_id, self.warm_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has used so far, over all its sessions."""

    experiments: int = 0  # judged or refused ideas: no baseline, no best measured again, nothing that is queued again
    inconclusive: int = 0  # what is queued again, or was until its tries were used up
    device_seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    consecutive_infra: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The few experiments of a run that say most, however long it is."""

    kept: tuple[Experiment, ...] = ()  # oldest first
    near_misses: tuple[Experiment, ...] = ()  # discarded ones, lowest val_bpb first
    failures: tuple[Experiment, ...] = ()  # newest first
    recent: tuple[Experiment, ...] = ()  # oldest first
    since_improvement: int = 0  # judged ones since the best was found
    owed: tuple[Experiment, ...] = ()  # not judged yet, and to be run again
    remeasured: tuple[Experiment, ...] = ()  # the newest that only ran a kept one again, oldest first
    parents: Mapping[int, Experiment] = field(default_factory=dict)  # of those above, by id


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a proposer may know when it is asked for the next idea."""

    experiment_id: int
    best: Experiment
    best_source: str
    history: Sequence[Experiment]  # oldest first, finished ones of every status
    spent: Spent
    memory: Memory = field(default_factory=Memory)
    in_flight: tuple[str, ...] = ()  # hypotheses that run right now
    spread: float | None = None  # standard deviation of single runs of one source here; None: not known yet
    minutes_left: float | None = None  # of this session; None: it has no limit in hours
    hardware: str = ""  # where it will run
    rejected: tuple[tuple[Reply, str], ...] = ()  # replies of this turn and why each was refused


def conditions_of(facts: Mapping[str, str]) -> Conditions:
    """What is on record of where an experiment ran, as far as scores depend on it."""
    return facts.get("hardware", ""), facts.get("image_id", ""), facts.get("warm_sha256", "")
