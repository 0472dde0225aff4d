"""What honest arithmetic may differ by: task.toml's numbers, until the hardware is calibrated."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.files import write_json
from orchestrator.settings import NotNegative, Positive, PositiveInt

FILE = "thresholds.json"
MARGIN = 2.0  # times the worst that honest models differed by
MOST = 4.0  # times task.toml's: a larger difference is not rounding, but a model that sees what it should not
LEAST_CAP_NATS = {"cpu": 0.005, "gpu": 0.05}  # an honest model of another kind may differ by this anywhere
LEAST_FLOOR_NATS = 0.0001


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Tolerances in nats: of a single claim, and of their mean beyond 4 standard errors; and their source."""

    cap_nats: float
    floor_nats: float
    origin: str


UNBOUNDED = Thresholds(cap_nats=1e9, floor_nats=1e9, origin="calibration: nothing is refused")


class Measured(BaseModel):
    """What calibration found on one class of hardware."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cap_nats: Positive
    floor_nats: Positive
    worst_nats: NotNegative  # the largest |audited - claimed| of any honest run
    worst_mean_nats: NotNegative  # the largest |mean(audited - claimed)|
    runs: PositiveInt
    positions: PositiveInt
    image_id: str
    measured_at: str  # ISO 8601, UTC


_FILE = TypeAdapter(dict[str, Measured])


def propose_thresholds(worst_nats: float, worst_mean_nats: float, config: Config) -> tuple[float, float]:
    """Return a cap and a floor that leave honest runs a margin. Raises ConfigError if they would let lies pass."""
    cap = max(LEAST_CAP_NATS.get(config.profile_name, 0.0), MARGIN * worst_nats)
    floor = max(LEAST_FLOOR_NATS, MARGIN * worst_mean_nats)
    for name, found, said in (
        ("cap", cap, config.active_profile.cap_nats),
        ("floor", floor, config.active_profile.floor_nats),
    ):
        if found > MOST * said:
            raise ConfigError(
                f"task.toml: [profile.{config.profile_name}] {name}_nats = {said:g}: these runs ask for"
                f" {found:.2g}, more than {MOST:g} times that, and nothing was kept: a model among them sees what it"
                f" should not; where such a difference is honest on this hardware, raise {name}_nats"
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
            cap_nats=config.active_profile.cap_nats, floor_nats=config.active_profile.floor_nats, origin="task.toml"
        )
    origin = f"calibrated {measured.measured_at}"
    return Thresholds(cap_nats=measured.cap_nats, floor_nats=measured.floor_nats, origin=origin)


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
