"""Quiet hours and the pause file: when no experiment starts."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.devices.schedule import StartGate, parse_quiet_hours, pause, resume
from orchestrator.errors import ConfigError, RecordFailed


def at(text: str) -> datetime:
    """A time of some day."""
    return datetime.fromisoformat(f"2026-11-23T{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "quiet", "loud"),
    [
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "21:59"]),
        ("09:30-17:00", ["09:30", "16:59"], ["09:29", "17:00", "00:00"]),
        (" 8:00-9:00 ", ["08:30"], ["07:59", "09:00"]),
    ],
)
def test_quiet_hours_may_go_over_midnight(hours: str, quiet: list[str], loud: list[str]) -> None:
    """The first minute is within, the last one is not."""
    parsed = parse_quiet_hours(hours)

    assert parsed is not None
    assert [True] * len(quiet) == [parsed.covers(at(text)) for text in quiet]
    assert [False] * len(loud) == [parsed.covers(at(text)) for text in loud]


@pytest.mark.parametrize("text", ["22-6", "22:00", "24:00-06:00", "22:00-06:60", "22:00-22:00", "22:00-06:00 CET", "x"])
def test_hours_that_make_no_sense_are_named(text: str) -> None:
    """With how to write them."""
    with pytest.raises(ConfigError, match="QUIET_HOURS"):
        parse_quiet_hours(text)


def test_no_quiet_hours_are_none() -> None:
    """The default."""
    assert parse_quiet_hours("") is None


def test_a_gate_is_closed_by_hours_and_by_the_pause_file(tmp_path: Path) -> None:
    """And says what would open it."""
    gate = StartGate(run=tmp_path, hours=parse_quiet_hours("22:00-06:00"))

    assert "quiet hours until 06:00" == gate.block_reason(at("23:00"))
    assert "" == gate.block_reason(at("12:00"))
    pause(tmp_path)
    pause(tmp_path)
    assert f"`autoresearch resume --run {tmp_path.name}`" in gate.block_reason(at("12:00"))
    resume(tmp_path)
    resume(tmp_path)
    assert "" == gate.block_reason(at("12:00"))


def test_waiting_at_the_gate_ends_with_resume(tmp_path: Path) -> None:
    """And tells why once."""
    pause(tmp_path)
    threading.Timer(0.1, resume, (tmp_path,)).start()
    told: list[str] = []
    began = time.monotonic()
    StartGate(run=tmp_path, poll_s=0.01).wait(told.append)

    assert time.monotonic() - began >= 0.1
    assert 1 == len(told)


def test_a_run_that_does_not_exist_cannot_be_paused(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(RecordFailed, match="nowhere"):
        pause(tmp_path / "nowhere")
