"""Parsing the scorer's output, and the verdict."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scoring.decide import judge, parse_reported, parse_score, refused
from orchestrator.types import Level, Score, Status, Trial, Verdict
from tests.support import fakes
from tests.support.journals import kept

GOOD = "---\nval_bpb: 1.234500\nstandard_error: 1.00e-05\nlevel: L2\naudited_positions: 256\ntokens: 32768\n"


def test_a_well_formed_output_is_a_score() -> None:
    """One finite line and one level make a score."""
    score = parse_score(GOOD)

    assert score is not None
    assert (1.2345, Level.L2, 256, 1e-5) == (
        score.value,
        score.level,
        score.audited_positions,
        score.standard_error,
    )


UPSTREAM = "---\nval_bpb:          0.997900\ntraining_seconds: 300.1\n"


def test_what_a_script_reports_is_l0() -> None:
    """As upstream prints it; the last one counts."""
    assert Score(value=0.9979, level=Level.L0) == parse_reported(f"val_bpb:  1.5\n{UPSTREAM}")


@pytest.mark.parametrize(
    "output",
    [
        "",
        "val_bpb: nan\n",
        "val_bpb: 0.0\n",
        "val_bpb: -1.0\n",
        "val_bpb:\n0.9\n",
        "best val_bpb: 0.9\n",
        f"{UPSTREAM}val_bpb: x\n",
    ],
)
def test_what_is_no_number_is_no_report(output: str) -> None:
    """A missing number is none, never 0.0."""
    assert parse_reported(output) is None


@pytest.mark.parametrize(
    "output",
    [
        "",
        "level: L2\n",
        GOOD + "val_bpb: 0.1\n",
        GOOD.replace("1.234500", "nan"),
        GOOD.replace("1.234500", "inf"),
        GOOD.replace("1.234500", "1e999"),
        GOOD.replace("1.234500", "0x1"),
        GOOD.replace("1.234500", "1_000"),
        GOOD.replace("1.234500", "١.٢"),  # noqa: RUF001  # digits, but not ours
        GOOD.replace("val_bpb", " val_bpb"),
        GOOD.replace("L2", "L9"),
        GOOD.replace("level: L2\n", ""),
    ],
)
def test_anything_else_is_no_score(output: str) -> None:
    """Two lines, no line, no finite number or no level: None, never 0.0."""
    assert parse_score(output) is None


@given(st.floats(0, 100), st.integers(2, 5))
def test_a_repeated_line_is_never_a_score(value: float, times: int) -> None:
    """However often and whatever is repeated."""
    assert parse_score(GOOD.replace("val_bpb: 1.234500\n", f"val_bpb: {value:.6f}\n" * times)) is None


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a score or None."""
    parse_score(text)
    refused(text)


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
