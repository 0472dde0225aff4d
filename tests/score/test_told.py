"""What a train.py says of itself: bounded, finite, only what is known by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scoring.self_reported import UNITS, describe_figures, parse_figures, parse_reported
from orchestrator.types import Level, Score

SUMMARY = "---\nstartup_seconds:  3.6\ntokens_per_second: 30463\nmfu_percent:      41.20\nnum_steps:        295\n"
UPSTREAM = "---\nval_bpb:          0.997900\ntraining_seconds: 300.1\n"


def test_the_figures_are_found_and_said_in_words() -> None:
    """Those known by name, the last of each."""
    found = parse_figures(SUMMARY + "startup_seconds:  4.5\n")

    assert {"startup_seconds": 4.5, "tokens_per_second": 30463.0, "mfu_percent": 41.2} == found
    assert "4.5 s of start-up, 30,463 tokens/s, 41.2 % MFU" == describe_figures(found)
    assert "" == describe_figures(parse_figures("nothing of the kind")) == describe_figures({"mfu_percent": "<b>"})


@given(st.sampled_from(sorted(UNITS)), st.text(alphabet="0123456789.e+-naif ", max_size=40))
def test_whatever_is_printed_is_a_finite_number_or_nothing(name: str, text: str) -> None:
    """So that the record stays JSON that any tool reads."""
    assert all(0 <= value < float("inf") for value in parse_figures(f"{name}: {text}").values())


def test_what_a_script_reports_is_l0() -> None:
    """As upstream prints it; the last one counts."""
    assert Score(value=0.9979, level=Level.L0) == parse_reported(f"val_bpb:  1.5\n{UPSTREAM}", "val_bpb")


@pytest.mark.parametrize(
    "output",
    [
        "",
        "val_bpb: nan\n",
        "val_bpb: inf\n",
        "val_bpb: 1e999\n",
        "val_bpb: 0x1\n",
        "val_bpb: 1_000\n",
        "val_bpb: ١.٢\n",  # noqa: RUF001  # digits, but not ours
        "val_bpb: 0.0\n",
        "val_bpb: -1.0\n",
        "val_bpb:\n0.9\n",
        "best val_bpb: 0.9\n",
        f"{UPSTREAM}val_bpb: x\n",
    ],
)
def test_what_is_no_number_is_no_report(output: str) -> None:
    """A missing number is none, never 0.0."""
    assert parse_reported(output, "val_bpb") is None
