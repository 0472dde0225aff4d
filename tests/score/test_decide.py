"""The verdict on a trial."""

from dataclasses import replace

import pytest

from orchestrator.scoring.decide import judge
from orchestrator.types import Status, Trial, Verdict
from tests.support import fakes
from tests.support.journals import kept


def test_the_first_score_is_kept() -> None:
    """The baseline has nothing to beat."""
    assert Status.KEEP == judge(fakes.scored(2.0), None).status


@pytest.mark.parametrize(("val_bpb", "expected"), [(1.9, Status.KEEP), (2.0, Status.DISCARD), (2.1, Status.DISCARD)])
def test_only_a_strict_improvement_is_kept(val_bpb: float, expected: Status) -> None:
    """Equal is discarded."""
    assert expected == judge(fakes.scored(val_bpb), kept(2.0)).status


@pytest.mark.parametrize(("error", "expected"), [(0.004, Status.KEEP), (0.006, Status.DISCARD)])
@pytest.mark.parametrize("whose", ["its own", "the best's"])
def test_a_gain_must_be_more_than_what_the_audits_leave_open(whose: str, error: float, expected: Status) -> None:
    """Twice the standard error of both scores: claims that are off at random within the cap gain nothing."""
    trial, best = fakes.scored(1.99), kept(2.0)
    blurred = trial if whose == "its own" else best
    assert blurred.score is not None
    score = replace(blurred.score, standard_error=error)

    assert (
        expected
        == judge(
            replace(trial, score=score) if whose == "its own" else trial,
            best if whose == "its own" else replace(best, score=score),
        ).status
    )


def test_a_new_best_needs_the_large_audit() -> None:
    """A better score that was audited at few positions is not kept."""
    assert Status.DISCARD == judge(fakes.scored(1.0, k=256), kept(2.0), needed_k=2048).status


def test_small_data_is_audited_whole() -> None:
    """Where there are fewer targets than a large audit has positions, all of them are enough."""
    trial = fakes.scored(1.0, k=256)
    assert trial.score is not None
    whole, part = (replace(trial, score=replace(trial.score, tokens=tokens)) for tokens in (256, 257))

    assert Status.KEEP is judge(whole, kept(2.0), needed_k=2048).status
    assert Status.DISCARD is judge(part, kept(2.0), needed_k=2048).status


@pytest.mark.parametrize("status", [Status.CRASH, Status.CHEAT, Status.TIMEOUT, Status.OOM, Status.INFRA])
def test_a_trial_without_a_score_keeps_its_failure(status: Status) -> None:
    """The failure is the verdict, its message the rule."""
    verdict = judge(fakes.broken(status, "why"), kept(2.0))

    assert (status, "why") == (verdict.status, verdict.reason)


@pytest.mark.parametrize("trial", [fakes.scored(0.1), fakes.broken(Status.CRASH)])
def test_what_others_disturbed_is_not_judged(trial: Trial) -> None:
    """Whatever came of it, a record or a crash; the rule names who it was."""
    verdict = judge(replace(trial, contended_by="alice's python (pid 42)"), None)

    assert Verdict(status=Status.CONTENDED, reason="not judged: alice's python (pid 42) used the device too") == verdict
