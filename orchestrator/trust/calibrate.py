"""Measures by how much the claims of honest models differ from their audits on this hardware."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.execution.slot import Slot
from orchestrator.record.git_branch import ResultBranch
from orchestrator.scoring import thresholds
from orchestrator.scoring.thresholds import Measured
from orchestrator.trust.retrain import run_alone
from orchestrator.types import Score

REFERENCE_MODELS = Path(
    "reference_models"
)  # honest models of other kinds, where a task has some: base.py, then one of the others
MAIN = '\n\nif __name__ == "__main__":\n    train()\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An honest train.py."""

    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One honest run: its score, or why it has none."""

    model: Model
    score: Score | None
    why: str = ""


def models(config: Config, seeds: int, also: Iterable[Path]) -> list[Model]:
    """List the task's train.py with several seeds, the reference models (cpu profile only), and the files in `also`."""
    own, source = config.mutable_path, _read_committed(config)
    found = [Model(name=f"{own.name}, seed {number}", source=source) for number in range(1, seeds + 1)]
    if config.profile_name == "cpu":
        found += [
            Model(name=path.stem, source=build_on_base(config.root, _text(path)))
            for path in reference_models(config.root)
        ]
    return [*found, *(Model(name=path.name, source=_text(path)) for path in also)]


def reference_models(root: Path) -> list[Path]:
    """List the honest reference models that come with a task, if any."""
    return sorted((root / REFERENCE_MODELS).glob("[0-9]*.py"))


def build_on_base(root: Path, text: str) -> str:
    """Build a train.py from the reference models' base and `text`, which may redefine any of it."""
    return f"{_text(root / REFERENCE_MODELS / 'base.py')}\n\n{text}{MAIN}"


def run(
    slot: Slot, wanted: Iterable[Model], folder: Path, on_measured: Callable[[Measurement], None]
) -> list[Measurement]:
    """Train and audit each model once, on a slot without thresholds. Raises SandboxError."""
    found = []
    for number, model in enumerate(wanted):
        measurement = _measured(slot, model, folder / f"{number:04d}")
        on_measured(measurement)
        found.append(measurement)
    return found


def summary(measurements: Iterable[Measurement], config: Config, image_id: str) -> Measured:
    """Compute the thresholds these runs call for. Raises ConfigError if none has a score or they bound nothing."""
    scores = [m.score for m in measurements if m.score is not None]
    if not scores:
        raise ConfigError(
            "none of the honest models was scored, so nothing was measured; `autoresearch loop` shows why"
        )
    worst = [score.max_difference for score in scores if score.max_difference is not None]
    means = [abs(score.mean_difference) for score in scores if score.mean_difference is not None]
    if not len(worst) == len(means) == len(scores):
        raise ConfigError(
            f"{config.root / 'locked' / 'score.py'}: its score messages need mean_difference and max_difference, which"
            " are what calibration measures (docs/tasks.md)"
        )
    cap, floor = thresholds.propose_thresholds(max(worst), max(means), config)
    return Measured(
        audit_cap=cap, audit_floor=floor, worst=max(worst), worst_mean=max(means), runs=len(scores),
        positions=sum(score.audited_positions for score in scores), image_id=image_id,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def line(measurement: Measurement, metric: str) -> str:
    """Format one run for a terminal."""
    score, name = measurement.score, measurement.model.name
    if score is None:
        return f"{name:24} no score: {measurement.why}"
    line = f"{name:24} {metric} {score.value:.4f}  K {score.audited_positions}"
    if score.max_difference is None or score.mean_difference is None:
        return line
    return f"{line}  worst {score.max_difference:.1e}  mean {score.mean_difference:+.1e}"


def report(measured: Measured, config: Config, hardware: str) -> list[str]:
    """List the measurements next to the settings of task.toml."""
    worst, profile = (measured.worst, measured.worst_mean), config.active_profile
    return [
        f"hardware: {hardware}, profile {config.profile_name}",
        f"{measured.runs} runs, {measured.positions} audited positions",
        f"audit_cap   {measured.audit_cap:.2e}, worst seen {worst[0]:.1e}; task.toml has {profile.audit_cap:g}",
        f"audit_floor {measured.audit_floor:.2e}, worst seen {worst[1]:.1e}; task.toml has {profile.audit_floor:g}",
    ]


def _measured(slot: Slot, model: Model, folder: Path) -> Measurement:
    trial = run_alone(slot, model.source, folder)
    if trial.score is None:
        return Measurement(model=model, score=None, why=f"{trial.failure}: {trial.message.splitlines()[0]}")
    return Measurement(model=model, score=trial.score)


def _read_committed(config: Config) -> str:
    """Return the user's own train.py: a kept patch may leak, and would then set the thresholds for all later claims."""
    source = ResultBranch(path=config.mutable_path, tag=config.tag).read_head_version()
    if source is None:
        raise ConfigError(
            f"{config.mutable_path} is not committed; calibration only trusts a committed file: commit it"
        )
    return source


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; name a train.py that meets the contract") from error
