"""Duels in the real loop: at the end of a session, on one slot, with the right verdict on whatever happens in them."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from orchestrator import duels
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError
from orchestrator.events import DuelBegun, DuelEnded, Event, ExperimentBegun, ReplyReceived, SessionStarted
from orchestrator.loop import run_session
from orchestrator.propose import prefetch
from orchestrator.record import claims
from orchestrator.record.journal import DUEL, Journal
from orchestrator.record.record_file import Recorded
from orchestrator.record.verify import find_damage
from orchestrator.types import Candidate, Context, DuelOutcome, Experiment, Plan, Reply, Status, Trial
from tests.support import fakes, sessions
from tests.test_parallel import crowd


@pytest.fixture(autouse=True)
def _short_duels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of two trials can pay for a duel of four pairs."""
    monkeypatch.setattr(duels, "CLAIM_SHARE", 0.99)
    monkeypatch.setattr(duels, "MOST_PAIRS", 4)


def shipped(tmp_path: Path, experiments: int = 1, **flags: object) -> Config:
    """Return a task with the rule as it is shipped."""
    sessions.task(tmp_path)
    rule = {"noise.rule": "estimate", "limits.experiments": experiments}
    return load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", **rule, **flags})


def score_by(trial: Callable[[float, int], Trial]) -> Callable[[str], Trial]:
    """Return a score by learning rate and by how often it ran before."""
    seen = Counter[float]()

    def score(source: str) -> Trial:
        rate = fakes.rate_of(source)
        seen[rate] += 1
        return trial(rate, seen[rate] - 1)

    return score


def better(rate: float, before: int) -> Trial:
    """0.03 is better than the baseline by about 0.2."""
    return fakes.scored((2.0 if rate == 0.02 else 1.8) + 0.001 * (before % 3))


def run(config: Config, score: Callable[[str], Trial], rates: tuple[str, ...] = ("0.03",)) -> list[Experiment]:
    """Run one session, and return the trials of its duels."""
    session, _, _ = sessions.session(config, score, list(rates))
    with session.journal as journal:
        run_session(session)
        return [e for e in journal.experiments() if e.proposer == DUEL]


def ended(config: Config) -> list[DuelEnded]:
    """Return the results of the duels of a run."""
    with Journal.read(config.run_path) as journal:
        return [r.event for r in journal.events(DuelEnded)]


def test_a_session_ends_with_a_duel_of_its_champion(tmp_path: Path) -> None:
    """Four pairs, each with one training seed of its own, audited in full; the interval is on record."""
    config = shipped(tmp_path)
    session, _, runner = sessions.session(config, score_by(better), ["0.03"])
    with session.journal as journal:
        assert "1 experiment done" == run_session(session)
        begun = [r.event for r in journal.events(ExperimentBegun) if r.event.reply.proposer == DUEL]
        spent = journal.spent().experiments

    (result,) = ended(config)
    assert (1, 0, DuelOutcome.SHOWN, 4) == (result.champion_id, result.rival_id, result.outcome, result.pairs)
    assert result.low is not None
    assert result.high is not None
    assert 0 < result.low <= 0.2 <= result.high
    assert 8 == len(begun) == len(result.trials)
    seeds = [event.seeds.train_seed for event in begun]
    assert seeds[::2] == seeds[1::2]
    assert 4 == len(set(seeds))
    assert all({0, 1} == {a.remeasures_id, b.remeasures_id} for a, b in zip(begun[::2], begun[1::2], strict=True))
    assert 8 == len({event.seeds.audit_seed_sha256 for event in begun})
    assert [None] * 8 == runner.below[-8:]
    assert 1 == spent
    assert [] == list(find_damage(config.run_path))


def test_no_duel_where_there_is_nothing_to_claim_or_to_pay_with(tmp_path: Path) -> None:
    """The baseline is the champion; or `claim_hours` is 0; or the rule is that of the lowest score."""
    worse = score_by(lambda rate, _: fakes.scored(2.0 if rate == 0.02 else 2.4))

    assert [] == run(shipped(tmp_path / "a"), worse)
    assert [] == run(shipped(tmp_path / "b", **{"noise.claim_hours": 0}), score_by(better))
    assert [] == run(shipped(tmp_path / "c", **{"noise.rule": "lowest"}), score_by(better))


