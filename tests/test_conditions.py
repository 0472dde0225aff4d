"""What a score may be compared with, and that an experiment starts only where and when it still may."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.events import ChampionReplaced, NoteRecorded
from orchestrator.execution import pool
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.scoring.thresholds import UNBOUNDED
from orchestrator.types import Conditions, Context, Experiment, Reply, Status, Trial
from orchestrator.walls.execution_context import ExecutionContext
from tests.support import fakes, sessions
from tests.test_parallel import config_for, crowd

ALICE = "alice's python train.py (pid 7)"


def contended(value: float) -> Trial:
    """Return a trial that was not alone on its device."""
    return replace(fakes.scored(value), contended_by=ALICE)


def ended(run: Path) -> list[Experiment]:
    """Return all experiments of a run, in order."""
    with Journal.read(run) as journal:
        return journal.experiments()


def test_a_contended_remeasurement_changes_nothing(tmp_path: Path) -> None:
    """Another user halves the speed while the champion runs on another device: it stays, and nothing worse is kept."""
    config = sessions.task(tmp_path)
    loop, _, runner = sessions.session(config, lambda _: fakes.scored(9.9), ["0.04", "0.9", "7"])
    again = iter([contended(1.3), fakes.scored(0.9)])

    def score(source: str) -> Trial:
        if fakes.rate_of(source) == 0.04:
            return next(again) if runner.hardware == "H100" else fakes.scored(0.9)
        if fakes.rate_of(source) == 0.02:
            return fakes.scored(1.0)
        runner.hardware = "H100"
        return fakes.scored(0.95)

    runner.hardware, runner.score = "A100", score
    with loop.journal as journal:
        run_session(loop)
        best, replaced = journal.champion(), journal.events(ChampionReplaced)

    assert Status.CONTENDED in {e.status for e in ended(config.run_path) if e.remeasures_id is not None}
    assert best is not None
    assert (1, 0.9) == (best.id, best.value)
    assert [] == replaced


def moves(runner: fakes.ArithmeticRunner, worse: float) -> None:
    """When its patch runs, a runner gets a device on which everything scores 0.1 less; the patch makes it worse."""

    def score(source: str) -> Trial:
        patched, old = fakes.rate_of(source) == 0.04, runner.hardware == "A100"
        if patched and old:
            runner.hardware = "H100"
            return contended(1.0)
        return fakes.scored((1.0 if old else 0.9) + (worse if patched else 0.0))

    runner.hardware, runner.score = "A100", score


def test_a_queued_attempt_waits_until_the_champion_is_known_on_a_new_device(tmp_path: Path) -> None:
    """A patch that makes it worse is not kept because its second attempt ran on a faster GPU."""
    config = sessions.task(tmp_path, experiments=1)
    loop, _, runner = sessions.session(config, lambda _: fakes.scored(9.9), ["0.04"])
    moves(runner, worse=0.05)
    with loop.journal:
        run_session(loop)

    assert [
        (Status.KEEP, "A100", None), (Status.CONTENDED, "A100", None), (Status.DISCARD, "H100", 0),
        (Status.DISCARD, "H100", None),
    ] == [(e.status, e.hardware, e.remeasures_id) for e in ended(config.run_path)]  # fmt: skip


def test_the_champion_may_be_contended_on_a_new_device_for_as_long_as_it_takes(tmp_path: Path) -> None:
    """Others use it at each of four attempts: the session goes on to measure it, and ends with a verdict."""
    config, seen = sessions.task(tmp_path, experiments=2), Counter[str]()
    loop, _, runner = sessions.session(config, lambda _: fakes.scored(9.9), ["0.04", "0.05"])

    def score(source: str) -> Trial:
        if fakes.rate_of(source) != 0.02:
            runner.hardware = "H100"
            return fakes.scored(1.1)
        seen[runner.hardware] += 1
        return contended(1.0) if runner.hardware == "H100" and seen["H100"] <= 4 else fakes.scored(1.0)

    runner.hardware, runner.score = "A100", score
    with loop.journal:
        reason = run_session(loop)

    assert "2 experiments done" == reason
    assert [Status.CONTENDED] * 4 + [Status.DISCARD] == [
        e.status for e in ended(config.run_path) if e.remeasures_id == 0
    ]


def test_a_device_with_another_compile_cache_judges_nothing(tmp_path: Path) -> None:
    """Of two side by side one began with what the champion did not have: its gain may be the cache's."""
    config = config_for(tmp_path, 3, 2)
    loop, runners = crowd(config, sessions.parabola, ["0.03", "0.04", "0.06"])
    runners[1].more["cache_sha256"] = "ab"
    with loop.journal:
        run_session(loop)
    elsewhere = [e for e in ended(config.run_path) if e.cache_sha256]

    assert elsewhere
    assert {Status.CONTENDED} == {e.status for e in elsewhere}
    assert {"not judged under other conditions than the champion: compile cache was none, is ab"} == {
        e.reason for e in elsewhere
    }


