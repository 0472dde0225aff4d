"""The list of faults an LLM's API is known for, one row each: through the real loop, to the right end."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.errors import ConfigError, ProposerUnavailable
from orchestrator.record.journal import Journal
from orchestrator.types import Status
from tests.propose.test_night import sleep_through, task
from tests.support.api_rules import KINDS, Cache, refusal
from tests.support.fake_messages_api import TODAY, Failure, FakeMessagesApi, Message, proposal

MODEL, OLDER = "claude-opus-5-5", "claude-opus-5"
DONE = "^3 experiments done$"


def good(body: dict[str, Any]) -> str:
    """The next rate, which is better."""
    shown = next(block["text"] for block in body["messages"][0]["content"] if block["text"].startswith("# The best"))
    (now,) = re.findall(r"^LEARNING_RATE = ([0-9.e-]+)$", shown, re.MULTILINE)
    return proposal(f"LEARNING_RATE = {now}", f"LEARNING_RATE = {round(float(now), 3) + 0.004001:.6f}", "higher")


def answered(**changes: Any) -> Callable[[dict[str, Any]], Message]:
    """A good proposal whose message is changed."""
    return lambda body: Message(**{"arguments": good(body), "input_tokens": None} | changes)


def in_stream(kind: str) -> Callable[[dict[str, Any]], Message]:
    """A stream that begins well and ends in an error."""
    return answered(error_after=(4, kind))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What comes second, after one good answer and before others, and what becomes of the session."""

    faults: tuple[Any, ...]
    end: str = DONE  # of the session, as a pattern
    requests: int  # for proposals, all in all
    flags: dict[str, object] = field(default_factory=dict)
    waits: int = 0
    kind: str = "anthropic"
    bill_is_known: bool = True


