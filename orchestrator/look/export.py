"""Export a run for other tools: upstream's results.tsv, CSV, Parquet, TensorBoard event files.

The last two need the libraries of the extra `export`, which are imported only here.
"""

import csv
import io
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from types import MappingProxyType

from orchestrator import files
from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.look.history import champion_scores
from orchestrator.record import experiment_dir
from orchestrator.text import sanitise
from orchestrator.types import Experiment

FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would run what begins with these
LIBRARIES = "pyarrow tensorboard"  # the extra `export` of pyproject.toml
LOADS = (
    "wait_share", "others_share", "steal_s", "clock_mhz", "pace_before", "gpu_clock_mhz", "gpu_throttled_s",
    "gpu_power_w", "gpu_temperature_c",
)  # fmt: skip
Cell = int | float | str | None


class Format(StrEnum):
    """The formats that other tools read."""

    TSV = "tsv"
    CSV = "csv"
    PARQUET = "parquet"
    TENSORBOARD = "tensorboard"


TEXT = (Format.TSV, Format.CSV)


def make_row(experiment: Experiment, metric: str) -> dict[str, Cell]:
    """Return an experiment as one flat row, its score under the metric's name; a missing number is None.

    What the machine was like is the mean over its trials.
    """
    score, usage = experiment.score, experiment.usage
    loads = [load for load in experiment.loads if load is not None]
    return {
        "id": experiment.id,
        "status": experiment.status.value,
        metric: experiment.value,
        "standard_error": score.standard_error if score else None,
        "level": score.level.value if score else None,
        "audited_positions": score.audited_positions if score else None,
        "trials": len(experiment.scores),
        **{name: _mean(getattr(load, name) for load in loads) for name in LOADS},
        "parent_id": experiment.parent_id,
        "retry_of": experiment.retry_of,
        "remeasures_id": experiment.remeasures_id,
        "attempt": experiment.attempt,
        "hypothesis": sanitise(experiment.hypothesis),
        "expected_effect": sanitise(experiment.expected_effect),
        "reason": sanitise(experiment.reason),
        "proposer": experiment.proposer,
        "model": sanitise(experiment.model),
        "started_at": experiment.started_at,
        "duration_s": experiment.duration_s,
        "train_s": experiment.train_s,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
        "peak_memory_bytes": experiment.peak_memory_bytes,
        "hardware": experiment.hardware,
        "image_id": experiment.image_id,
        "source_sha256": experiment.source_sha256,
        "commit": experiment.commit,
    }


def render_text(experiments: Iterable[Experiment], how: Format, metric: str) -> str:
    """Return a run in one of the formats that are text."""
    if how is Format.TSV:
        return experiment_dir.results(experiments, metric)
    rows = [make_row(experiment, metric) for experiment in experiments]
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows({name: _harmless(cell) for name, cell in one.items()} for one in rows)
    return out.getvalue()


def write(
    experiments: list[Experiment],
    how: Format,
    metric: str,
    out: Path,
    estimated: Mapping[int, float | None] = MappingProxyType({}),
) -> None:
    """Write to a file, or to a new folder for TensorBoard. Raises ConfigError for a missing extra, RecordFailed."""
    try:
        if how in TEXT:
            files.write(out, render_text(experiments, how, metric))
        elif how is Format.PARQUET:
            _parquet(experiments, metric, out)
        else:
            _tensorboard(experiments, metric, out, estimated)
    except ImportError as error:
        raise ConfigError(
            f"--format {how}: {error.name} is not installed; type {sys.executable} -m pip install {LIBRARIES}"
        ) from error
    except OSError as error:
        raise RecordFailed(
            f"{out}: cannot be written: {error.strerror or error}; choose another file with --out"
        ) from error


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _harmless(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _parquet(experiments: list[Experiment], metric: str, out: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415  # an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    rows = [make_row(experiment, metric) for experiment in experiments]
    columns = rows[0] if rows else {}
    numbers = {metric: float, "standard_error": float, "level": str} | dict.fromkeys(LOADS, float)  # may all be missing
    schema = pa.schema([(name, kinds[numbers.get(name) or _kind(rows, name)]) for name in columns])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out)


def _kind(rows: list[dict[str, Cell]], name: str) -> type:
    return next((type(one[name]) for one in rows if one[name] is not None), int)


def _tensorboard(experiments: list[Experiment], metric: str, out: Path, estimated: Mapping[int, float | None]) -> None:
    """Write scalars over experiment ids: each score, and the best so far."""
    from tensorboard.summary import Writer  # noqa: PLC0415  # an extra

    out.mkdir(parents=True, mode=0o700)
    writer = Writer(str(out))
    for one, best in zip(experiments, champion_scores(experiments, estimated), strict=True):
        at = datetime.fromisoformat(one.started_at).timestamp() + one.duration_s
        if one.judged_value is not None:
            writer.add_scalar(metric, one.judged_value, one.id, wall_time=at)
        if best is not None:
            writer.add_scalar(f"best_{metric}", best, one.id, wall_time=at)
        writer.add_scalar("duration_s", one.duration_s, one.id, wall_time=at)
        writer.add_scalar("cost_usd", one.usage.cost_usd, one.id, wall_time=at)
    writer.close()
