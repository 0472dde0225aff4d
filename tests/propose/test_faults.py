"""Refusals, limits and faults in the middle of an answer: each has the right end, and no hour is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.errors import ConfigError, PatchRejected, ProposerUnavailable
from orchestrator.propose import answer
from orchestrator.propose.claude import ClaudeProposer
from orchestrator.propose.messages_api import Endpoint
from orchestrator.propose.models import find_model
from tests.propose.test_claude import GOOD, context, ledger, proposer
from tests.support.fake_messages_api import TODAY, Failure, FakeMessagesApi, Message

OPUS, OLDER = "claude-opus-5-5", "claude-opus-5"
REFUSAL = Message(stop_reason="refusal", category="frontier_llm", output_tokens=0)


@pytest.fixture
def api() -> Iterator[FakeMessagesApi]:
    """A server for one test."""
    with FakeMessagesApi() as server:
        yield server


def with_models(api: FakeMessagesApi, tmp_path: Path, *names: str, **changes: object) -> ClaudeProposer:
    """A proposer with a list of models."""
    return proposer(api, tmp_path, models=tuple(find_model(name) for name in names), **changes)  # type: ignore[arg-type]


def asked(api: FakeMessagesApi) -> list[str]:
    """The models that were asked, in order."""
    return [request["model"] for request in api.requests]


def test_where_a_model_refuses_the_next_one_has_the_idea(api: FakeMessagesApi, tmp_path: Path) -> None:
    """In the same slot; the category is in the record, both calls are charged, and the next idea begins there."""
    api.always = lambda body: REFUSAL if body["model"] == OPUS else GOOD
    claude = with_models(api, tmp_path, OPUS, OLDER)
    reply = claude.ask(context())
    claude.ask(context())

    assert [OPUS, OLDER, OLDER] == asked(api)
    assert ("claude-opus-5-5: frontier_llm",) == reply.refusals
    assert "a higher rate" == claude.read(reply).hypothesis
    assert OLDER == reply.model
    assert 2 == len(reply.calls)
    assert pytest.approx(api.bill_usd) == ledger(claude).charged().cost_usd


@pytest.mark.parametrize("models", [(OPUS,), (OPUS, OLDER)])
def test_a_run_of_refusals_ends_the_session(api: FakeMessagesApi, tmp_path: Path, models: tuple[str, ...]) -> None:
    """After three, with the category and what to do; no reply is left over that would cost an experiment."""
    api.always = REFUSAL
    with capture_logs() as logs, pytest.raises(ProposerUnavailable, match=r"3 answers .*frontier_llm.*fallback_models"):
        with_models(api, tmp_path, *models).ask(context())

    assert 3 == len(api.requests)
    assert ["frontier_llm"] * 3 == [entry["category"] for entry in logs if entry["event"] == "proposal.missing"]


def test_a_good_answer_ends_a_run_of_refusals(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Only those in a row count, whichever slot they were for."""
    api.script.extend([REFUSAL, REFUSAL, GOOD] * 3)
    claude = with_models(api, tmp_path, OPUS, OLDER)

    assert [2, 2, 2] == [len(claude.ask(context()).refusals) for _ in range(3)]


UNANSWERED = {
    "cut off": (Message(arguments=GOOD.arguments, stop_reason="max_tokens"), "raise .* max_output_tokens"),
    "empty": (Message(), "contained nothing"),
    "thinking only": (Message(thinking=True), "nothing but thinking"),
    "words only": (Message(text="As I said before"), "no JSON object"),
    "paused": (Message(text="Wait", stop_reason="pause_turn"), "paused"),
    "unknown": (Message(text="Wait", stop_reason="moonrise"), "'moonrise'"),
}


@pytest.mark.parametrize("case", UNANSWERED)
def test_answers_without_a_proposal_end_the_session_too(api: FakeMessagesApi, tmp_path: Path, case: str) -> None:
    """The first two are told to the model, and the other model is asked; the third ends it with the reason."""
    api.always, expected = UNANSWERED[case]
    claude = with_models(api, tmp_path, OPUS, OLDER)
    for _ in range(2):
        with pytest.raises(PatchRejected, match=expected):
            claude.read(claude.ask(context()))
    with pytest.raises(ProposerUnavailable, match=rf"3 answers in a row .*{expected}"):
        claude.ask(context())

    assert [OPUS, OLDER, OPUS] == asked(api)


def test_a_bad_proposal_is_an_answer(api: FakeMessagesApi, tmp_path: Path) -> None:
    """What can be told to the model does not end a session."""
    api.always = Message(arguments='{"hypothesis": "x"}')
    claude = with_models(api, tmp_path, OPUS)
    for _ in range(5):
        claude.ask(context())

    assert 5 == len(api.requests)


def test_a_refusal_of_an_older_record_has_its_category() -> None:
    """And one without is named as such."""
    with pytest.raises(answer.NoProposal, match="category: bio"):
        answer.read('{"content": [], "stop_reason": "refusal", "stop_details": {"category": "bio"}}')
    with pytest.raises(answer.NoProposal, match="category: unnamed"):
        answer.read('{"content": [], "stop_reason": "refusal"}')