@pytest.mark.parametrize("status", [Status.CRASH, Status.TIMEOUT, Status.OOM])
def test_a_champion_that_fails_in_its_duel_claims_nothing(tmp_path: Path, status: Status) -> None:
    """The duel ends, the record says why, and the session ends as ever."""
    config = shipped(tmp_path)
    failing = score_by(lambda rate, n: fakes.broken(status) if rate == 0.03 and n else better(rate, n))
    run(config, failing)

    (result,) = ended(config)
    assert (DuelOutcome.FAILED, None) == (result.outcome, result.mean)
    assert f"experiment 1 ended as {status}" in result.reason


def test_a_champion_that_cheats_in_its_duel_is_not_kept_any_more(tmp_path: Path) -> None:
    """The baseline is the champion once more, and in place."""
    config = shipped(tmp_path)
    run(config, score_by(lambda rate, n: fakes.broken(Status.CHEAT) if rate == 0.03 and n else better(rate, n)))
    with Journal.read(config.run_path) as journal:
        fell, best = journal.experiment(1), journal.champion()

    (result,) = ended(config)
    assert (DuelOutcome.FAILED, Status.CHEAT) == (result.outcome, fell.status)
    assert 0 == getattr(best, "id", None)
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())


def test_a_contended_trial_voids_its_pair_only(tmp_path: Path) -> None:
    """The pair is drawn anew, nothing is queued again, and the duel ends with four pairs."""
    config = shipped(tmp_path)

    def score(rate: float, before: int) -> Trial:
        trial = better(rate, before)
        return replace(trial, contended_by="bob") if rate == 0.03 and before == 2 else trial

    trials = run(config, score_by(score))
    with Journal.read(config.run_path) as journal:
        queued = journal.queued()

    (result,) = ended(config)
    assert (DuelOutcome.SHOWN, 4) == (result.outcome, result.pairs)
    assert len(trials) in (9, 10)  # the contended one was the first or the second of its pair
    assert [] == queued


def test_a_duel_that_is_always_disturbed_ends_without_a_result(tmp_path: Path) -> None:
    """After four pairs."""
    config = shipped(tmp_path)
    run(config, score_by(lambda rate, n: replace(better(rate, n), contended_by="bob") if n else better(rate, n)))

    (result,) = ended(config)
    assert (DuelOutcome.DISTURBED, None, 4) == (result.outcome, result.mean, len(result.trials))


def test_a_duel_that_was_interrupted_is_begun_anew_by_the_next_session(tmp_path: Path) -> None:
    """Its trials are no experiments that are due; the next session ends with a duel of its own."""
    config = shipped(tmp_path)

    def interrupted(rate: float, before: int) -> Trial:
        if rate == 0.03 and before == 2:
            raise KeyboardInterrupt
        return better(rate, before)

    session, _, _ = sessions.session(config, score_by(interrupted), ["0.03"])
    with session.journal as journal:
        assert "interrupted" == run_session(session)
        assert [] == journal.queued()
        assert [] == journal.events(DuelEnded)
    run(config, score_by(better), ("0.04",))
    with Journal.read(config.run_path) as journal:
        begun = journal.events(DuelBegun)

    assert 2 == len(begun)
    assert [DuelOutcome.SHOWN] == [result.outcome for result in ended(config)]


def test_changes_in_doubt_have_a_duel_with_the_file_they_were_made_to(tmp_path: Path) -> None:
    """After the champion's with the baseline, each once; what they show moves the estimate of the change."""
    config = shipped(tmp_path, 2)

    def step_by_step(rate: float, before: int) -> Trial:
        return fakes.scored({0.02: 2.0, 0.03: 1.8, 0.04: 1.795}[rate] + 0.004 * (before % 3 - 1))

    run(config, score_by(step_by_step), ("0.03", "0.04"))
    with Journal.read(config.run_path) as journal:
        begun = [(r.event.champion_id, r.event.rival_id) for r in journal.events(DuelBegun)]
        line = claims.describe_claim(journal)

    assert len(begun) == len(set(begun)) == len(ended(config)) > 1
    assert 0 == begun[0][1]
    assert {(1, 0), (2, 1)} & set(begun[1:])
    assert all(parent == child - 1 for child, parent in begun[1:])
    assert "the baseline" in line


