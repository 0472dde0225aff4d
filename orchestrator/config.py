"""task.toml + AUTORESEARCH_* variables + flags -> one frozen Config. Unknown keys are errors."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from orchestrator.errors import ConfigError
from orchestrator.settings import (
    Claude,
    Command,
    Contention,
    Gpu,
    Limits,
    Mix,
    Noise,
    Notify,
    PositiveInt,
    Prices,
    Profile,
    Recording,
    Retention,
    Rule,
    Task,
)
from orchestrator.types import Stages

TASK_FILE = "task.toml"
FLAGS = {
    "profile_name": "profile",
    "corpus": "data",
    "tag": "run",
    "replay_of": "replay",
}  # others have their key's name
SUCCESSORS = {  # of keys that were renamed
    "accept": "accept_risk",
    "claude.drought": "claude.stagnation_after",
    "claude.tries": "claude.max_attempts",
    "gpu.leave_free": "gpu.reserve_gpus",
    "notify.drought": "notify.stagnation_after",
    "prices.dated": "prices.prices_as_of",
    "profile.cpu.cap_nats": "profile.cpu.audit_cap",
    "profile.cpu.floor_nats": "profile.cpu.audit_floor",
    "profile.cpu.frames_mb": "profile.cpu.ipc_mb",
    "profile.cpu.load_s": "profile.cpu.load_budget_s",
    "profile.gpu.cap_nats": "profile.gpu.audit_cap",
    "profile.gpu.floor_nats": "profile.gpu.audit_floor",
    "profile.gpu.frames_mb": "profile.gpu.ipc_mb",
    "profile.gpu.load_s": "profile.gpu.load_budget_s",
    "record": "recording",
    "trust": "scoring",
}
WAIT = "how much longer than usual a training may wait is now contention.max_extra_wait_share, from 0 to 1; remove it"
KEPT_BY = 'a change is kept by its estimated gain, the baseline runs once (rule = "lowest" keeps every lower score)'
CLAIMED_BY = "gains are shown by duels, within noise.claim_hours; remove it"
REMOVED = {  # keys that have no successor of the same meaning
    "noise.baseline_runs": f"{KEPT_BY}; remove it",
    "noise.reruns": "a challenger runs again where that is worth more than a new idea; remove it",
    "noise.remeasure_every": CLAIMED_BY,
    "noise.again_every": CLAIMED_BY,
    "contention.others": WAIT,
    "contention.max_foreign_cpu_share": WAIT,
}
RENAMED_VALUES = {("notify.on", "drought"): "stagnation"}


class Config(BaseSettings):
    """Everything a session is told, checked before it starts."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="AUTORESEARCH_", env_nested_delimiter="__"
    )

    task: Task
    limits: Limits = Limits()
    profile: dict[Literal["cpu", "gpu"], Profile]
    claude: Claude = Claude()
    command: Command = Command()
    mix: Mix = Mix()
    prices: Prices = Prices()
    gpu: Gpu = Gpu()
    noise: Noise = Noise()
    contention: Contention = Contention()
    recording: Recording = Recording()
    notify: Notify = Notify()
    retention: Retention = Retention()
    rules: tuple[Rule, ...] = ()

    # not from task.toml: flags of the command line
    root: Path
    runs: Path
    tag: str
    profile_name: Literal["cpu", "gpu"] = "cpu"
    corpus: str = "python"
    runtime: str = ""
    scoring: Literal["audited", "self-reported"] = "audited"  # self-reported: L0, the script's own number
    accept_risk: tuple[str, ...] = ()  # unsafe findings of doctor to run despite
    quiet_hours: str = ""  # 22:00-06:00: no experiment starts within
    proposer: Literal["claude", "command", "mix", "sweep", "replay", "drafts"] = "sweep"
    parallel: PositiveInt = 1  # experiments side by side, each on a leased device of its own
    executor: Literal["local", "ray"] = "local"  # ray: on the slots of a cluster, whose head is at `address`
    address: str = ""  # HOST:PORT
    token_file: Path | None = None  # of the cluster; None: in the user's configuration
    prefetch: Literal[0, 1] | None = None  # proposals asked for ahead; None: 1 for an LLM, which makes one wait
    replay_of: Path | None = None
    seed: int = 0
    api_key: SecretStr | None = None

    @field_validator("tag")
    @classmethod
    def plain_tag(cls, tag: str) -> str:
        """Check that a tag can name a folder, a git branch and containers."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", tag) or ".." in tag or tag.endswith((".", ".lock")):
            raise ValueError(f"{tag!r} must be 1-40 letters, digits, '.', '_' or '-'")
        return tag

    @model_validator(mode="after")
    def has_profile(self) -> Self:
        """Check that the chosen profile is described."""
        if self.profile_name not in self.profile:
            raise ValueError(f"[profile.{self.profile_name}] is missing")
        return self

    @model_validator(mode="after")
    def has_budgets(self) -> Self:
        """Require every budget of a training where there is one."""
        for name, profile in self.profile.items():
            missing = [key for key in Profile.model_fields if key not in profile.model_fields_set]
            if missing and self.task.stages is Stages.TRAIN:
                raise ValueError(f"key 'profile.{name}.{missing[0]}' is missing; add it")
        return self

    @model_validator(mode="after")
    def reports_only_what_trains(self) -> Self:
        """Check that only a script that trains is asked for its own score."""
        if self.self_reported and self.task.stages is not Stages.TRAIN:
            raise ValueError(f'scoring: self-reported is for stages = "{Stages.TRAIN}"; use audited')
        return self

    @model_validator(mode="after")
    def estimates_noise_where_there_is_some(self) -> Self:
        """Keep every better score where the metric has no noise or a threshold decides; a duel would tell nothing."""
        if self.noise.is_off or (self.task.noise == "measured" and self.task.keep == "improve"):
            return self
        if "rule" in self.noise.model_fields_set:
            why = 'keep = "threshold"' if self.task.keep == "threshold" else 'noise = "none"'
            raise ValueError(f'noise.rule: with {why} in [task] it must be "lowest"; leave it out')
        exact = self.noise.model_copy(update={"rule": "lowest", "claim_hours": 0.0})
        object.__setattr__(self, "noise", exact)  # within validation, before anyone has read it
        return self

    @property
    def active_profile(self) -> Profile:
        """The chosen profile."""
        return self.profile[self.profile_name]

    def with_profile(self, **limits: float) -> "Config":
        """Return the config with other limits in the chosen profile."""
        box = self.active_profile.model_copy(update=limits)
        return self.model_copy(update={"profile": {**self.profile, self.profile_name: box}})

    @property
    def self_reported(self) -> bool:
        """Whether a script's own number is its score: L0."""
        return self.scoring == "self-reported"

    @property
    def needed_k(self) -> int:
        """How many positions of a new best must have been audited."""
        audited = self.task.stages is Stages.TRAIN and not self.self_reported
        return self.active_profile.large_k if audited else 0

    @property
    def mutable_path(self) -> Path:
        """The one file proposals may change."""
        return self.root / self.task.mutable

    @property
    def data_path(self) -> Path:
        """The prepared data of this profile and corpus."""
        return self.root / "data" / f"{self.profile_name}-{self.corpus}"

    @property
    def asks_ahead(self) -> bool:
        """Whether the next proposal is asked for while an experiment trains."""
        wanted = self.proposer in ("claude", "command", "mix") or self.parallel > 1
        return wanted if self.prefetch is None else self.prefetch == 1

    @property
    def anchor_path(self) -> Path | None:
        """The file that names the heads of this and other runs' chains."""
        return None if self.recording.anchor is None else self.root / self.recording.anchor.expanduser()

    @property
    def run_path(self) -> Path:
        """The folder of this run's record."""
        return self.runs / self.tag

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags win over variables, variables over task.toml."""
        root: Path = init_settings()["root"]
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, root / TASK_FILE)


def load(root: Path, flags: dict[str, Any]) -> Config:
    """Read `root`/task.toml and lay variables and `flags` over it; dotted flags ("limits.hours") reach into tables.

    Raises ConfigError, one line that names the file or flag, the value and the fix.
    """
    path = root / TASK_FILE
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; run this in a task directory, or name one with --task FOLDER")
    for old, new in SUCCESSORS.items():
        if _variable(old) in os.environ:
            raise ConfigError(f"{_variable(old)} is now called {_variable(new)}; rename it")
    values: dict[str, Any] = {"root": root}
    for dotted, value in flags.items():
        *tables, key = dotted.split(".")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
        table[key] = value
    try:
        return Config(**values)
    except ValidationError as error:
        raise ConfigError(_one_line(path, flags, error)) from error
    except (SettingsError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _one_line(path: Path, flags: dict[str, Any], error: ValidationError) -> str:
    """Return the first thing that is wrong, a renamed key before others, and where it is set."""
    errors = error.errors(include_url=False)
    known = {**SUCCESSORS, **REMOVED}
    first = next((each for each in errors if _key(each) in known and each["type"] == "extra_forbidden"), errors[0])
    key, value, message = _key(first), first.get("input"), first["msg"].removeprefix("Value error, ")
    if key in flags:
        return f"--{FLAGS.get(key, key.rpartition('.')[2]).replace('_', '-')} {value!r}: {message}"
    source = variable if (variable := _variable(key)) in os.environ else path
    if first["type"] == "extra_forbidden" and key in SUCCESSORS:
        return f"{source}: {key} is now called {SUCCESSORS[key]}; rename it"
    if first["type"] == "extra_forbidden":
        gone = f"{key} is gone: {REMOVED[key]}" if key in REMOVED else ""
        return f"{source}: {gone or f'unknown key {key!r}; remove it or fix its spelling'}"
    if first["type"] == "missing":
        return f"{source}: key {key!r} is missing; add it"
    if successor := RENAMED_VALUES.get((key.rstrip("0123456789."), str(value))):
        return f"{source}: {key} = {value!r} is now called {successor!r}; rename it"
    if isinstance(value, dict) and key:  # several keys of a table that do not go together
        key = f"[{key}]"
    where = key if isinstance(value, dict) else f"{key} = {value!r}:"
    return f"{source}: {where} {message}" if key else f"{source}: {message}"


def _key(error: ErrorDetails) -> str:
    """Return the dotted key that an error is about; "" where it is about several."""
    return ".".join(str(part) for part in error["loc"])


def _variable(key: str) -> str:
    """Return the environment variable of a dotted key."""
    return f"AUTORESEARCH_{key.upper().replace('.', '__')}"