PERMANENT = {
    "an invalid request": (Message(arguments="{", error_after=(3, "invalid_request_error")), "invalid_request_error"),
    "a wrong key": (Message(arguments="{", error_after=(3, "authentication_error")), "invalid API key"),
    "no permission": (Message(arguments="{", error_after=(3, "permission_error")), "may not use 'claude-opus-5-5'"),
    "no money": (Message(arguments="{", error_after=(3, "billing_error")), "billing problem"),
    "no such model": (Message(arguments="{", error_after=(0, "not_found_error")), "unknown model 'claude-opus-5-5'"),
    "credit": (
        Failure(status=400, kind="invalid_request_error", message="Your credit balance is too low to access the API."),
        "credit balance is too low",
    ),
    "the limit that the user set": (
        Failure(status=400, kind="invalid_request_error", message="You have reached your specified API usage limits."),
        "specified API usage limits",
    ),
    "the limit of the tier": (
        Failure(status=429, kind="rate_limit_error", code="enforced_spend_limit_reached", message="Monthly limit."),
        "a spend limit is reached",
    ),
    "the limit of the contract": (
        Failure(status=429, kind="rate_limit_error", code="contract_spend_limit_reached", message="Contract."),
        "a spend limit is reached",
    ),
    "a forced tool": (
        Failure(status=400, kind="invalid_request_error", message="tool_choice: forced tool use is not supported"),
        "forced tool use",
    ),
    "payment": (Failure(status=402, kind="billing_error", message="Pay."), "billing problem"),
}  # fmt: skip


@pytest.mark.parametrize("case", PERMANENT)
def test_what_waiting_cannot_mend_ends_at_once(api: FakeMessagesApi, tmp_path: Path, case: str) -> None:
    """Also within a stream that began well: one request, one line, no charge."""
    api.always, expected = PERMANENT[case]
    claude = with_models(api, tmp_path, OPUS)
    with pytest.raises((ConfigError, ProposerUnavailable), match=expected) as caught:
        claude.ask(context())

    assert 1 == len(api.requests)
    assert 0 == ledger(claude).charged().cost_usd == api.bill_usd
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "api_error", "timeout_error", "new_error"])
def test_an_overload_in_a_stream_is_waited_out_and_costs_nothing(
    api: FakeMessagesApi, tmp_path: Path, kind: str
) -> None:
    """Twenty of them, with a limit of a dollar: the night goes on."""
    api.script.extend([Message(arguments=GOOD.arguments, error_after=(4, kind))] * 20)
    api.script.append(GOOD)
    claude = with_models(api, tmp_path, OPUS, max_usd=1.0)
    reply = claude.ask(context())

    assert 21 == len(api.requests)
    assert pytest.approx(api.bill_usd) == reply.usage.cost_usd < 0.02


def test_a_long_retry_after_is_not_begun_where_it_would_be_too_long(api: FakeMessagesApi, tmp_path: Path) -> None:
    """An hour asked for and a minute to wait: it says so now."""
    api.always = Failure(status=429, kind="rate_limit_error", headers={"retry-after": "3600"}, message="Slow down.")
    started = time.monotonic()
    with pytest.raises(ProposerUnavailable, match="Slow down"):
        with_models(api, tmp_path, OPUS, max_wait_s=60.0).ask(context())

    assert time.monotonic() - started < 10
    assert 1 == len(api.requests)


def test_a_long_retry_after_is_told_to_a_person(api: FakeMessagesApi, tmp_path: Path) -> None:
    """They see for how long nothing runs."""
    api.always = Failure(status=429, kind="rate_limit_error", headers={"retry-after": "3600"}, message="Slow down.")
    claude = with_models(api, tmp_path, OPUS, max_wait_s=7200.0)
    told: list[str] = []

    def tell(reason: str) -> None:
        told.append(reason)
        claude.stop()

    claude.waiting = tell
    with pytest.raises(ProposerUnavailable):
        claude.ask(context())

    assert "429 Slow down.; next attempt in 3600 s" in told[0]


def test_a_stream_that_pauses_goes_on(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Thinking may be silent for five minutes, and more is waited for by default; here all times are shorter."""
    api.script.append(Message(arguments=GOOD.arguments, pause_after=(3, 1.0)))
    claude = with_models(api, tmp_path, OPUS, read_timeout_s=20.0)
    reply = claude.ask(context())

    assert Endpoint.__dataclass_fields__["read_timeout_s"].default > 300
    assert "a higher rate" == claude.read(reply).hypothesis
    assert 1 == len(reply.calls)


def test_a_fallback_that_nobody_named_is_dropped_where_it_cannot_be_asked(api: FakeMessagesApi, tmp_path: Path) -> None:
    """The key may be for one model only; one that the user named is an error (test_claude)."""
    api.models = (OPUS,)
    api.always = REFUSAL
    claude = with_models(api, tmp_path, OPUS, OLDER, drop_fallbacks=True)
    with capture_logs() as logs:
        claude.preflight(TODAY)
    with pytest.raises(ProposerUnavailable, match="3 answers"):
        claude.ask(context())

    assert [OLDER] == [entry["model"] for entry in logs if entry["event"] == "fallback.dropped"]
    assert {OPUS} == set(asked(api))
