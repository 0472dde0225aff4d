"""What honest arithmetic may differ by: task.toml's numbers, until the hardware is calibrated."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.files import write_json
from orchestrator.settings import NotNegative, Positive, PositiveInt

FILE = "thresholds.json"
MARGIN = 2.0  # times the worst that honest models differed by
MOST = 4.0  # times task.toml's: a larger difference is not rounding, but a model that sees what it should not
LEAST_CAP = {"cpu": 0.005, "gpu": 0.05}  # an honest model of another kind may differ by this anywhere
LEAST_FLOOR = 0.0001


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Tolerances of a claim, in its unit, and of the mean of all beyond 4 standard errors; and their source."""

    audit_cap: float
    audit_floor: float
    origin: str


UNBOUNDED = Thresholds(audit_cap=1e9, audit_floor=1e9, origin="calibration: nothing is refused")


class Measured(BaseModel):
    """What calibration found on one class of hardware."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # in the unit of a claim; an earlier file has the second names
    audit_cap: Positive = Field(validation_alias=AliasChoices("audit_cap", "cap_nats"))
    audit_floor: Positive = Field(validation_alias=AliasChoices("audit_floor", "floor_nats"))
    worst: NotNegative = Field(validation_alias=AliasChoices("worst", "worst_nats"))  # largest |audited - claimed|
    worst_mean: NotNegative = Field(validation_alias=AliasChoices("worst_mean", "worst_mean_nats"))  # of any honest run
    runs: PositiveInt
    positions: PositiveInt
    image_id: str
    measured_at: str  # ISO 8601, UTC


_FILE = TypeAdapter(dict[str, Measured])


def propose_thresholds(worst: float, worst_mean: float, config: Config) -> tuple[float, float]:
    """Return a cap and a floor that leave honest runs a margin. Raises ConfigError if they would let lies pass."""
    cap = max(LEAST_CAP.get(config.profile_name, 0.0), MARGIN * worst)
    floor = max(LEAST_FLOOR, MARGIN * worst_mean)
    for name, found, said in (
        ("cap", cap, config.active_profile.audit_cap),
        ("floor", floor, config.active_profile.audit_floor),
    ):
        if found > MOST * said:
            raise ConfigError(
                f"task.toml: [profile.{config.profile_name}] audit_{name} = {said:g}: these runs ask for"
                f" {found:.2g}, more than {MOST:g} times that, and nothing was kept: a model among them sees what it"
                f" should not; where such a difference is honest on this hardware, raise audit_{name}"
            )
    return cap, floor


def path_of(config: Config) -> Path:
    """Return the path of the measurements, next to the prepared data."""
    return config.root / "data" / FILE


def key_of(config: Config, hardware: str) -> str:
    """Return the key of measurements, which hold for one profile on one class of hardware."""
    return f"{config.profile_name}: {hardware}"


def load(config: Config, hardware: str) -> Thresholds:
    """Load the thresholds of this hardware. Raises ConfigError for a file that `save` did not write."""
    measured = _read(path_of(config)).get(key_of(config, hardware))
    if measured is None:
        return Thresholds(
            audit_cap=config.active_profile.audit_cap, audit_floor=config.active_profile.audit_floor, origin="task.toml"
        )
    origin = f"calibrated {measured.measured_at}"
    return Thresholds(audit_cap=measured.audit_cap, audit_floor=measured.audit_floor, origin=origin)


def save(config: Config, hardware: str, measured: Measured) -> Path:
    """Save a measurement, replacing an earlier one of the same hardware. Raises ConfigError or RecordFailed."""
    path = path_of(config)
    known = {**_read(path), key_of(config, hardware): measured}
    write_json(path, _FILE.dump_python(known, mode="json"))
    return path


def _read(path: Path) -> dict[str, Measured]:
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise ConfigError(f"{path}: cannot be used: {why}; remove it and run `autoresearch calibrate` again") from error
