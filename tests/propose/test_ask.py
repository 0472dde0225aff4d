"""Asking in the real loop: repeats, near repeats, stale parents, asking ahead, replay."""

import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.config import Config, load
from orchestrator.errors import ConfigError, PatchRejected, ProposerUnavailable
from orchestrator.execution import pool
from orchestrator.loop import run_session
from orchestrator.propose.replay import ReplayProposer
from orchestrator.protocols import Proposer
from orchestrator.record.journal import Journal
from orchestrator.types import Context, Edit, Proposal, Reply, Trial
from tests.support import fakes
from tests.support.sessions import open_session

ROOT = Path(__file__).parents[2]


def task(tmp_path: Path, experiments: int, tag: str = "t", **flags: object) -> Config:
    """A task directory under git."""
    (tmp_path / "mutable").mkdir(exist_ok=True)
    if not (tmp_path / "mutable" / "train.py").exists():
        (tmp_path / "mutable" / "train.py").write_text(fakes.TRAIN_PY)
        (tmp_path / "task.toml").write_text((ROOT / "task.toml").read_text())
        subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    return load(tmp_path, {"tag": tag, "runs": tmp_path / "runs", "limits.experiments": experiments, **flags})


def run(config: Config, proposer: Proposer, score: Callable[[str], Trial]) -> fakes.ArithmeticRunner:
    """One session."""
    runner = fakes.ArithmeticRunner(score)
    loop = open_session(config, proposer, runner)
    with loop.journal:
        run_session(loop)
    return runner


def told(config: Config) -> list[tuple[int, str, int | None]]:
    """Experiments as the journal has them: id, status, parent."""
    with Journal.read(config.run_path) as journal:
        return [(e.id, e.status.value, e.parent_id) for e in journal.experiments()]


def parabola(source: str) -> Trial:
    """Best at a learning rate of 0.05."""
    return fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.05))


@dataclass(slots=True)
class Thinker:
    """Answers with prepared arguments, remembers what it was told, and when."""

    answers: list[dict[str, object]]
    contexts: list[Context] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    name: str = "thinker"
    fail_at: int | None = None

    def ask(self, context: Context) -> Reply:
        """The next answer."""
        self.contexts.append(context)
        self.lengths.append(len(context.history))
        self.threads.append(threading.current_thread().name)
        if len(self.contexts) - 1 == self.fail_at:
            raise ProposerUnavailable("the API is gone")
        text = json.dumps(self.answers[len(self.contexts) - 1])
        return Reply(proposer=self.name, model="m", prompt="", text=text, parent_id=context.champion.id)

    def read(self, reply: Reply) -> Proposal:
        """Arguments of a proposal; a plain rate replaces the baseline's."""
        given = json.loads(reply.text)
        if "refuse" in given:
            raise PatchRejected(str(given["refuse"]))
        edit = Edit(
            search=f"LEARNING_RATE = {given.pop('from', '0.02')}\n", replace=f"LEARNING_RATE = {given.pop('to')}\n"
        )
        return Proposal(hypothesis=str(given.pop("hypothesis", "h")), edits=(edit,), **given)


def test_a_near_repeat_is_shown_with_its_outcome_and_a_reason_lets_it_pass(tmp_path: Path) -> None:
    """0.031 after a discarded 0.03 costs a question, not a run; with retry_rationale it runs."""
    config = task(tmp_path, 2)
    thinker = Thinker([{"to": "0.3"}, {"to": "0.31"}, {"to": "0.31", "retry_rationale": "the batch is larger now"}])
    runner = run(config, thinker, parabola)

    assert ["0.02", "0.3", "0.31"] == [str(fakes.rate_of(source)) for source in runner.ran]
    reply, why = thinker.contexts[2].rejected[0]
    assert "close to experiment 1, discard with val_bpb 1.25" in why
    assert json.loads(reply.text) == {"to": "0.31"}


