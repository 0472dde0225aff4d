"""What the machine was like is shown beside each score, and in one line where others always work."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.events import ConditionsChanged
from orchestrator.look import export
from orchestrator.look.compare import find_differences, load_curve
from orchestrator.look.conditions import describe_load, describe_loads, describe_usual
from orchestrator.look.details import FactTable, byte_limits, detail_block
from orchestrator.look.history import load_history
from orchestrator.look.live_view import LiveView
from orchestrator.look.page import render_report
from orchestrator.look.show import show_experiment
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import MachineLoad
from tests.support import fakes, sessions
from tests.support.journals import kept

BUSY = MachineLoad(
    duration_s=24.0,
    cpus=2,
    waited_s=6.6,
    cpu_s=29.3,
    others_cpu_s=12.0,
    steal_s=0.1,
    pace_before=410.4,
    pace_after=405.0,
)
WORDS = "waited 6.6 s (18% of its time); others used 25% of 2 processors; steal 0.1 s; pace 410 MiB/s before, 405 after"
LINE = "other programs use 48% of the leased processors, which is usual here; a training waits 31% of its time"
USUAL = ConditionsChanged(others_share=0.48, wait_share=0.31)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one experiment beside others."""
    config = sessions.task(tmp_path, 1)
    session, _, _ = sessions.session(config, lambda _: fakes.scored(2.0, load=BUSY), ["0.03"])
    with session.journal as journal:
        run_session(session)
        journal.append(USUAL)
    return config.run_path


def test_a_trial_on_a_gpu_is_described() -> None:
    """Clock, power, heat, and what held it back."""
    load = MachineLoad(
        gpu_clock_mhz=1755.0,
        gpu_power_w=310.4,
        gpu_temperature_c=71.0,
        gpu_throttled_s=12.0,
        gpu_throttled=("power cap",),
    )

    assert "GPU at 1755 MHz; 310 W; 71 °C; throttled 12 s (power cap)" == describe_load(load)
    assert "" == describe_load(None)


def test_each_trial_of_an_experiment_is_described() -> None:
    """Beside its own score; what is not known is a dash."""
    several = kept(2.05, repeat_scores=(2.0, 2.1), loads=(BUSY, None))

    assert f"2.000000: {WORDS}\n2.100000: -" == describe_loads(several)
    assert WORDS == describe_loads(kept(2.0, loads=(BUSY,)))
    assert "-" == describe_loads(kept(2.0))


def test_every_view_says_what_is_usual(run: Path) -> None:
    """Until others have gone."""
    console = Console(width=200)
    with Journal.open(run) as journal:
        experiment, history = journal.experiment(1), load_history(journal)
        with console.capture() as shown:
            show_experiment(console, journal, experiment)
        view = LiveView(tag="t", console=console)
        view.attach(journal)
        with console.capture() as live:
            console.print(view.render())
        details = json.loads(detail_block(journal, history.entries[1], byte_limits(2), FactTable(), "val_bpb"))
        page = "".join(render_report(history, {}, "[]"))
        journal.append(ConditionsChanged(others_share=0.02, wait_share=0.03))
        gone = describe_usual(journal)

    assert WORDS in shown.get()
    assert ["machine", WORDS] in details["figures"]
    assert LINE in live.get()
    assert f"On this machine {LINE}." in page
    assert "" == gone


def test_status_says_it_to_people_and_programs(run: Path) -> None:
    """In a line, and under a name of its own."""
    at = ["--task", str(run.parents[1]), "--run", "t"]
    printed = CliRunner().invoke(app, ["status", *at])
    told = json.loads(CliRunner().invoke(app, ["status", *at, "--json"]).stdout)

    assert LINE in printed.stdout
    assert LINE == told["conditions"]


def test_a_comparison_says_which_run_had_company(run: Path) -> None:
    """Scores from beside others and from a quiet machine do not compare like for like."""
    curve = load_curve(run)

    assert [f"t: {LINE}"] == list(find_differences(curve, replace(curve, usual="")))


def test_export_has_the_means_over_all_trials() -> None:
    """Empty where nothing is known."""
    row = export.make_row(kept(2.05, repeat_scores=(2.0, 2.1), loads=(BUSY, MachineLoad(steal_s=0.3))), "val_bpb")

    assert 0.25 == row["others_share"]
    assert 0.2 == row["steal_s"]
    assert row["gpu_clock_mhz"] is None
    assert None is export.make_row(kept(2.0), "val_bpb")["wait_share"]