SLOW = Failure(status=429, kind="rate_limit_error", headers={"retry-after": "3600"}, message="Slow down.")
REFUSED = Message(stop_reason="refusal", category="frontier_llm", output_tokens=0)
COMPATIBLE = {"claude.endpoint": "compatible", "limits.max_usd": 0.0}
ROWS = {
    "1 overloaded in the stream": Row(faults=(in_stream("overloaded_error"),) * 3, requests=6, waits=3),
    "1 an invalid request in the stream": Row(
        faults=(in_stream("invalid_request_error"),), end="was refused .*invalid_request_error", requests=2
    ),
    "1 a wrong key in the stream": Row(
        faults=(in_stream("authentication_error"),), end="invalid API key; set ANTHROPIC_API_KEY", requests=2
    ),
    "1 no permission in the stream": Row(
        faults=(in_stream("permission_error"),), end="the key may not use .*; fix .claude. model", requests=2
    ),
    "1 billing in the stream": Row(
        faults=(in_stream("billing_error"),), end="a billing problem; resolve it", requests=2
    ),
    "2 a forced tool": Row(
        faults=(Failure(status=400, kind="invalid_request_error", message="tool_choice: forced tool use is not"),),
        end='forced tool use .*answer = "text"', requests=2,
    ),
    "2 tools, not forced": Row(faults=(), requests=3, flags={"claude.answer": "tool"}),
    "3 no credit": Row(
        faults=(Failure(status=400, kind="invalid_request_error", message="Your credit balance is too low"),),
        end="credit balance is too low", requests=2,
    ),
    "4 three refusals": Row(
        faults=(REFUSED,) * 3, end=r"3 answers in a row .*frontier_llm.*fallback_models", requests=4
    ),
    "4 two refusals": Row(faults=(REFUSED,) * 2, requests=5),
    "5 a rate limit that says nothing": Row(
        faults=(Failure(status=429, kind="rate_limit_error"),) * 2, requests=5, waits=2
    ),
    "5 a spend limit": Row(
        faults=(Failure(status=429, kind="rate_limit_error", code="enforced_spend_limit_reached"),),
        end="a spend limit is reached; raise it", requests=2,
    ),
    "5 an hour is asked for, and there is less": Row(
        faults=(SLOW,), end="no answer within .* 429 Slow down", requests=2, flags={"claude.max_wait_hours": 0.5}
    ),
    "5 a moment is asked for": Row(
        faults=(Failure(status=429, headers={"retry-after": "0.02"}),), requests=4, waits=1
    ),
    "5 overloaded": Row(faults=(Failure(status=529, kind="overloaded_error"),) * 5, requests=8, waits=5),
    "6 whole, but cut off": Row(faults=(answered(stop_reason="max_tokens"),), requests=4),
    "7 thinking only": Row(faults=(Message(thinking=True, stop_reason="end_turn", input_tokens=None),), requests=4),
    "8 fenced": Row(faults=(answered(form="fenced"),), requests=3),
    "8 words around it": Row(faults=(answered(form="words around it"),), requests=3),
    "9 paused": Row(faults=(answered(stop_reason="pause_turn"),), requests=4),
    "9 an unknown reason to stop": Row(faults=(answered(stop_reason="moonrise"),), requests=4),
    "10 no tools, no marks": Row(faults=(), requests=3, kind="ollama", flags=COMPATIBLE | {"claude.model": "local"}),
    "10 no usage": Row(
        faults=(), requests=3, kind="strict gateway", flags=COMPATIBLE | {"claude.model": "local"}, bill_is_known=False
    ),
    "10 no counting of tokens": Row(faults=(), requests=3),  # the emulator has none either
    "11 retired meanwhile": Row(
        faults=(Failure(status=404, kind="not_found_error", message=f"model: {MODEL}"),),
        end=f"unknown model '{MODEL}'; fix .claude. model", requests=2,
    ),
    "12 across a price band": Row(
        faults=(answered(input_tokens=99_000), answered(input_tokens=101_000)), requests=3,
        flags={"claude.model": "claude-haiku-5-5"},
    ),
    "13 two calls": Row(faults=(answered(calls=2),), requests=4, flags={"claude.answer": "tool"}),
    "13 an unknown field": Row(
        faults=(lambda body: Message(arguments=json.dumps(json.loads(good(body)) | {"mood": "good"})),),
        requests=3,
    ),
    "14 a pause within": Row(faults=(answered(pause_after=(3, 0.5)),), requests=3),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_every_fault_of_the_list_has_its_end(tmp_path: Path, name: str) -> None:
    """No experiment is burnt, none runs twice, only what waiting mends is waited for, and the bill is the API's."""
    row = ROWS[name]
    model = str(row.flags.get("claude.model", MODEL))
    with FakeMessagesApi(kind=KINDS[row.kind], models=(model, OLDER)) as api:
        api.always = answered(input_tokens=1000) if model == "local" else answered()
        api.script.extend((api.always, *row.faults))
        flags = {"claude.model": model, "limits.experiments": 3, "claude.max_refusals": 3, **row.flags}
        config = task(tmp_path, api, prefetch=0, **flags)
        with capture_logs() as logs:
            try:
                end, _ = sleep_through(config)
            except (ConfigError, ProposerUnavailable) as error:
                end = str(error)
        bill = 0.0 if model == "local" else api.bill_usd
    with Journal.read(config.run_path) as journal:
        ended, charged = journal.experiments(), journal.charged()

    assert re.search(row.end, end)
    assert "\n" not in end
    assert row.requests == len(api.requests)
    assert (4 if row.end == DONE else 2) == len(ended) == len({e.fingerprint for e in ended})
    assert Status.INVALID not in {e.status for e in ended}
    assert row.waits == len([entry for entry in logs if entry["event"] == "proposal.delayed"])
    if row.bill_is_known:
        assert pytest.approx(bill, abs=1e-9) == charged.cost_usd
    else:
        assert charged.total_tokens > 3 * 32_000  # the worst case of each


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_a_model_that_is_retired_is_refused_at_the_start(tmp_path: Path) -> None:
    """11: by the table and with its successor, or by the API."""
    with FakeMessagesApi(today=date(2026, 12, 1)) as api:
        config = task(tmp_path, api, **{"claude.model": "claude-sonnet-4-5", "prefetch": 0})
        with pytest.raises(ConfigError, match=r"(was retired on 2026-11-30; use one of its|unknown model)"):
            sleep_through(config)

    assert [] == api.requests


def test_the_limit_of_the_account_ends_a_session_in_the_middle(tmp_path: Path) -> None:
    """5: what was billed until then is charged, what ran is kept, and nobody waits for the next month."""
    with FakeMessagesApi(models=(MODEL,), spend_limit_usd=0.02) as api:
        api.always = answered()
        flags = {"claude.model": MODEL, "limits.experiments": 50, "prefetch": 0}
        config = task(tmp_path, api, **flags)
        with capture_logs() as logs, pytest.raises(ProposerUnavailable, match="a spend limit is reached; raise it"):
            sleep_through(config)
        bill = api.bill_usd
    with Journal.read(config.run_path) as journal:
        assert 1 < journal.count() < 10
        assert pytest.approx(bill, abs=1e-9) == journal.charged().cost_usd >= 0.02
    assert "proposal.delayed" not in {entry["event"] for entry in logs}


BODY = {"max_tokens": 10, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
MARKED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
FORCED = {"tool_choice": {"type": "tool", "name": "x"}}
ADAPTIVE = {"thinking": {"type": "adaptive"}}
HAIKU, OLD_HAIKU, OPUS_4_8, OPUS_4_7 = "claude-haiku-5-5", "claude-haiku-4-5", "claude-opus-4-8", "claude-opus-4-7"
BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "a forced tool": (MODEL, FORCED, "tool_choice: forced tool use is not supported"),
    "any tool": ("claude-fable-5-2", {"tool_choice": {"type": "any"}}, "forced tool use is not supported"),
    "a forced tool with thinking": (OPUS_4_8, FORCED | ADAPTIVE, "Thinking may not be enabled"),
    "a budget to think": (OPUS_4_7, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type.enabled"),
    "no thinking": ("claude-sonnet-5-5", {"thinking": {"type": "disabled"}}, "thinking.type.disabled"),
    "adaptive where it is not": (HAIKU, ADAPTIVE, "thinking.type.adaptive"),
    "effort where there is none": (OLD_HAIKU, {"output_config": {"effort": "low"}}, "output_config.effort"),
    "a level that it has not": ("claude-opus-4-5", {"output_config": {"effort": "max"}}, "output_config.effort: max"),
    "a temperature": (MODEL, {"temperature": 0.5}, "temperature is not supported"),
    "an unknown key": (MODEL, {"mood": "good"}, "mood: Extra inputs are not permitted"),
    "an unknown key of the output": (MODEL, {"output_config": {"x": 1}}, "output_config.x: Extra inputs"),
    "a keyword of schemas": (
        MODEL, {"output_config": {"format": {"schema": {"type": "string", "maxLength": 3}}}}, "maxLength is not"
    ),
    "an open object": (MODEL, {"output_config": {"format": {"schema": {"type": "object"}}}}, "additionalProperties"),
    "too long an answer": (OLD_HAIKU, {"max_tokens": 64_001}, "max_tokens: 64001 > 64000"),
    "five marks": (MODEL, {"system": [MARKED] * 5}, "A maximum of 4 blocks"),
    "a prefill": (MODEL, {"messages": [{"role": "assistant", "content": []}]}, "prefill"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_the_emulator_refuses_what_the_api_does(case: str) -> None:
    """By the rules of the model; so a request of ours that is taken has none of it."""
    model, more, expected = BROKEN[case]
    status, kind, message = refusal(KINDS["anthropic"], BODY | {"model": model} | more, TODAY) or (0, "", "")

    assert (400, "invalid_request_error") == (status, kind)
    assert expected in message
    assert refusal(KINDS["anthropic"], BODY | {"model": model}, TODAY) is None


def test_the_emulator_forgets_models_and_counts_caches_as_the_api_does() -> None:
    """A retired one is gone; below the minimum nothing is cached, silently; above it is written once, then read."""
    gone = refusal(KINDS["anthropic"], BODY | {"model": "claude-sonnet-4-5"}, date(2026, 11, 30))
    body = BODY | {"model": MODEL, "system": [MARKED | {"text": "y" * 4000}]}
    cache = Cache()

    assert (404, "not_found_error", "model: claude-sonnet-4-5") == gone
    assert (0, 0) == (cache.count(body, 4096)["cache_write"], cache.count(body, 4096)["cache_read"])
    first, second = cache.count(body, 512), cache.count(body, 512)
    assert first["cache_write"] == second["cache_read"] > 900
    assert 0 == first["cache_read"] == second["cache_write"]
