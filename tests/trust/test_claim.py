"""A duel on request: on record, by the rule of those at the end of a session."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.duels import Duel
from orchestrator.errors import ConfigError
from orchestrator.events import DuelEnded
from orchestrator.loop import run_session
from orchestrator.policy import Rules
from orchestrator.record.claims import describe_claim
from orchestrator.record.journal import Journal
from orchestrator.record.verify import find_damage
from orchestrator.settings import Noise
from orchestrator.trust.claim import run_duel
from orchestrator.types import DuelOutcome, Status, Trial
from tests.support import fakes
from tests.support.sessions import parabola, session, task
from tests.trust.test_calibrate import slot

RULES = Rules(noise=Noise(), time_budget_s=25.0)
DUEL = Duel(champion_id=3, rival_id=0, most=4)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return the journal of a run of four: the baseline, a keep, a discard, another keep."""
    loop, _, _ = session(task(tmp_path), parabola, ["0.03", "0.9", "0.04"])
    with loop.journal:
        run_session(loop)
        yield loop.journal


def test_a_duel_on_request_is_on_record(journal: Journal, tmp_path: Path) -> None:
    """Its trials, its interval, no idea counted; the record is intact. Equal scores show nothing."""
    before, told = journal.spent().experiments, list[str]()
    scores = (fakes.scored(1.0 + 0.01 * (n // 2 % 3)) for n in itertools.count())
    with slot(tmp_path, scores) as leased:
        run_duel(journal, leased, RULES, DUEL, told.append)
    (ended,) = [r.event for r in journal.events(DuelEnded)]

    assert (DuelOutcome.NOT_SHOWN, 4, 8) == (ended.outcome, ended.pairs, len(ended.trials))
    assert 8 == len(told)
    assert before == journal.spent().experiments
    assert describe_claim(journal).startswith("experiment 3 is not shown to be better than the baseline: a gain of")
    assert [] == list(find_damage(journal.folder))


def test_a_cheat_in_a_duel_on_request_is_not_kept_any_more(journal: Journal, tmp_path: Path) -> None:
    """As in a session."""
    trials: Iterator[Trial] = itertools.repeat(fakes.broken(Status.CHEAT, "refused"))
    with slot(tmp_path, trials) as leased:
        run_duel(journal, leased, RULES, DUEL, str)
    (ended,) = [r.event for r in journal.events(DuelEnded)]

    assert DuelOutcome.FAILED is ended.outcome
    assert Status.CHEAT in {journal.experiment(3).status, journal.experiment(0).status}


@pytest.mark.parametrize(("number", "why"), [(2, "ended as discard"), (0, "is the baseline")])
def test_only_a_kept_change_has_a_gain_to_claim(journal: Journal, tmp_path: Path, number: int, why: str) -> None:
    """The others are refused before anything runs."""
    with slot(tmp_path, iter(())) as leased, pytest.raises(ConfigError, match=why):
        run_duel(journal, leased, RULES, Duel(champion_id=number, rival_id=0, most=4), str)
