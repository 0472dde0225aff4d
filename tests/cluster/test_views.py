"""Every view says on which host of a cluster an experiment ran; on one machine nothing is said."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.look import describe_running
from orchestrator.cli.options import Target
from orchestrator.experiments import begin_experiment
from orchestrator.look.live_view import LiveView
from orchestrator.loop import make_baseline, run_session
from orchestrator.record.journal import Journal
from tests.support import fakes, sessions


def table_of(journal: Journal) -> str:
    """What the live view shows."""
    console = Console(file=io.StringIO(), width=120)
    view = LiveView(tag="t", console=console)
    view.attach(journal)
    console.print(view.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("host", "shown"), [("gpu7", True), ("", False)])
def test_a_table_has_a_column_for_hosts_where_there_are_any(tmp_path: Path, host: str, shown: bool) -> None:
    """As `status` and the live view print it, and as it is recorded."""
    config = sessions.task(tmp_path, experiments=1)
    runner = fakes.ArithmeticRunner(sessions.parabola, more={"host": host})
    with Journal.open(config.run_path) as journal:
        session = sessions.open_session(config, fakes.ScriptedProposer(["0.03"]), runner, journal=journal)
        run_session(session)
        text = table_of(journal)
        hosts = {experiment.host for experiment in journal.experiments()}

    assert {host} == hosts
    assert shown == ("gpu7" in text)
    assert shown == ("host" in text)


def test_status_names_the_host_of_what_runs(tmp_path: Path) -> None:
    """While the loop lives."""
    config = sessions.task(tmp_path)
    runner = fakes.ArithmeticRunner(sessions.parabola, more={"host": "gpu7"})
    with Journal.open(config.run_path) as journal:
        session = sessions.open_session(config, fakes.ScriptedProposer(["0.03"]), runner, journal=journal)
        begin_experiment(journal, make_baseline(session), runner, None)
        with Journal.read(Target(task=tmp_path, run="t").run_dir()) as reader:
            running = describe_running(reader)

    assert "gpu7 runs experiment 0" == running
