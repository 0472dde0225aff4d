"""The messages of a scorer: JSON objects, one per line of its output, as docs/tasks.md documents them. Pure.

Any other line is log text and means nothing. Numbers are in the unit of the task's metric unless they say otherwise.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from orchestrator.types import Level, Score

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
MOST_PARTS = 20
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class CheckpointMessage(_Message):
    """What the training left, hashed before predictor A ran untrusted code."""

    event: Literal["checkpoint"]
    sha256: Sha256
    bytes: NonNegativeInt | None = None


class RehearsedMessage(_Message):
    """A predictor has answered a question that contains nothing private; its output is not shown from here on."""

    event: Literal["rehearsed"]
    predictor: Literal["a", "b"]
    load_seconds: NonNegativeFloat | None = None


class UnsteadyMessage(_Message):
    """The rehearsal, repeated next to other rows, had other answers; the audit still decides."""

    event: Literal["unsteady"]
    difference: NonNegativeFloat | None = None


class ClaimsMessage(_Message):
    """Predictor A, or an asked program, has answered everything: the host destroys it, and only then says so."""

    event: Literal["claims"]
    sha256: Sha256
    value: FiniteFloat | None = None  # what the score would be if all claims were true


class ScoreMessage(_Message):
    """A score, the only one of its scorer."""

    event: Literal["score"]
    metric: Text
    value: FiniteFloat
    level: Literal["L1", "L2"]
    standard_error: NonNegativeFloat | None = None  # required at L2: what the audit leaves open
    noise: NonNegativeFloat | None = None  # standard deviation of the scores of one file, as far as the scorer can tell
    audited_positions: NonNegativeInt = 0  # required at L2
    total_positions: NonNegativeInt = 0  # that could be audited; 0 for unknown
    undetectable: NonNegativeFloat | None = None  # the largest lie that the audit would have missed, at 5 %
    mean_difference: FiniteFloat | None = None  # of audited - claimed
    max_difference: NonNegativeFloat | None = None  # of |audited - claimed|
    parts: Annotated[dict[str, FiniteFloat], Field(max_length=MOST_PARTS)] = {}  # what the score was made from
    reasons: Annotated[list[Reason], Field(max_length=MOST_PARTS)] = []  # what to improve; the LLM reads them

    @model_validator(mode="after")
    def _require_audit(self) -> Self:
        if self.level == Level.L2 and self.standard_error is None:
            raise ValueError("standard_error is required at level L2")
        if self.level == Level.L2 and not self.audited_positions:
            raise ValueError("audited_positions must be at least 1 at level L2")
        return self

    def to_score(self, claims_sha256: str) -> Score:
        """Return the score as the record has it."""
        return Score(
            value=self.value,
            level=Level(self.level),
            standard_error=self.standard_error,
            noise=self.noise,
            audited_positions=self.audited_positions,
            undetectable=self.undetectable,
            total_positions=self.total_positions,
            claims_sha256=claims_sha256,
            mean_difference=self.mean_difference,
            max_difference=self.max_difference,
            parts=tuple(self.parts.items()),
            reasons=tuple(self.reasons),
        )


class RefusedMessage(_Message):
    """The score cannot be believed. The LLM reads `reason`, so it contains nothing that a predictor chose."""

    event: Literal["refused"]
    reason: Text
    detail: str = ""  # for a person who reads the scorer's log
    mean_difference: FiniteFloat | None = None
    max_difference: NonNegativeFloat | None = None


class FailedMessage(_Message):
    """The candidate does not do what it must, in the open: a wrong answer, a text that cannot be read."""

    event: Literal["failed"]
    reason: Text  # the LLM reads it


class TooSlowMessage(_Message):
    """A predictor took time for loading or answering that only training is given."""

    event: Literal["too_slow"]
    reason: Text


class NoAnswerMessage(_Message):
    """A predictor did not answer in time."""

    event: Literal["no_answer"]
    reason: Text


class Malformed(_Message):
    """Output of a scorer that breaks the contract: `reason` says which message, and what is wrong with it."""

    reason: str


Message = (
    CheckpointMessage
    | RehearsedMessage
    | UnsteadyMessage
    | ClaimsMessage
    | ScoreMessage
    | RefusedMessage
    | FailedMessage
    | TooSlowMessage
    | NoAnswerMessage
)
Outcome = Score | RefusedMessage | FailedMessage | TooSlowMessage | NoAnswerMessage | Malformed
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])
_Kind = TypeVar("_Kind", bound=_Message)


def parse_message(line: str) -> Message | Malformed | None:
    """Return the message on a line of a scorer's output; None for log text, Malformed for a broken message."""
    try:
        data = from_json(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"].startswith("union_tag"):  # not an event of ours
            return None
        field = ".".join(str(part) for part in first["loc"][1:])
        why = f"{field}: {first['msg']}" if field else first["msg"].removeprefix("Value error, ")
        return Malformed(reason=f"{data['event']} message: {why}")


def find_message(messages: Iterable[_Message], kind: type[_Kind]) -> _Kind | None:
    """Return the first message of a kind, or None."""
    return next((message for message in messages if isinstance(message, kind)), None)


def read_outcome(messages: Iterable[Message | Malformed], metric: str, *, with_claims: bool = True) -> Outcome:
    """Return how a score came out on a task with this metric; Malformed unless there is exactly one outcome.

    A refusal wins over everything else that was printed.
    """
    messages = list(messages)
    if refused := find_message(messages, RefusedMessage):
        return refused
    if malformed := find_message(messages, Malformed):
        return malformed
    outcomes = [m for m in messages if isinstance(m, ScoreMessage | FailedMessage | TooSlowMessage | NoAnswerMessage)]
    if len(outcomes) != 1:
        expected = "expected exactly one score, refused, failed, too_slow or no_answer message"
        return Malformed(reason=f"{expected}, got {len(outcomes)}")
    if not isinstance(outcome := outcomes[0], ScoreMessage):
        return outcome
    claims = [m.sha256 for m in messages if isinstance(m, ClaimsMessage)]
    return _read_score(outcome, claims, metric, with_claims=with_claims)


def _read_score(message: ScoreMessage, claims: list[str], metric: str, *, with_claims: bool) -> Score | Malformed:
    if message.metric != metric:
        return Malformed(reason=f"score message: metric is {message.metric!r}; task.toml has {metric!r}")
    if with_claims and message.level == Level.L2 and len(claims) != 1:
        return Malformed(reason=f"score message: level L2 needs exactly one claims message, got {len(claims)}")
    return message.to_score("".join(claims[:1]))
