"""What a night would cost, before anything is sent."""

import sys
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.config import load
from orchestrator.propose.estimate import ANSWER_TOKENS, LESSONS_PROMPT_TOKENS, estimate_cost
from orchestrator.record.journal import Journal
from orchestrator.types import Usage
from tests.propose.test_night import task
from tests.support.fake_messages_api import FakeMessagesApi
from tests.support.journals import finish, kept


def test_an_estimate_is_the_prompt_times_price_times_experiments(tmp_path: Path) -> None:
    """What is cached at its price, the rest and the answer at theirs, for as many experiments as fit."""
    with FakeMessagesApi() as api:
        config = task(tmp_path, api, **{"limits.hours": 1.0, "limits.experiments": 0})
    found = estimate_cost(config)
    read = (found.cached_tokens * 0.5 + found.fresh_tokens * 5 + ANSWER_TOKENS * 25) / 1e6
    written = read + found.cached_tokens * (6.25 - 0.5) / 1e6

    assert 3600 / 25 == found.fitting == found.experiments
    assert pytest.approx(0.9 * read + 0.1 * written) == found.call_usd
    assert pytest.approx(144 * (found.call_usd or 0) + (found.lessons_usd or 0)) == found.likely_usd
    assert pytest.approx(6 * (LESSONS_PROMPT_TOKENS * 5 + ANSWER_TOKENS * 25) / 1e6) == found.lessons_usd
    assert (found.worst_usd or 0) > 144 * config.claude.max_attempts * config.claude.max_output_tokens * 25 / 1e6


def test_the_limit_on_experiments_and_a_missing_price_are_said(tmp_path: Path) -> None:
    """Eight hours where nothing says how long; without a price tokens only."""
    with FakeMessagesApi() as api:
        config = task(tmp_path, api, **{"claude.model": "local", "limits.max_usd": 0.0})
    found = estimate_cost(config)

    assert (8 * 3600 // 25, 100) == (found.fitting, found.experiments)
    assert (None, None, None) == (found.call_usd, found.likely_usd, found.worst_usd)
    assert "[prices.models] has no 'local'" in found.lines()[-1]


def test_an_estimate_sends_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs neither key nor engine, prints the sums, and leaves no run behind."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with FakeMessagesApi() as api:
        config = task(tmp_path, api)
        monkeypatch.setenv("AUTORESEARCH_CLAUDE__BASE_URL", api.url)
        monkeypatch.setattr(sys, "argv", ["autoresearch", "estimate", "--task", str(tmp_path)])
        with pytest.raises(SystemExit) as ended:
            cli.main()

        assert not ended.value.code
        assert [] == [*api.checks, *api.requests]
    printed = capsys.readouterr().out
    assert estimate_cost(load(tmp_path, {"tag": "t", "runs": config.runs})).lines() == printed.splitlines()
    assert "it ends before it has cost $10.00 (max_usd)" in printed
    assert not config.runs.exists()


def test_what_was_really_spent_is_in_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dollars and tokens of the whole run, calls that may still be going on at their worst."""
    usage = Usage(input_tokens=40_000, output_tokens=2_000, cost_usd=0.25)
    with Journal.open(tmp_path / "runs" / "t") as journal:
        finish(journal, kept(1.0, folder=tmp_path / "runs" / "t" / "0000"))
        journal.settle(journal.reserve(usage), usage)
        journal.reserve(usage)
    monkeypatch.setattr(sys, "argv", ["autoresearch", "status", "--task", str(tmp_path), "--run", "t"])
    with pytest.raises(SystemExit):
        cli.main()

    assert "spent: $0.50 for 84,000 tokens" in capsys.readouterr().out
