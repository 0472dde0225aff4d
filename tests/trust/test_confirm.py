"""L3: a kept experiment and the baseline, trained again and scored on text that selected nothing."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import ConfigError, SandboxError
from orchestrator.events import ConfirmationBegun, ConfirmationFailed, SeedsRevealed
from orchestrator.execution.slot import Slot
from orchestrator.look.live_view import experiments_table
from orchestrator.look.show import show_experiment
from orchestrator.loop import run_session
from orchestrator.record import confirmations
from orchestrator.record.confirmations import HoldoutScores
from orchestrator.record.journal import Journal
from orchestrator.record.verify import find_damage
from orchestrator.trust.confirm import Confirmation, confirm_experiment, describe_confirmation
from orchestrator.types import Environment, Status, Trial
from tests.support import fakes
from tests.support.sessions import parabola, session, task
from tests.trust.test_calibrate import slot

SEEDS = 3


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return the journal of a run of four: the baseline, a keep, a discard, another keep."""
    loop, _, _ = session(task(tmp_path), parabola, ["0.03", "0.9", "0.04"])
    with loop.journal:
        run_session(loop)
        yield loop.journal


def on_holdout(tmp_path: Path, *scores: float) -> Slot:
    """Return a slot whose trials score that."""
    return slot(tmp_path, (fakes.scored(score) for score in scores))


def confirmed(
    journal: Journal, tmp_path: Path, experiment_id: int, *scores: float, told: Callable[[str], None] = str
) -> Confirmation:
    """Return a confirmation with these scores."""
    with on_holdout(tmp_path, *scores) as leased:
        return confirm_experiment(journal, leased, experiment_id, SEEDS, told)


def test_what_of_the_gain_is_left_is_real_and_the_rest_was_optimism(journal: Journal, tmp_path: Path) -> None:
    """The baseline is measured on the same text, so a harder text is no optimism."""
    found = confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.21, 1.22, 1.23)

    assert (1.24, 1.22) == pytest.approx((found.baseline.mean, found.kept.mean))
    assert (0.02, 0.02) == pytest.approx(found.gains)
    assert 0.0 == pytest.approx(found.optimism)
    assert 0.01 / 3**0.5 == pytest.approx(found.kept.standard_error)


def test_a_gain_that_is_not_there_on_other_text_is_said_not_to_hold(journal: Journal, tmp_path: Path) -> None:
    """The whole gain was optimism."""
    found = confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.24, 1.23, 1.25)
    told = "\n".join(describe_confirmation(found))

    assert 0.02 == pytest.approx(found.optimism)
    assert "is not shown to hold" in told
    assert "level: L3; the val score was optimistic by +0.020000" in told


def test_the_baseline_runs_once_for_all_that_are_confirmed(journal: Journal, tmp_path: Path) -> None:
    """Six trials for the first, three for the second."""
    confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.21, 1.22, 1.23)
    told: list[str] = []
    second = confirmed(journal, tmp_path / "b", 1, 1.2, 1.2, 1.2, told=told.append)

    assert 1.24 == pytest.approx(second.baseline.mean)
    assert ["experiment 1, trial 1 of 3: 1.200000 on the holdout"] == told[:1]
    assert SEEDS == len(told)


def test_the_baseline_alone_has_no_optimism(journal: Journal, tmp_path: Path) -> None:
    """Nothing selected it."""
    found = confirmed(journal, tmp_path, 0, 1.23, 1.24, 1.25)

    assert found.is_baseline
    assert "no optimism to report" in describe_confirmation(found)[-1]