def test_a_different_step_is_not_close(tmp_path: Path) -> None:
    """Twice the rate is another question."""
    config = task(tmp_path, 2)
    runner = run(config, Thinker([{"to": "0.3"}, {"to": "0.6"}]), parabola)

    assert 3 == len(runner.ran)


def test_an_earlier_kept_file_can_be_the_parent(tmp_path: Path) -> None:
    """parent_id names it; the edits are made to that file, and one that does not exist is refused."""
    config = task(tmp_path, 2)
    thinker = Thinker([{"to": "0.04"}, {"to": "0.01", "parent_id": 77}, {"to": "0.011", "parent_id": 0}])
    run(config, thinker, parabola)

    assert [(0, "keep", None), (1, "keep", 0), (2, "discard", 0)] == told(config)
    assert "parent_id 77: not a kept experiment" in thinker.contexts[2].rejected[0][1]


def test_memory_is_told(tmp_path: Path) -> None:
    """What was kept and what failed reaches the proposer."""
    config = task(tmp_path, 3)
    thinker = Thinker([{"to": "0.04"}, {"from": "0.04", "to": "0.9"}, {"from": "0.04", "to": "0.045"}])
    run(config, thinker, parabola)

    assert [0, 1] == [e.id for e in thinker.contexts[2].memory.kept]
    assert [2] == [e.id for e in thinker.contexts[2].memory.near_misses]
    assert 1 == thinker.contexts[2].memory.since_improvement
    assert [1, 2, 3] == thinker.lengths


def test_the_next_proposal_is_asked_for_while_an_experiment_runs(tmp_path: Path) -> None:
    """It is told what runs; it is kept though stale, measured whole, and the whole file wins."""
    config = task(tmp_path, 3, prefetch=1)
    thinker = Thinker([{"to": "0.03"}, {"to": "0.04"}, {"from": "0.03", "to": "0.06"}])
    run(config, thinker, parabola)

    assert ["MainThread", "prefetch", "prefetch"] == thinker.threads
    assert ("h",) == thinker.contexts[1].in_flight
    assert 0 == thinker.contexts[1].champion.id
    assert [(0, "keep", None), (1, "keep", 0), (2, "keep", 0), (3, "discard", 1)] == told(config)
    assert 0.04 == fakes.rate_of(config.mutable_path.read_text())


def test_nothing_is_asked_for_that_will_not_run(tmp_path: Path) -> None:
    """The last experiment of a run asks for no other."""
    thinker = Thinker([{"to": "0.03"}, {"to": "0.04"}])
    run(task(tmp_path, 2, prefetch=1), thinker, parabola)

    assert 2 == len(thinker.contexts)


def test_without_prefetch_everything_is_asked_in_the_loop(tmp_path: Path) -> None:
    """--prefetch 0 is the plain loop: no thread, nothing in flight, the newest best."""
    thinker = Thinker([{"to": "0.03"}, {"from": "0.03", "to": "0.04"}])
    run(task(tmp_path, 2, prefetch=0), thinker, parabola)

    assert ["MainThread", "MainThread"] == thinker.threads
    assert [(), ()] == [context.in_flight for context in thinker.contexts]


@pytest.mark.parametrize("prefetch", [0, 1])
def test_others_may_use_the_device_while_an_answer_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefetch: int
) -> None:
    """It is looked at again before the experiment starts; the answer is not asked for twice."""
    monkeypatch.setattr(pool, "GIVE_BACK_S", 0.05)
    monkeypatch.setattr(pool, "FRESH_S", 0.01)
    config, looks = task(tmp_path, 2, prefetch=prefetch), list[bool]()

    class Slow(Thinker):
        def ask(self, context: Context) -> Reply:
            assert runner.given_back.wait(10)
            runner.given_back.clear()
            return super().ask(context)

    def look() -> bool:
        looks.append(runner.given_back.is_set())
        return False

    thinker = Slow([{"to": "0.03"}, {"from": "0.03" if not prefetch else "0.02", "to": "0.04"}])
    runner = fakes.ArithmeticRunner(parabola, wait=look)
    loop = open_session(config, thinker, runner)
    with loop.journal:
        run_session(loop)

    assert 2 == len(thinker.contexts)
    assert len(looks) >= 5  # the baseline, and each of the others before and after its idea
    assert [(0, "keep", None), (1, "keep", 0), (2, "keep", 0 if prefetch else 1)] == told(config)