def test_a_duel_stays_on_one_slot(tmp_path: Path) -> None:
    """Of two, whichever ended last; the other device is given back."""
    config = shipped(tmp_path, 3, parallel=2)
    session, runners = crowd(config, score_by(better), ["0.03", "0.5", "0.6"])
    with session.journal as journal:
        run_session(session)
        trials = [e for e in journal.experiments() if e.proposer == DUEL]

    assert 8 == len(trials)
    assert any(len(runner.ran) >= 8 and not runner.given_back.is_set() for runner in runners)
    assert any(runner.given_back.is_set() for runner in runners)


# ---- while the answer of the LLM is late


@dataclass(slots=True)
class SlowProposer(fakes.ScriptedProposer):
    """Has its second answer when a test says so."""

    may_answer: threading.Event = field(default_factory=threading.Event)
    at_most_s: float = 60.0

    def ask(self, context: Context) -> Reply:
        """Wait, and answer."""
        if self.asked == 1:
            self.may_answer.wait(self.at_most_s)
        return fakes.ScriptedProposer.ask(self, context)


@dataclass(slots=True)
class NamedRunner(fakes.ArithmeticRunner):
    """Knows which experiments it ran."""

    ids: list[int] = field(default_factory=list)

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Remember it, and apply the function."""
        self.ids.append(experiment_id)
        return fakes.ArithmeticRunner.run(self, candidate, plan, experiment_id=experiment_id, folder=folder, best=best)


@dataclass(slots=True, kw_only=True)
class Seen:
    """A session whose second answer was late: until so many trials of duels had begun."""

    order: list[str] = field(default_factory=list)  # proposers, as their experiments began
    ended: list[DuelEnded] = field(default_factory=list)
    runners: list[NamedRunner] = field(default_factory=list)
    config: Config


def wait_idle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    score: Callable[[str], Trial],
    until: int,
    at_most_s: float = 60.0,
    **flags: object,
) -> Seen:
    """Run a session of two ideas."""
    monkeypatch.setattr(prefetch, "LATE_S", 0.02)
    monkeypatch.setattr(duels, "MOST_PAIRS", 4)
    config = shipped(tmp_path, 2, prefetch=1, **flags)
    runners = [NamedRunner(score) for _ in range(config.parallel)]
    proposer = SlowProposer(["0.03", "0.9"], at_most_s=at_most_s)
    session = sessions.open_session(config, proposer, *runners)
    seen, answered = Seen(config=config, runners=runners), threading.Event()

    def hear(recorded: Recorded[Event]) -> None:
        if isinstance(recorded.event, ExperimentBegun):
            seen.order.append(recorded.event.reply.proposer)
            if seen.order.count(DUEL) >= until:
                proposer.may_answer.set()
                answered.wait(at_most_s)
        if isinstance(recorded.event, ReplyReceived) and proposer.asked > 1:
            answered.set()
        if isinstance(recorded.event, DuelEnded):
            seen.ended.append(recorded.event)
            if until > 8:  # whatever the duel comes to
                proposer.may_answer.set()

    session.journal.subscribe(hear)
    with session.journal as journal:
        run_session(session)
        assert [] == list(find_damage(config.run_path))
        assert [] == journal.queued()
    return seen


def in_doubt(rate: float, before: int) -> Trial:
    """0.03 is better than the baseline by 0.002, with noise of 0.001; 0.9 is worse."""
    return fakes.scored({0.02: 2.0, 0.03: 1.998, 0.9: 2.1}[rate] + 0.001 * (before % 3 - 1))


def test_a_change_in_doubt_has_its_duel_while_an_answer_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it where there is time; the idea starts then, and the duel counts as what it is."""
    seen = wait_idle(tmp_path, monkeypatch, score_by(in_doubt), 8)

    assert ["baseline", "scripted", *[DUEL] * 8, "scripted"] == seen.order[:11]
    first = seen.ended[0]
    assert (1, 0, 8, True) == (first.champion_id, first.rival_id, len(first.trials), first.idle)


@pytest.mark.parametrize("until", [1, 2, 3])
def test_an_idea_waits_for_the_pair_that_runs_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    """The pair is whole before the idea starts; at the end of the session the duel gives way to the champion's."""
    seen = wait_idle(tmp_path, monkeypatch, score_by(in_doubt), until)
    trials = seen.order[2:].index("scripted")

    assert until <= trials <= until + 3
    assert 0 == trials % 2
    first, *others = seen.ended
    assert (DuelOutcome.UNFINISHED, None, True) == (first.outcome, first.mean, first.idle)
    assert [False] * len(others) == [one.idle for one in others]
    assert 0 == others[0].rival_id