def test_it_is_on_record_and_every_view_says_l3(journal: Journal, tmp_path: Path) -> None:
    """In the journal with its files' hashes, in status, and in show; the record stays intact."""
    confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.21, 1.22, 1.23)
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(
        experiments_table(journal.experiments(), journal.metric(), confirmed=confirmations.confirmed_ids(journal))
    )
    show_experiment(console, journal, journal.experiment(3))
    text = console.export_text()

    assert {0, 3} == confirmations.confirmed_ids(journal)
    assert 6 == len([r for r in journal.events(SeedsRevealed) if r.seq > journal.events(ConfirmationBegun)[0].seq])
    assert 2 == sum("L3" in line.split()[:4] for line in text.splitlines())
    assert "1.220000 ± 5.8e-03 over 3 trials with other seeds, L3" in text
    assert [] == list(find_damage(journal.folder))


def test_a_changed_file_of_a_confirmation_is_found(journal: Journal, tmp_path: Path) -> None:
    """As any other file of the record, one that was added too."""
    confirmed(journal, tmp_path, 0, 1.23, 1.24, 1.25)
    home = next((journal.folder / "confirm").iterdir())
    (home / "trial-1" / "added").write_text("x")

    assert ["added"] == [finding.split()[-1] for finding in find_damage(journal.folder)]


def test_only_what_was_kept_can_be_confirmed(journal: Journal, tmp_path: Path) -> None:
    """Nothing runs for another."""
    with pytest.raises(ConfigError, match="experiment 2 ended as discard"):
        confirmed(journal, tmp_path, 2)


class Elsewhere(fakes.ArithmeticRunner):
    """A runner beside other data."""

    def environment(self) -> Environment:
        """Return another environment."""
        return replace(fakes.ArithmeticRunner.environment(self), data_sha256="another")


def test_other_data_confirms_nothing(journal: Journal, tmp_path: Path) -> None:
    """A holdout that belongs to another text says nothing about this score."""
    leased = on_holdout(tmp_path, 1.2)
    leased.make = lambda _: Elsewhere(lambda _: fakes.scored(1.2))
    with leased, pytest.raises(ConfigError, match="scored on other data"):
        confirm_experiment(journal, leased, 3, SEEDS, str)


def test_a_trial_without_a_score_confirms_nothing(journal: Journal, tmp_path: Path) -> None:
    """The error says why, and so does the record."""
    failing: Iterator[Trial] = iter([fakes.scored(1.2), fakes.broken(Status.OOM, "was killed for memory")])
    with slot(tmp_path, failing) as leased, pytest.raises(SandboxError, match="no score on the holdout: oom"):
        confirm_experiment(journal, leased, 0, SEEDS, str)

    assert set() == confirmations.confirmed_ids(journal)
    assert [Status.OOM] == [one.event.failure for one in journal.events(ConfirmationFailed, 0)]
    assert Status.KEEP is journal.experiment(0).status


def test_one_that_cheats_on_the_holdout_is_not_kept_any_more(journal: Journal, tmp_path: Path) -> None:
    """Its seeds are revealed, what it left is on record, every view says so, and its line is never extended."""
    failing: Iterator[Trial] = iter([fakes.scored(1.2)] * 4 + [fakes.broken(Status.CHEAT, "refused")])
    with (
        slot(tmp_path, failing) as leased,
        pytest.raises(SandboxError, match=r"cheat: refused; it is not kept any more"),
    ):
        confirm_experiment(journal, leased, 1, SEEDS, str)
    best, failed = journal.champion(), journal.events(ConfirmationFailed)[0].event
    begun = journal.events(ConfirmationBegun, 1)

    assert 0 == getattr(best, "id", None)
    assert [Status.KEEP, Status.CHEAT, Status.DISCARD, Status.DISCARD] == [e.status for e in journal.experiments()]
    scores = [score.value for score in failed.scores]
    assert (1, Status.CHEAT, [1.2]) == (failed.experiment_id, failed.failure, scores)
    assert len(begun) == sum(one.seq > begun[0].seq for one in journal.events(SeedsRevealed, 1))
    assert [] == list(find_damage(journal.folder))


def test_one_trial_has_no_standard_error() -> None:
    """Infinite, so that nothing is said to hold."""
    scores = HoldoutScores(experiment_id=1, value=1.0, holdout=(1.1,))

    assert float("inf") == scores.standard_error
