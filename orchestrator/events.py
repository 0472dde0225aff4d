"""Everything that happens in a run, as one frozen value per kind. Pure.

The record (record/journal.py) appends these values; the log, the live view, notifications, reports and verify read
them. An event is written as one JSON object, its body, beside its kind and its experiment; `body_of` and `parse_event`
are inverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, get_args

from pydantic import TypeAdapter

from orchestrator.types import (
    DuelOutcome,
    Environment,
    ExecutionResult,
    Experiment,
    Lesson,
    Proposal,
    Reply,
    Role,
    Score,
    SeedCommitment,
    Status,
    Usage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountOffset:
    """What a run had used when the current count of its limits began."""

    experiments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDigest:
    """The size and hash of session.log when a session ended; its end is the last line logged."""

    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """A session opened the run."""

    kind: ClassVar = "session.started"

    task: str
    metric: str
    proposer: str
    environment: Environment
    unit: str = ""  # of the metric
    direction: str = "lower"  # which scores are better
    rule: str = ""  # of keeping; "": by the spread of three baseline runs, as until November 2026
    threshold: float | None = None  # every score that reaches it is kept; None: only what is better


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """A session ended at a limit or an interrupt."""

    kind: ClassVar = "session.ended"

    reason: str
    limit_reached: bool
    offset: CountOffset = field(default_factory=CountOffset)  # where the next session starts counting
    log: LogDigest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailed:
    """An error ended a session, or kept it from starting."""

    kind: ClassVar = "session.failed"

    reason: str
    log: LogDigest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopWaiting:
    """The loop waits for a device, quiet hours or the LLM."""

    kind: ClassVar = "loop.waiting"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRecorded:
    """The user should know of something that the session does not do, or does otherwise than they may expect."""

    kind: ClassVar = "session.note"

    text: str  # one sentence: what, and how to have it otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionsChanged:
    """Other programs use more, or less, of the leased processors than before, and not only for one trial."""

    kind: ClassVar = "conditions.changed"

    others_share: float  # of the leased processors' time, the median of the last trials
    wait_share: float | None  # of its time a training waits for a processor, likewise

    @property
    def describe(self) -> str:
        """Return it as one line for every view."""
        waits = "" if self.wait_share is None else f"; a training waits {self.wait_share:.0%} of its time"
        return f"other programs use {self.others_share:.0%} of the leased processors, which is usual here{waits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReserved:
    """A call to the LLM may cost this much; recorded before it is made."""

    kind: ClassVar = "call.reserved"

    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled:
    """What a reserved call cost."""

    kind: ClassVar = "call.settled"

    call: int  # seq of its CallReserved
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyReceived:
    """A proposer answered; stored word for word before it is parsed."""

    kind: ClassVar = "reply.received"

    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRejected:
    """A reply led to no experiment."""

    kind: ClassVar = "reply.rejected"

    reply: int  # seq of its ReplyReceived
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonsDistilled:
    """The LLM was asked what the runs of the task taught; without lessons, `reason` says why there are none."""

    kind: ClassVar = "lessons.distilled"

    reply: Reply  # word for word, with its prompt; empty where nothing answered
    newest: int  # experiment of this run that was shown
    lessons: tuple[Lesson, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentBegun:
    """An experiment is about to run; recorded before anything untrusted does."""

    kind: ClassVar = "experiment.begun"

    experiment_id: int
    attempt: int
    retry_of: int | None
    remeasures_id: int | None
    parent_id: int | None
    reply: Reply  # without its prompt and text, which are files
    proposal: Proposal
    source_sha256: str
    seeds: SeedCommitment  # SeedsRevealed follows
    files: Mapping[str, str]  # sha256 by name, in the experiment's folder
    environment: Environment
    patch_notes: tuple[str, ...] = ()  # where a search text differed from its parent in white space
    removes_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStarted:
    """A container of an experiment runs."""

    kind: ClassVar = "container.started"

    experiment_id: int
    role: Role
    container_id: str
    deadline_s: float  # from now


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringBegun:
    """The trainer is done; the scorer, which waited for it, begins."""

    kind: ClassVar = "scoring.begun"

    experiment_id: int
    deadline_s: float  # from now


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRepeated:
    """An experiment runs once more with another seed, because luck may explain its score."""

    kind: ClassVar = "trial.repeated"

    experiment_id: int
    trial: int  # its number, from 2
    at_most: int
    mean_so_far: float
    seeds: SeedCommitment


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDoubted:
    """A score is hard to believe: the experiment runs once more and is audited in full."""

    kind: ClassVar = "experiment.doubted"

    experiment_id: int
    reason: str
    seeds: SeedCommitment


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsRevealed:
    """The seeds of a trial that is over; whoever has the commitment can check the audit's positions."""

    kind: ClassVar = "seeds.revealed"

    experiment_id: int
    train_seed: int
    audit_seed: str  # hexadecimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A verdict that what came to light later has changed."""

    experiment_id: int
    status: Status
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFinished:
    """An experiment has its verdict."""

    kind: ClassVar = "experiment.finished"

    experiment: Experiment
    executions: tuple[ExecutionResult, ...] = ()
    checkpoint_sha256: str = ""
    checkpoint_bytes: int = 0
    gpu_used: bool | None = None
    self_reported: Mapping[str, float] = field(default_factory=dict)  # what train.py says of itself
    files: Mapping[str, str] = field(default_factory=dict)
    revisions: tuple[Revision, ...] = ()

    @property
    def experiment_id(self) -> int:
        """Return the number of the experiment."""
        return self.experiment.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentCommitted:
    """A kept patch is a git commit; "" outside a repository."""

    kind: ClassVar = "experiment.committed"

    experiment_id: int
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionReplaced:
    """The champion did not hold when it was measured again; an earlier experiment is the champion once more."""

    kind: ClassVar = "champion.replaced"

    experiment_id: int  # the one that did not hold
    champion_id: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelBegun:
    """Two kept experiments are about to be trained in pairs, to claim a gain; each trial is an experiment."""

    kind: ClassVar = "duel.begun"

    champion_id: int
    rival_id: int
    pairs: int  # at most
    idle: bool = False  # in time in which the device would have waited for an idea


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelEnded:
    """A duel has its result; the interval is of the champion's gain over its rival, None without one."""

    kind: ClassVar = "duel.ended"

    champion_id: int
    rival_id: int
    outcome: DuelOutcome
    reason: str
    mean: float | None
    low: float | None
    high: float | None
    pairs: int
    trials: tuple[int, ...]  # experiments
    environment: Environment
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationBegun:
    """A kept experiment is about to be trained again and scored on the holdout."""

    kind: ClassVar = "confirmation.begun"

    experiment_id: int
    seeds: SeedCommitment


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfirmed:
    """A kept experiment has scores on the holdout, with other seeds."""

    kind: ClassVar = "experiment.confirmed"

    experiment_id: int
    value: float | None  # as the loop measured it
    holdout: tuple[float, ...]
    scores: tuple[Score, ...]
    checkpoints: tuple[str, ...]
    folder: str  # below the run's
    files: Mapping[str, str]
    environment: Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationFailed:
    """A kept experiment got no score on the holdout."""

    kind: ClassVar = "confirmation.failed"

    experiment_id: int
    failure: Status
    message: str
    scores: tuple[Score, ...]
    folder: str
    files: Mapping[str, str]
    environment: Environment
    revisions: tuple[Revision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRemoved:
    """Retention is about to remove files of an experiment."""

    kind: ClassVar = "files.removed"

    experiment_id: int
    files: Mapping[str, str]  # the reason by name


Event = (
    SessionStarted | SessionEnded | SessionFailed | LoopWaiting | NoteRecorded | ConditionsChanged | CallReserved
    | CallSettled | ReplyReceived | ReplyRejected | LessonsDistilled | ExperimentBegun | ContainerStarted | ScoringBegun
    | TrialRepeated | ExperimentDoubted | SeedsRevealed | ExperimentFinished | ExperimentCommitted | ChampionReplaced
    | DuelBegun | DuelEnded | ConfirmationBegun | ExperimentConfirmed | ConfirmationFailed | FilesRemoved
)  # fmt: skip
KINDS: dict[str, type[Event]] = {event.kind: event for event in get_args(Event)}
_NOT_RECORDED: dict[str, Any] = {  # what the line's envelope or a file of the experiment holds
    ExperimentBegun.kind: {"experiment_id": True, "reply": {"prompt", "text"}},
    ExperimentFinished.kind: {"experiment": {"folder"}},
}


def experiment_id_of(event: Event) -> int | None:
    """Return the experiment that an event is about, None for those of a session."""
    return getattr(event, "experiment_id", None)


def body_of(event: Event) -> dict[str, Any]:
    """Return an event as plain JSON data, without its kind and its experiment."""
    exclude = _NOT_RECORDED.get(event.kind, {"experiment_id"})
    body: dict[str, Any] = _adapter(event.kind).dump_python(event, mode="json", exclude=exclude)
    return body


EARLIER_NAMES = {  # of the fields of a score, and of an environment
    "undetectable_bpb": "undetectable", "tokens": "total_positions", "mean_difference_nats": "mean_difference",
    "max_difference_nats": "max_difference", "cap_nats": "audit_cap", "floor_nats": "audit_floor",
}  # fmt: skip


def parse_event(kind: str, experiment_id: int | None, body: Mapping[str, Any]) -> Event:
    """Return the event that `body_of` wrote. Raises KeyError for an unknown kind, ValueError for another body."""
    values = dict(body)
    if "experiment_id" in KINDS[kind].__dataclass_fields__:
        values["experiment_id"] = experiment_id
    if kind == ExperimentFinished.kind and "experiment" in values:
        values["experiment"] = _with_new_names(values["experiment"])
    if isinstance(values.get("scores"), list):
        values["scores"] = [_rename(score) for score in values["scores"]]
    if "environment" in values:
        values["environment"] = _rename(values["environment"])
    return _adapter(kind).validate_python(values)


@cache
def _adapter(kind: str) -> TypeAdapter[Event]:
    """Return what reads and writes a kind; all of them together take longer to make than a short record to read."""
    return TypeAdapter(KINDS[kind])


def _with_new_names(experiment: Any) -> Any:  # noqa: ANN401  # as it stands in the record
    """Return a recorded experiment with the names that its score's fields have now."""
    if not isinstance(experiment, dict) or "score" not in experiment:
        return experiment
    return {**experiment, "score": _rename(experiment["score"])}


def _rename(recorded: Any) -> Any:  # noqa: ANN401  # as it stands in the record
    """Return a recorded score or environment with the names that its fields have now."""
    if not isinstance(recorded, dict) or EARLIER_NAMES.keys().isdisjoint(recorded):
        return recorded
    return {EARLIER_NAMES.get(key, key): value for key, value in recorded.items()}
