"""L3: a kept experiment and the baseline, trained anew and scored on text that nothing was picked by."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import ConfigError, SandboxError
from orchestrator.execution.slot import Slot
from orchestrator.look import show
from orchestrator.look.live_view import experiments_table
from orchestrator.loop import run_session
from orchestrator.record import confirmations
from orchestrator.record.confirmations import Runs
from orchestrator.record.journal import Journal
from orchestrator.record.verify import findings
from orchestrator.trust import confirm
from orchestrator.trust.confirm import Confirmation
from orchestrator.types import Status, Trial
from tests.support import fakes
from tests.support.sessions import parabola, session, task
from tests.trust.test_calibrate import slot

SEEDS = 3


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A run of four: the baseline, a keep, a discard, another keep."""
    loop, _, _ = session(task(tmp_path), parabola, ["0.03", "0.9", "0.04"])
    with loop.journal:
        run_session(loop)
        yield loop.journal


def on_holdout(tmp_path: Path, *scores: float) -> Slot:
    """A slot whose runs score that."""
    return slot(tmp_path, (fakes.scored(score) for score in scores))


def confirmed(
    journal: Journal, tmp_path: Path, experiment_id: int, *scores: float, told: Callable[[str], None] = str
) -> Confirmation:
    """A confirmation with these scores."""
    with on_holdout(tmp_path, *scores) as leased:
        return confirm.confirm(journal, leased, experiment_id, SEEDS, told)


def test_what_of_the_gain_is_left_is_real_and_the_rest_was_optimism(journal: Journal, tmp_path: Path) -> None:
    """The baseline is measured on the same text, so a harder text is no optimism."""
    found = confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.21, 1.22, 1.23)

    assert (1.24, 1.22) == pytest.approx((found.baseline.holdout_bpb, found.kept.holdout_bpb))
    assert (0.02, 0.02) == pytest.approx(found.gains)
    assert 0.0 == pytest.approx(found.optimism)
    assert 0.01 / 3**0.5 == pytest.approx(found.kept.standard_error)


def test_a_gain_that_is_not_there_on_other_text_is_said_not_to_hold(journal: Journal, tmp_path: Path) -> None:
    """The whole gain was optimism."""
    found = confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.24, 1.23, 1.25)
    told = "\n".join(confirm.lines(found))

    assert 0.02 == pytest.approx(found.optimism)
    assert "is not shown to hold" in told
    assert "level: L3; the val score was optimistic by +0.020000 bpb" in told


def test_the_baseline_runs_once_for_all_that_are_confirmed(journal: Journal, tmp_path: Path) -> None:
    """Six runs for the first, three for the second."""
    confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.21, 1.22, 1.23)
    told: list[str] = []
    second = confirmed(journal, tmp_path / "b", 1, 1.2, 1.2, 1.2, told=told.append)

    assert 1.24 == pytest.approx(second.baseline.holdout_bpb)
    assert ["experiment 1, run 1 of 3: 1.200000 on the holdout"] == told[:1]
    assert SEEDS == len(told)


def test_the_baseline_alone_has_no_optimism(journal: Journal, tmp_path: Path) -> None:
    """Nobody picked it."""
    found = confirmed(journal, tmp_path, 0, 1.23, 1.24, 1.25)

    assert found.is_baseline
    assert "no optimism to tell" in confirm.lines(found)[-1]


def test_it_is_on_record_and_every_view_says_l3(journal: Journal, tmp_path: Path) -> None:
    """In the journal with its files' hashes, in status, and in show; the record stays intact."""
    confirmed(journal, tmp_path, 3, 1.23, 1.24, 1.25, 1.21, 1.22, 1.23)
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(experiments_table(journal.experiments(), confirmed=confirmations.confirmed_ids(journal)))
    show.show(console, journal, journal.experiment(3))
    text = console.export_text()

    assert {0, 3} == confirmations.confirmed_ids(journal)
    assert 6 == len(
        [r for r in journal.records("seeds.revealed") if r.seq > journal.records("experiment.confirming")[0].seq]
    )
    assert 2 == sum("L3" in line.split()[:4] for line in text.splitlines())
    assert "1.220000 ± 5.8e-03 over 3 runs with other seeds, L3" in text
    assert [] == list(findings(journal.folder))


def test_a_changed_file_of_a_confirmation_is_found(journal: Journal, tmp_path: Path) -> None:
    """As any other file of the record, one that was added too."""
    confirmed(journal, tmp_path, 0, 1.23, 1.24, 1.25)
    home = next((journal.folder / "confirm").iterdir())
    (home / "run-1" / "added").write_text("x")

    assert ["added"] == [finding.split()[-1] for finding in findings(journal.folder)]


def test_only_what_was_kept_can_be_confirmed(journal: Journal, tmp_path: Path) -> None:
    """Nothing runs for another."""
    with pytest.raises(ConfigError, match="experiment 2 ended as discard"):
        confirmed(journal, tmp_path, 2)


class Elsewhere(fakes.ArithmeticRunner):
    """A runner beside other data."""

    def facts(self) -> dict[str, str]:
        """Another place."""
        return {**super().facts(), "data_sha256": "another"}


def test_other_data_confirms_nothing(journal: Journal, tmp_path: Path) -> None:
    """A holdout that belongs to another text says nothing about this score."""
    leased = on_holdout(tmp_path, 1.2)
    leased.make = lambda _: Elsewhere(lambda _: fakes.scored(1.2))
    with leased, pytest.raises(ConfigError, match="scored on other data"):
        confirm.confirm(journal, leased, 3, SEEDS, str)


def test_a_run_without_a_score_confirms_nothing(journal: Journal, tmp_path: Path) -> None:
    """The error says why, and so does the record."""
    failing: Iterator[Trial] = iter([fakes.scored(1.2), fakes.broken(Status.OOM, "was killed for memory")])
    with slot(tmp_path, failing) as leased, pytest.raises(SandboxError, match="no score on the holdout: oom"):
        confirm.confirm(journal, leased, 0, SEEDS, str)

    assert set() == confirmations.confirmed_ids(journal)
    assert ["oom"] == [one.body["failure"] for one in journal.records("experiment.not_confirmed", 0)]
    assert Status.KEEP is journal.experiment(0).status


def test_a_best_that_cheats_on_the_holdout_is_kept_no_more(journal: Journal, tmp_path: Path) -> None:
    """Its seeds are revealed, what it left is on record, every view says so, and its line is never extended."""
    failing: Iterator[Trial] = iter([fakes.scored(1.2)] * 4 + [fakes.broken(Status.CHEAT, "refused")])
    with slot(tmp_path, failing) as leased, pytest.raises(SandboxError, match=r"cheat: refused; it is kept no more"):
        confirm.confirm(journal, leased, 1, SEEDS, str)
    best, failed = journal.best(), journal.records("experiment.not_confirmed")[0]
    begun = journal.records("experiment.confirming", 1)

    assert 0 == getattr(best, "id", None)
    assert [Status.KEEP, Status.CHEAT, Status.DISCARD, Status.DISCARD] == [e.status for e in journal.experiments()]
    assert (1, "cheat", [1.2]) == (failed.experiment_id, failed.body["failure"], failed.body["holdout"])
    assert len(begun) == sum(one.seq > begun[0].seq for one in journal.records("seeds.revealed", 1))
    assert [] == list(findings(journal.folder))


def test_one_run_has_no_standard_error() -> None:
    """Infinite, so that nothing is said to hold."""
    runs = Runs(experiment_id=1, value=1.0, holdout=(1.1,))

    assert float("inf") == runs.standard_error
