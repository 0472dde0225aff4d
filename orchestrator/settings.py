"""The tables of task.toml; units are in the names of the keys."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from orchestrator.types import PARTS, Stages, is_shareable

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
AuditSize = Annotated[int, Field(ge=2)]  # one position alone has no standard error
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


# A score is written under the name of its metric, beside these: in exports, logs, notifications and provenance.
TAKEN_NAMES = frozenset({
    "at_most", "attempt", "audit_seed", "audited_positions", "basis", "best", "champion", "champion_id",
    "claims_sha256", "clock_mhz", "commit", "conditions", "cost_usd", "duration_s", "event", "expected_effect",
    "experiment_id", "experiments", "gpu_clock_mhz", "gpu_power_w", "gpu_temperature_c", "gpu_throttled_s",
    "hardware", "head", "hypothesis", "id", "image_id", "input_tokens", "level", "measured", "model",
    "needs_review", "others_share", "output_tokens", "pace_before", "parent_id", "peak_memory_bytes", "proposer",
    "reason", "remeasures_id", "removes_id", "retry_of", "run", "score", "source_sha256", "spent", "standard_error",
    "started_at", "status", "steal_s", "timestamp", "train_s", "trial", "trials", "trust", "wait_share",
})  # fmt: skip


class Section(BaseModel):
    """A table of task.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Section):
    """What is researched."""

    name: str
    mutable: Path
    instructions: Path
    metric: Annotated[str, Field(max_length=40, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
    unit: Annotated[str, Field(max_length=40)] = ""  # of the metric, as every view shows it
    direction: Literal["lower", "higher"] = "lower"  # which scores are better
    range: tuple[FiniteFloat, FiniteFloat] | None = None  # a score outside it is not believed
    noise: Literal["measured", "none"] = "measured"  # none: the same file has the same score, which is checked once
    stages: Stages = Stages.TRAIN
    keep: Literal["improve", "threshold"] = "improve"
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None  # the worst score that is kept
    contract: str = ""  # what the mutable file must offer; shown to the LLM
    shared_data: tuple[str, ...] = ()  # folders of the prepared data that trainer, predictors and scorer may all read

    @field_validator("range")
    @classmethod
    def is_ascending(cls, found: tuple[float, float] | None) -> tuple[float, float] | None:
        """Refuse a range that contains no score."""
        if found is not None and not found[0] < found[1]:
            raise ValueError("the first number must be lower than the second")
        return found

    @field_validator("shared_data")
    @classmethod
    def is_for_all(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what is no plain name, a part that not every container may read, and a name given twice."""
        for number, name in enumerate(names):
            if name in PARTS:
                raise ValueError(f"{name!r} is not for every container; leave it out")
            if not is_shareable(name):
                raise ValueError(f"{name!r} must be the name of a folder: 1-40 letters, digits, '_' or '-'")
            if name in names[:number]:
                raise ValueError(f"{name!r} is there twice; remove one")
        return names

    @field_validator("metric")
    @classmethod
    def is_free(cls, metric: str) -> str:
        """Refuse a name that another column of the exports has."""
        if metric in TAKEN_NAMES:
            raise ValueError(f"{metric!r} is the name of another column of the exports; try 'val_{metric}'")
        return metric

    @model_validator(mode="after")
    def has_threshold(self) -> Self:
        """Require a threshold where one decides, and refuse one that would not be used."""
        if (self.keep == "threshold") != (self.threshold is not None):
            raise ValueError('keep = "threshold" and threshold = NUMBER belong together')
        return self

    @property
    def is_python(self) -> bool:
        """Whether the mutable file is a Python program; any other file is text."""
        return self.mutable.suffix == ".py"


class Limits(Section):
    """Where a run ends; 0 means no limit."""

    experiments: Annotated[int, Field(ge=0)] = 100
    hours: NotNegative = 0.0
    max_usd: NotNegative = 10.0
    max_tokens: Annotated[int, Field(ge=0)] = 0
    consecutive_infra: PositiveInt = 3


class Profile(Section):
    """Budgets, walls and audit sizes of one kind of hardware; units are in the names.

    Those that have a default here are required where a model is trained.
    """

    time_budget_s: Positive = 60.0
    grace_s: Positive = 1.0
    load_budget_s: Positive = 5.0
    score_budget_s: Positive
    memory_gb: Positive
    cpus: Positive
    pids: PositiveInt
    out_mb: PositiveInt = 1
    tmp_mb: PositiveInt = 64
    cache_mb: PositiveInt = 64
    shm_mb: PositiveInt = 64
    ipc_mb: PositiveInt = 16
    batch_rows: PositiveInt = 1
    small_k: AuditSize = 2
    large_k: AuditSize = 2
    audit_cap: Positive = 1.0  # a single claim may be off by this, in the unit of a claim
    audit_floor: Positive = 1.0  # and their mean by this, beyond 4 standard errors


class Claude(Section):
    """The LLM behind the `claude` proposer; any endpoint that speaks the Messages API."""

    model: str = "claude-opus-5-5"
    fallback_models: tuple[str, ...] | None = None  # asked where the model refuses; None: as the table of models says
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None  # None: the model's own default
    endpoint: Literal["anthropic", "compatible"] | None = None  # None: compatible where base_url is set
    base_url: str | None = None
    auth: Literal["bearer", "x-api-key"] = "bearer"
    answer: Literal["structured", "tool", "text"] | None = None  # None: as the table of models says
    cache: bool | None = None  # mark what the endpoint should remember; None: as the table of models says
    extra_headers: dict[str, str] = {}
    key_file: Path | None = None  # mode 600; else the key is read from ANTHROPIC_API_KEY
    max_output_tokens: PositiveInt = 32_000  # thinking included
    thinking_tokens: int | None = None
    max_refusals: PositiveInt = 3  # answers in a row without a proposal, then the session ends
    max_wait_hours: NotNegative = 12.0
    max_attempts: PositiveInt = 3
    stagnation_after: PositiveInt = 8  # judged experiments without improvement, then another kind of idea is asked for

    @property
    def is_compatible(self) -> bool:
        """Whether the endpoint is another one than the provider's own."""
        return self.endpoint == "compatible" or (self.endpoint is None and self.base_url is not None)

    @field_validator("thinking_tokens")
    @classmethod
    def names_successor(cls, tokens: int | None) -> None:
        """Refuse a setting that current models answer with HTTP 400."""
        if tokens is not None:
            raise ValueError('current models accept no thinking budget; use effort = "low" to "max" instead')

    @field_validator("base_url")
    @classmethod
    def has_no_path(cls, url: str | None) -> str | None:
        """Refuse an address that includes what the client appends."""
        if url is not None and re.search(r"/v1(/messages)?/?$", url):
            raise ValueError("leave out /v1 and what follows it: the client appends /v1/messages")
        return url


class Command(Section):
    """The program behind the `command` proposer: it reads the prompt on its input and prints the answer."""

    argv: tuple[str, ...] = ()  # no shell
    timeout_s: Positive = 1800.0
    variables: tuple[str, ...] = ()  # of the environment, passed on besides PATH, HOME and the locale


class Mix(Section):
    """How the `mix` proposer divides experiments."""

    llm_share: Annotated[float, Field(gt=0, lt=1)] = 0.3  # the others are the sweep's


class Price(Section):
    """USD per million tokens."""

    input: NotNegative
    output: NotNegative
    cache_write: NotNegative
    cache_read: NotNegative


class Prices(Section):
    """Prices of models that the table of models does not have, or that cost something else here."""

    prices_as_of: str = "an unknown date"
    models: dict[str, Price] = {}


class Gpu(Section):
    """Which GPUs may be leased."""

    allow: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    reserve_gpus: Annotated[int, Field(ge=0)] = 1
    wait_hours: NotNegative = 12.0


class Noise(Section):
    """How luck is told from progress."""

    rule: Literal["estimate", "lowest"] = "estimate"  # lowest: every lower score is kept, for scores without noise
    claim_hours: NotNegative = 2.0  # of device time, at most, for the duels of a session; 0: no duels

    @property
    def is_off(self) -> bool:
        """Return whether one trial of everything must do: nothing is estimated."""
        return self.rule == "lowest"


class Contention(Section):
    """When an experiment is not judged because others used its device too."""

    sample_s: Positive = 2.0
    # of its time a training may wait more than is usual in this run, because of others; a GPU is shared by any process
    max_extra_wait_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    back_off_s: NotNegative = 30.0


class Recording(Section):
    """What else is kept of a run: checkpoints of kept experiments, and the head of the chain elsewhere."""

    lessons: bool = True  # what the runs of a task taught: runs/lessons.md, shown in every prompt
    llm_lessons: bool = True  # distilled by the LLM too, where one proposes; false: by rules alone
    checkpoints: bool = True  # of kept experiments, for `autoresearch export 3`
    checkpoint_mb: PositiveInt = 1024  # larger ones are not kept
    anchor: Path | None = None  # a file that gets the head of the chain after each experiment; best on another machine


class Notify(Section):
    """A command of the user's that hears of what happens, as JSON on its standard input."""

    command: tuple[str, ...] = ()  # an argv list, no shell
    on: tuple[Literal["best", "stagnation", "cheat", "end"], ...] = ("best", "stagnation", "cheat", "end")
    stagnation_after: Annotated[int, Field(ge=0)] = (
        20  # judged experiments without improvement; told again after as many; 0: never
    )
    timeout_s: Positive = 10.0


class Retention(Section):
    """What `autoresearch prune` removes: logs and checkpoints only, never of the best; 0 means no limit."""

    log_days: NotNegative = 30.0
    keep_logs_of: tuple[Literal["keep", "cheat", "crash", "timeout", "oom", "discard"], ...] = ("keep", "cheat")
    checkpoint_days: NotNegative = 0.0
    checkpoints: Annotated[int, Field(ge=0)] = 5  # the newest, besides the best
    max_mb: NotNegative = 0.0  # of a run's logs and checkpoints together; the oldest checkpoints go first


class Rule(Section):
    """A pattern that no train.py may match, with the reason that the LLM is told."""

    pattern: str
    reason: str

    @field_validator("pattern")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        """Refuse a pattern that is no regular expression."""
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
        return pattern
