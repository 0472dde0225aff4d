"""A run on slots of two classes of hardware: a champion in each, and nothing compared across them."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.config import Config
from orchestrator.events import ReplyRejected
from orchestrator.experiments import begin_experiment, fail_experiment
from orchestrator.lifecycle import load_offset
from orchestrator.loop import choose_next, run_session
from orchestrator.record import claims
from orchestrator.record.journal import Journal
from orchestrator.session import Session
from orchestrator.types import Context, Experiment, Reply, Status, Trial
from tests.support import fakes, sessions

OWN, OTHER = "H100", "L40S"
Score = Callable[[str], Trial]
RATES = [f"0.{number:03d}" for number in range(21, 90, 3)]


class HeedfulProposer(fakes.ScriptedProposer):
    """Remembers for which class it was asked, and what it was told of others."""

    told: list[Context]

    def ask(self, context: Context) -> Reply:
        """As the script says."""
        self.told.append(context)
        return fakes.ScriptedProposer.ask(self, context)


def on_other(source: str) -> Trial:
    """Every score there is far better, and another learning rate is the best."""
    return fakes.scored(0.2 + abs(fakes.rate_of(source) - 0.035))


def mixed(config: Config, other: Score = on_other, own: Score = sessions.parabola) -> tuple[Session, HeedfulProposer]:
    """A session with a slot of its own class and two of another one."""
    config = config.model_copy(update={"parallel": 3})
    proposer = HeedfulProposer(RATES)
    proposer.told = []
    runners = [fakes.ArithmeticRunner(own, hardware=OWN)]
    runners += [fakes.ArithmeticRunner(other, hardware=OTHER) for _ in range(2)]
    return sessions.open_session(config, proposer, *runners), proposer


def classes_of(experiments: list[Experiment]) -> dict[int, set[str]]:
    """On which classes each source has a score."""
    found: dict[int, set[str]] = {}
    for one in experiments:
        if one.score and (one.status is Status.KEEP or one.remeasures_id is not None):
            found.setdefault(one.id if one.remeasures_id is None else one.remeasures_id, set()).add(one.hardware)
    return found


@pytest.mark.parametrize("rule", ["lowest", "estimate"])
def test_each_class_has_a_champion_and_no_verdict_crosses(
    tmp_path: Path, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion is measured once on the other class; from then on ideas there are its own; the branch is home."""
    monkeypatch.setenv("AUTORESEARCH_NOISE__RULE", rule)
    config = sessions.task(tmp_path, experiments=14)
    session, proposer = mixed(config)
    with session.journal as journal:
        run_session(session)
        experiments, best = journal.experiments(), journal.champion()
        away, lines = journal.history().champions_away(), claims.describe(journal)
        notes, refused = journal.notes(), [recorded.event.reason for recorded in journal.events(ReplyRejected)]

    starts = [e for e in experiments if e.remeasures_id is not None and e.proposer == "remeasure"]
    ideas = [e for e in experiments if e.parent_id is not None and e.remeasures_id is None]
    measured = classes_of(experiments)
    assert [OTHER] == [e.hardware for e in starts]
    assert {OWN, OTHER} == {e.hardware for e in ideas}
    assert [] == [e.id for e in ideas if e.hardware not in measured[e.parent_id or 0]]
    assert 14 == len(ideas)
    assert {Status.KEEP, Status.DISCARD} >= {e.status for e in experiments}
    assert best is not None
    assert OWN == best.conditions.hardware
    assert [OTHER] == [one.conditions.hardware for one in away]
    assert [True] == [one.value < 0.3 for one in away]
    assert [] == [reason for reason in refused if "has no score on" in reason]  # none was asked for the other class
    assert [(e.id, e.hardware == OWN) for e in experiments if e.status is Status.KEEP] == [
        (e.id, bool(e.commit)) for e in experiments if e.status is Status.KEEP
    ]
    kept_at_home = (best.experiment.folder / "train.py").read_text()
    assert kept_at_home == config.mutable_path.read_text()
    assert kept_at_home.strip() == sessions.git(config, "show", "autoresearch/t:mutable/train.py")
    assert any(f"the run's own is {OWN}, best of others: {OTHER}: 0.2" in line for line in lines)
    assert any("is compared with nothing elsewhere" in note for note in notes)
    told = {context.hardware: context for context in proposer.told}
    assert {OWN, OTHER} == told.keys()
    assert told[OTHER].champion.value < 0.3 < told[OWN].champion.value
    assert [OWN] == [line.split(":")[0] for line in told[OTHER].elsewhere]
    assert {OTHER} >= {e.hardware for e in (*told[OTHER].memory.kept, *told[OTHER].memory.recent)}


def test_a_class_on_which_the_champion_fails_stays_idle(tmp_path: Path) -> None:
    """It is tried there once, a note says so, and the session goes on at home."""
    config, tried = sessions.task(tmp_path, experiments=6), threading.Event()

    def no_memory(_: str) -> Trial:
        tried.set()
        return fakes.broken(Status.OOM, "out of memory")

    def never_better(source: str) -> Trial:
        if fakes.rate_of(source) != 0.02:
            tried.wait(30)
            time.sleep(0.1)  # so that the other slots are asked again
        return fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.02))

    session, _ = mixed(config, no_memory, never_better)
    with session.journal as journal:
        run_session(session)
        found = [(e.hardware, e.status.value, e.remeasures_id) for e in journal.experiments()]
        notes = [note for note in journal.notes() if "stay idle" in note]

    assert [(OTHER, "oom", 0)] == [one for one in found if one[0] == OTHER]
    assert [(OWN, "keep", None), *6 * [(OWN, "discard", None)]] == [one for one in found if one[0] == OWN]
    assert 1 == len(notes)


def test_a_resumed_run_keeps_its_class_and_both_champions(tmp_path: Path) -> None:
    """Nothing is measured again that has a score; status names both."""
    config = sessions.task(tmp_path, experiments=6)
    for _ in range(2):
        session, _ = mixed(config)
        with session.journal:
            run_session(session)
    with Journal.read(config.run_path) as journal:
        experiments, best = journal.experiments(), journal.champion()
    said = CliRunner().invoke(app, ["status", "--task", str(tmp_path), "--run", "t"], catch_exceptions=False).output
    command = ["status", "--task", str(tmp_path), "--run", "t", "--json"]
    found = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).output)

    assert 1 == sum(e.remeasures_id is not None for e in experiments)
    assert best is not None
    assert OWN == best.conditions.hardware
    assert "scores compare within one class of hardware" in said
    assert found["elsewhere"][0].startswith(OTHER)


def test_an_attempt_that_is_due_waits_for_its_class(tmp_path: Path) -> None:
    """Its parent is the champion there."""
    config = sessions.task(tmp_path, experiments=6)
    session, _ = mixed(config)
    own, other = session.runners[:2]
    with session.journal as journal:
        run_session(session)
        offset = load_offset(journal)
        candidate, _ = choose_next(session, (), offset, other.environment())
        active = begin_experiment(journal, candidate, other, journal.champion())
        fail_experiment(journal, active, "its host is gone")
        at_home, _ = choose_next(session, (), offset, own.environment())
        there, _ = choose_next(session, (), offset, other.environment())

    assert at_home.retry_of is None
    assert active.id == there.retry_of