def test_an_experiment_whose_proposal_took_long_starts_only_if_it_still_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused while the LLM answers: its reply is kept, and the runner is asked again before anything runs."""
    monkeypatch.setattr(pool, "FRESH_S", 0.2)
    config, happened = sessions.task(tmp_path, experiments=1), list[str]()

    class Slow(fakes.ScriptedProposer):
        def ask(self, context: Context) -> Reply:
            happened.append("asked")
            time.sleep(0.3)
            return fakes.ScriptedProposer.ask(self, context)

    def wait() -> bool:
        happened.append("looked")
        return False

    def score(source: str) -> Trial:
        happened.append(f"ran {fakes.rate_of(source)}")
        return fakes.scored(1.0)

    loop = sessions.open_session(config, Slow(["0.04"]), fakes.ArithmeticRunner(score, wait=wait))
    with loop.journal:
        run_session(loop)

    assert ["looked", "ran 0.02", "looked", "asked", "looked", "ran 0.04"] == happened


def test_nothing_starts_once_the_hours_are_over(tmp_path: Path) -> None:
    """They may end while a device is waited for."""
    config = sessions.task(tmp_path, experiments=9)
    config = config.model_copy(update={"limits": config.limits.model_copy(update={"hours": 1.0 / 3600})})
    loop, _, runner = sessions.session(config, sessions.parabola, ["0.04", "0.06"])

    def wait() -> bool:
        if runner.ran:
            time.sleep(1.2)
        return False

    runner.wait = wait
    with loop.journal:
        reason = run_session(loop)

    assert "hours" in reason
    assert 1 == len(runner.ran)


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("settings", {"time_budget_s": "8", "cpus": "2"}, {"time_budget_s": "20", "cpus": "2"}),
        ("settings", {"large_k": "8"}, {"large_k": "20"}),
        ("settings", {}, {"time_budget_s": "20"}),
        ("image_sha256", "sha256:ab", "sha256:cd"),
        ("hardware", "A100", "H100"),
        ("cache_sha256", "", "ab"),
    ],
)
def test_the_champion_is_measured_again_under_new_conditions(tmp_path: Path, name: str, before: str, now: str) -> None:
    """A patch that changes nothing is not kept because the next session trains longer; what changed is named."""
    config = sessions.task(tmp_path, experiments=1)
    ended_runs = []
    for value, score, rate in ((before, 2.87, "0.03"), (now, 2.46, "0.02000001")):
        loop, _, runner = sessions.session(config, lambda _, score=score: fakes.scored(score), [rate])
        if name == "hardware":
            runner.hardware = value
        else:
            runner.more[name] = value
        with loop.journal as journal:
            run_session(loop)
            notes = [one.event.text for one in journal.events(NoteRecorded)]
        ended_runs.append(ended(config.run_path))

    first, again, null = ended_runs[1][1:]
    assert (None, 0, None) == (first.remeasures_id, again.remeasures_id, null.remeasures_id)
    assert (Status.DISCARD, Status.DISCARD) == (again.status, null.status)
    assert " again, with another seed: " in again.hypothesis
    assert " was " in again.hypothesis
    why = again.hypothesis.partition(": ")[2]
    assert [f"conditions have changed ({why})"] == [note.partition(": experiment")[0] for note in notes]
    assert ("hardware was A100" in again.hypothesis) is (name == "hardware")
    assert ("time_budget_s was 8, is 20" in again.hypothesis) is ("time_budget_s" in before)


def test_conditions_that_differ_are_named() -> None:
    """Each for what it is; a digest by its beginning."""
    before = Conditions("A100", f"sha256:{'a' * 64}", "", (("cpus", "2"), ("time_budget_s", "8")))
    now = Conditions("A100", f"sha256:{'b' * 64}", "", (("pids", "9"), ("time_budget_s", "20")))

    expected = "image was sha256:aaaaaaaaaaaa, is sha256:bbbbbbbbbbbb; cpus was 2, is none; pids was none, is 9;"
    assert f"{expected} time_budget_s was 8, is 20" == before.describe_change(now)
    assert "" == before.describe_change(before)
    assert "record of budgets and limits was none, is complete" == Conditions("A100", before.image).describe_change(
        before
    )


def test_every_budget_and_limit_is_part_of_the_conditions() -> None:
    """None can be changed unseen: what a trial is given is on record, K and the rule of keeping included."""
    config = load(sessions.ROOT, {"tag": "t", "runs": sessions.ROOT / "runs"})
    given = set(config.active_profile.model_dump()) - {"audit_cap", "audit_floor"}
    context = ExecutionContext(
        engine=FakeEngine(), config=config, image_id="sha256:ab", seccomp="{}", thresholds=UNBOUNDED,  # type: ignore[arg-type]
    )  # fmt: skip

    assert given | {"isolation", "keep_rule"} == set(context.settings())
    assert f"{config.active_profile.time_budget_s:g}" == context.settings()["time_budget_s"]


class FakeEngine:
    """Tells what an engine is."""

    def describe(self) -> dict[str, str]:
        """Return nothing."""
        return {}