def test_a_refused_prefetched_reply_is_answered_in_the_loop(tmp_path: Path) -> None:
    """The refusal is told at once; the retry sees the newest best."""
    thinker = Thinker([{"to": "0.03"}, {"refuse": "no"}, {"from": "0.03", "to": "0.04"}])
    config = task(tmp_path, 2, prefetch=1)
    run(config, thinker, parabola)

    assert ["MainThread", "prefetch", "MainThread"] == thinker.threads
    assert 1 == thinker.contexts[2].champion.id
    assert [(0, "keep", None), (1, "keep", 0), (2, "keep", 1)] == told(config)


def test_what_fails_ahead_fails_the_turn_it_was_for(tmp_path: Path) -> None:
    """The running experiment ends and is recorded first."""
    config = task(tmp_path, 3, prefetch=1)
    with pytest.raises(ProposerUnavailable, match="the API is gone"):
        run(config, Thinker([{"to": "0.03"}, {}], fail_at=1), parabola)

    assert [(0, "keep", None), (1, "keep", 0)] == told(config)


def test_a_session_killed_after_a_prefetched_reply_uses_it(tmp_path: Path) -> None:
    """Paid and stored while experiment 1 ran; the next session runs 1 again, then this one."""
    config = task(tmp_path, 2, prefetch=1)
    thinker = Thinker([{"to": "0.03"}, {"to": "0.04"}])

    def die(source: str) -> Trial:
        if fakes.rate_of(source) == 0.03:
            while len(thinker.contexts) < 2 or any(t.name == "prefetch" for t in threading.enumerate()):
                pass
            raise SystemExit
        return parabola(source)

    with pytest.raises(SystemExit):
        run(config, thinker, die)
    runner = run(config, Thinker([]), parabola)

    assert [0.03, 0.04] == [fakes.rate_of(source) for source in runner.ran]
    assert ["keep", "infra", "keep", "keep"] == [status for _, status, _ in told(config)]


def test_a_replay_runs_the_same_files_in_the_same_order(tmp_path: Path) -> None:
    """Whatever wins this time; refused patches and second attempts are not part of it, and it goes on where it was."""
    first = task(tmp_path, 4)
    original = run(first, Thinker([{"to": "0.9"}, {"refuse": "a"}, {"refuse": "b"}, {"refuse": "c"}, {"to": "0.04"},
                                   {"from": "0.04", "to": "0.06"}]), parabola)  # fmt: skip
    (tmp_path / "mutable" / "train.py").write_text(fakes.TRAIN_PY)
    ran = []
    for _ in range(2):
        again = task(tmp_path, 2, "again", proposer="replay", replay_of=first.run_path)
        replay = ReplayProposer.open(first.run_path, "language-model")
        ran += run(again, replay, lambda source: fakes.scored(fakes.rate_of(source))).ran

    assert original.ran == ran
    assert ["keep", "discard", "discard", "discard"] == [status for _, status, _ in told(again)]


def test_a_replay_of_another_task_is_refused(tmp_path: Path) -> None:
    """Before the first experiment; so are a folder without a record and a record without experiments."""
    config = task(tmp_path, 1)
    run(config, Thinker([{"to": "0.9"}]), parabola)
    with pytest.raises(ConfigError, match="the run is of task 'language-model', not 'sorting'"):
        ReplayProposer.open(config.run_path, "sorting")
    with pytest.raises(ConfigError, match="no such run"):
        ReplayProposer.open(tmp_path, "language-model")
    run(task(tmp_path, 1, "empty"), Thinker([{"refuse": "x"}] * 3), parabola)
    with pytest.raises(ConfigError, match="no experiments beyond the baseline"):
        ReplayProposer.open(tmp_path / "runs" / "empty", "language-model")