def test_idle_time_is_not_used_where_nothing_pays_for_a_duel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`claim_hours` is 0, or too little device time was used so far: the idea is waited for."""
    free = wait_idle(tmp_path / "a", monkeypatch, score_by(in_doubt), 99, 0.3, **{"noise.claim_hours": 0})
    monkeypatch.setattr(duels, "CLAIM_SHARE", 0.1)
    early = wait_idle(tmp_path / "b", monkeypatch, score_by(in_doubt), 99, 0.3)

    assert ["baseline", "scripted", "scripted"] == free.order == early.order


@pytest.mark.parametrize("status", [Status.CRASH, Status.TIMEOUT, Status.OOM])
def test_a_failure_ends_an_idle_duel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: Status) -> None:
    """At once, on record, and the idea that comes then is tried."""
    score = score_by(lambda rate, n: fakes.broken(status) if rate == 0.03 and n == 1 else in_doubt(rate, n))
    seen = wait_idle(tmp_path, monkeypatch, score, 9)

    first = seen.ended[0]
    assert (DuelOutcome.FAILED, True) == (first.outcome, first.idle)
    assert f"experiment 1 ended as {status}" in first.reason
    assert 2 == seen.order.count("scripted")


def test_a_cheat_in_an_idle_duel_is_not_kept_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline is the champion once more while the session goes on."""
    score = score_by(lambda rate, n: fakes.broken(Status.CHEAT) if rate == 0.03 and n == 1 else in_doubt(rate, n))
    seen = wait_idle(tmp_path, monkeypatch, score, 9)
    with Journal.read(seen.config.run_path) as journal:
        fell, best = journal.experiment(1), journal.champion()

    assert (DuelOutcome.FAILED, True) == (seen.ended[0].outcome, seen.ended[0].idle)
    assert Status.CHEAT is fell.status
    assert 0 == getattr(best, "id", None)
    assert 0.02 == fakes.rate_of(seen.config.mutable_path.read_text())
    assert 2 == seen.order.count("scripted")


def test_contention_in_an_idle_duel_voids_its_pair_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn anew, within the same idle time."""

    def score(rate: float, before: int) -> Trial:
        trial = in_doubt(rate, before)
        return replace(trial, contended_by="bob") if rate == 0.03 and before == 2 else trial

    seen = wait_idle(tmp_path, monkeypatch, score_by(score), 9)

    assert (4, True) == (seen.ended[0].pairs, seen.ended[0].idle)
    assert len(seen.ended[0].trials) in (9, 10)


def test_an_idle_duel_stays_on_one_slot_while_ideas_run_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The idea that arrives starts at once on the other one."""
    began = threading.Event()

    def score(rate: float, before: int) -> Trial:
        if rate == 0.9:
            began.set()
        elif rate == 0.03 and before:  # in the duel
            assert began.wait(60)
        return in_doubt(rate, before)

    seen = wait_idle(tmp_path, monkeypatch, score_by(score), 1, parallel=2)
    idea = seen.order.index("scripted", 2)
    duel = [number for number, proposer in enumerate(seen.order) if proposer == DUEL][:2]
    beside = next(runner for runner in seen.runners if idea in runner.ids)

    assert idea in (3, 4)
    assert not {*duel} & {*beside.ids}


def test_a_run_of_an_earlier_rule_goes_on_only_as_another_run(tmp_path: Path) -> None:
    """One line that says so; it is read as ever."""
    config = shipped(tmp_path)
    session, _, _ = sessions.session(config, score_by(better), ["0.03"])
    with session.journal as journal:
        run_session(session)
        started = journal.events(SessionStarted)[0].event
        journal.append(replace(started, rule=""))
    again, _, _ = sessions.session(config, score_by(better), ["0.04"])
    with again.journal, pytest.raises(ConfigError, match=r"an earlier rule of keeping.*another run.*--run NAME"):
        run_session(again)
    lowest = load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", "noise.rule": "lowest"})
    other, _, _ = sessions.session(lowest, score_by(better), ["0.04"])
    with other.journal, pytest.raises(ConfigError, match="--run NAME"):
        run_session(other)
    with Journal.read(config.run_path) as journal:
        assert 1 == getattr(journal.champion(), "id", None)
