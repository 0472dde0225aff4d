"""A real Ray cluster of two classes of hardware, as every view shows it while it runs and after."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.look import describe_running
from orchestrator.look.notify import Notifier
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.settings import Notify
from orchestrator.types import Status
from tests.cluster.test_views import table_of
from tests.support import fakes, sessions
from tests.support.ray_cluster import stand_in_cluster

CLASSES = {"host1": "H100", "host2": "L40S"}


@pytest.mark.timeout(180)
def test_every_view_shows_hosts_and_classes(tmp_path: Path) -> None:
    """Each class has a champion; status, the live view, the report and notifications name hosts and classes."""
    config = sessions.task(tmp_path, experiments=6).model_copy(update={"parallel": 2})
    notes = tmp_path / "told"
    settings = Notify(
        command=(sys.executable, "-c", f"import sys; open({str(notes)!r}, 'a').write(sys.stdin.read() + '\\n')")
    )
    running = list[str]()
    with (
        stand_in_cluster(tmp_path, slots=(1, 1), pause_s=0.6, hardware=CLASSES) as made,
        Journal.open(config.run_path) as journal,
        Notifier(settings=settings, journal=journal) as notifier,
    ):
        journal.subscribe(notifier.handle)
        runners = made.runners(config, journal.append, "H100")
        runners[0].ready()
        session = sessions.open_session(config, fakes.ScriptedProposer(RATES), *runners, journal=journal)
        ended = threading.Event()
        watcher = threading.Thread(target=watch, args=(config.run_path, running, ended.is_set))
        watcher.start()
        run_session(session)
        ended.set()
        watcher.join()
        table, experiments, best = table_of(journal), journal.experiments(), journal.champion()
    said = command("status", tmp_path)
    facts = json.loads(command("status", tmp_path, "--json"))
    report = Path(command("report", tmp_path).split(": ")[1].strip()).read_text()
    told = [json.loads(line) for line in notes.read_text().splitlines()]

    assert {("host1", "H100"), ("host2", "L40S")} == {(e.host, e.hardware) for e in experiments if e.is_judged}
    assert {"L40S"} == {e.hardware for e in experiments if e.remeasures_id is not None}
    assert best is not None
    assert "H100" == best.conditions.hardware
    assert {"host1", "host2"} <= {host for line in running for host in re.findall(r"(host\d) runs experiment", line)}
    for view in (table, said, report):
        assert {"host1", "host2"} <= set(re.findall(r"host\d", view))
        assert "best of others: L40S: " in " ".join(view.split())
    assert facts["elsewhere"][0].startswith("L40S: ")
    assert {"host1", "host2"} >= {one["experiment"]["host"] for one in told if one["event"] == "best"} >= {"host1"}
    assert told[-1]["elsewhere"][0].startswith("L40S: ")
    assert {Status.KEEP, Status.DISCARD} <= {e.status for e in experiments}


RATES = [f"0.{number:03d}" for number in range(25, 90, 5)]


def command(name: str, task: Path, *words: str) -> str:
    """What a command about the run prints."""
    argv = [name, "--task", str(task), "--run", "t", *words]
    return CliRunner().invoke(app, argv, catch_exceptions=False).output


def watch(folder: Path, running: list[str], ended: Callable[[], bool]) -> None:
    """Note what runs where, as another process that looks at the run."""
    while not ended():
        with Journal.read(folder) as journal:
            running.append(describe_running(journal))
        time.sleep(0.2)
