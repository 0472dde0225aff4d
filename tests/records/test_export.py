"""A run for other tools, read back by those tools' own libraries."""

import csv
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.look import export
from orchestrator.look.export import Format
from orchestrator.record.journal import Journal
from orchestrator.settings import TAKEN_NAMES
from orchestrator.types import Experiment, Status
from tests.support.journals import kept
from tests.support.runs import recorded

ROOT = Path(__file__).parents[2]
METRIC = "val_bpb"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept 0, 1 and 3; discarded 2."""
    return recorded(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def experiments(run: Path) -> list[Experiment]:
    """The same, and a crash without a number."""
    with Journal.read(run) as journal:
        return [*journal.experiments(), kept(2.0, id=4, status=Status.CRASH, score=None)]


def test_csv_has_a_column_for_everything_and_nothing_for_what_is_missing(experiments: list[Experiment]) -> None:
    """A missing number is empty, never 0."""
    rows = list(csv.DictReader(io.StringIO(export.render_text(experiments, Format.CSV, METRIC))))

    assert ["0", "1", "2", "3", "4"] == [row["id"] for row in rows]
    assert ["keep", "keep", "discard", "keep", "crash"] == [row["status"] for row in rows]
    assert [1.03, 1.02, 1.85, 1.01] == [float(row["val_bpb"]) for row in rows[:4]]
    assert ("", "") == (rows[4]["val_bpb"], rows[4]["level"])


def test_a_score_is_in_the_column_of_its_name(experiments: list[Experiment]) -> None:
    """A task's error is not bits per byte."""
    rows = list(csv.DictReader(io.StringIO(export.render_text(experiments, Format.CSV, "rmse"))))

    assert [1.03, 1.02, 1.85, 1.01] == [float(row["rmse"]) for row in rows[:4]]
    assert "val_bpb" not in rows[0]


def test_no_column_is_written_over_by_a_score(experiments: list[Experiment]) -> None:
    """A task cannot call its metric `status`."""
    assert set(export.make_row(experiments[0], METRIC)) - {METRIC} <= TAKEN_NAMES


def test_no_cell_is_a_formula() -> None:
    """What an LLM wrote is text in a spreadsheet too."""
    nasty = kept(2.0, id=5, hypothesis='=HYPERLINK("http://x","y")\x1b[2J')
    (row,) = list(csv.DictReader(io.StringIO(export.render_text([nasty], Format.CSV, METRIC))))

    assert '\'=HYPERLINK("http://x","y")' == row["hypothesis"]


def test_results_tsv_is_upstreams(run: Path) -> None:
    """Printed as it is on record: five columns, tab-separated."""
    command = [sys.executable, "-m", "orchestrator", "export", "--runs", str(run.parent)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)

    assert (run / "results.tsv").read_text() == done.stdout
    assert "commit\tval_bpb\tmemory_gb\tstatus\tdescription" == done.stdout.splitlines()[0]


def test_parquet_has_types(experiments: list[Experiment], tmp_path: Path) -> None:
    """Numbers are numbers; what is missing is null; also where nothing has a number, or nothing is there."""
    export.write(experiments, Format.PARQUET, METRIC, tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    export.write(experiments[4:], Format.PARQUET, METRIC, tmp_path / "b.parquet")
    export.write([], Format.PARQUET, METRIC, tmp_path / "c.parquet")

    assert [1.03, 1.02, 1.85, 1.01, None] == table["val_bpb"].to_pylist()
    assert [0, 1, 2, 3, 4] == table["id"].to_pylist()
    assert "double" == str(parquet.read_schema(tmp_path / "b.parquet").field("val_bpb").type)
    assert 0 == parquet.read_table(tmp_path / "c.parquet").num_rows


def test_tensorboard_reads_the_events(experiments: list[Experiment], tmp_path: Path) -> None:
    """Every score over its experiment, and the best so far."""
    export.write(experiments, Format.TENSORBOARD, METRIC, tmp_path / "events")
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    found = {
        tag: [(e.step, round(e.tensor_proto.float_val[0], 4)) for e in read.Tensors(tag)]
        for tag in read.Tags()["tensors"]
    }

    assert [(0, 1.03), (1, 1.02), (2, 1.85), (3, 1.01)] == found["val_bpb"]
    assert [(0, 1.03), (1, 1.02), (2, 1.02), (3, 1.01), (4, 1.01)] == found["best_val_bpb"]
    with pytest.raises(RecordFailed, match="cannot be written"):
        export.write(experiments, Format.TENSORBOARD, METRIC, tmp_path / "events")


def test_a_missing_library_is_named_with_what_to_type(
    experiments: list[Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that work from a checkout and from a wheel; the extra `export` brings the same."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extra = [re.match(r"[a-z]+", requirement)[0] for requirement in project["optional-dependencies"]["export"]]  # type: ignore[index]
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigError, match=r"pyarrow.* is not installed; type \S+/python\S* -m pip install ") as found:
        export.write(experiments, Format.PARQUET, METRIC, tmp_path / "a.parquet")
    assert extra == str(found.value).partition(" install ")[2].split()
