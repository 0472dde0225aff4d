"""The LLM proposer over real HTTP with the real SDK: every fault survived, no budget crossed, no key anywhere."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from orchestrator.errors import BudgetExhausted, ConfigError, PatchRejected, ProposerUnavailable
from orchestrator.propose import answer, budget
from orchestrator.propose.claude import ClaudeProposer, ClaudeSettings
from orchestrator.propose.messages_api import Endpoint
from orchestrator.propose.models import Answer, Model, find_model
from orchestrator.propose.prompt import PromptBuilder
from orchestrator.propose.token_count import guess
from orchestrator.settings import Limits
from orchestrator.types import Context, Edit, Spent, Usage
from tests.support.fake_messages_api import KEY, MODEL, TODAY, Failure, FakeMessagesApi, Message, proposal
from tests.support.journals import champion

PRICES = {"input": 5.0, "output": 25.0, "cache_write": 6.25, "cache_read": 0.5}
GOOD = Message(arguments=proposal("LR = 0.02", "LR = 0.03", "a higher rate"))


@dataclass
class PaperLedger:
    """The journal's part in this: what was reserved, and what it became."""

    entries: list[Usage] = field(default_factory=list)
    settled: list[bool] = field(default_factory=list)

    def reserve(self, worst: Usage) -> int:
        """Write down the worst case."""
        self.entries.append(worst)
        self.settled.append(False)
        return len(self.entries) - 1

    def settle(self, call: int, actual: Usage) -> None:
        """Write down what it was."""
        self.entries[call], self.settled[call] = actual, True

    def charged(self) -> Usage:
        """All of it."""
        return budget.total(self.entries)


@pytest.fixture
def api() -> Iterator[FakeMessagesApi]:
    """A server for one test."""
    with FakeMessagesApi() as server:
        yield server


def proposer(
    api: FakeMessagesApi, tmp_path: Path, *, max_usd: float = 0.0, max_tokens: int = 0, **changes: object
) -> ClaudeProposer:
    """A proposer that waits milliseconds where the real one waits seconds."""
    (tmp_path / "program.md").write_text("Find a lower val_bpb.\n")
    (tmp_path / "prepare.py").write_text("TIME_BUDGET = 1\n")
    endpoint: dict[str, object] = {
        "api_key": SecretStr(api.key), "base_url": api.url, "read_timeout_s": 20.0, "call_timeout_s": 30.0,
    }  # fmt: skip
    endpoint |= {name: changes.pop(name) for name in tuple(changes) if name in Endpoint.__dataclass_fields__}
    values: dict[str, object] = {
        "models": (find_model(MODEL),), "endpoint": Endpoint(**endpoint),  # type: ignore[arg-type]
        "max_output_tokens": 4000, "max_wait_s": 60.0, "first_wait_s": 0.01, "longest_wait_s": 0.05,
    }  # fmt: skip
    return ClaudeProposer(
        settings=ClaudeSettings(**(values | changes)),  # type: ignore[arg-type]
        prompts=PromptBuilder(
            instructions=tmp_path / "program.md", prepare=tmp_path / "prepare.py", facts={"hardware": "two cores"},
            limits=Limits(), count=guess,
        ),
        budget=budget.Budget(ledger=PaperLedger(), max_usd=max_usd, max_tokens=max_tokens),
    )  # fmt: skip


def with_tool() -> Model:
    """The model, asked to call our tool."""
    return replace(find_model(MODEL), answer=Answer.TOOL)


def context(**changes: object) -> Context:
    """What the loop knows after the baseline."""
    best = champion(1.0, id=7)
    values = {
        "experiment_id": 8,
        "champion": best,
        "champion_source": "LR = 0.02\n",
        "history": [best.experiment],
        "spent": Spent(),
    }
    return Context(**(values | changes))  # type: ignore[arg-type]


def ask_for_ever(claude: ClaudeProposer) -> None:
    """Until it raises, or a hundred times."""
    for _ in range(100):
        claude.ask(context())


def once_asked(api: FakeMessagesApi, act: Callable[[], None]) -> None:
    """Do something while the API has a request and has not answered it."""
    until = time.monotonic() + 30
    while not api.requests and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    act()


def ledger(claude: ClaudeProposer) -> PaperLedger:
    """The ledger of a proposer."""
    assert isinstance(claude.budget.ledger, PaperLedger)
    return claude.budget.ledger


def test_a_proposal_comes_back_as_the_model_gave_it(api: FakeMessagesApi, tmp_path: Path) -> None:
    """The reply is stored whole, knows its parent, its calls and its cost; reading it is another step."""
    api.script.append(Message(arguments=GOOD.arguments, text="Let me think.", cache_read=500, cache_write=100))
    claude = proposer(api, tmp_path)
    reply = claude.ask(context())
    given = claude.read(reply)

    assert ("a higher rate", (Edit(search="LR = 0.02", replace="LR = 0.03"),)) == (given.hypothesis, given.edits)
    assert (7, (0,), MODEL, "claude") == (reply.parent_id, reply.calls, reply.model, reply.proposer)
    assert "Let me think." in reply.text
    cost = (1000 * 5 + 200 * 25 + 500 * 0.5 + 100 * 6.25) / 1e6
    expected = Usage(input_tokens=1000, output_tokens=200, cache_read_input_tokens=500, cache_creation_input_tokens=100,
                     cost_usd=cost)  # fmt: skip
    assert expected == reply.usage == ledger(claude).charged()
    assert pytest.approx(api.cost_usd(PRICES)) == reply.usage.cost_usd


def test_the_request_asks_for_our_schema_and_marks_the_stable_parts(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Structured output, no tool, no temperature, instructions before the file before what was tried."""
    proposer(api, tmp_path, effort="low", extra_headers={"x-gateway": "yes"}).ask(context())
    request = api.requests[0]

    assert ["hypothesis", "expected_effect", "edits"] == request["output_config"]["format"]["schema"]["required"]
    assert "low" == request["output_config"]["effort"]
    assert request["stream"]
    assert not {"temperature", "tools", "tool_choice"} & request.keys()
    assert ["cache_control" in block for block in request["system"]] == [False, False, False, True]
    user = request["messages"][0]["content"]
    assert "LR = 0.02" in user[0]["text"]
    assert ["cache_control" in block for block in user] == [True, False]
    assert "yes" == api.headers[0]["x-gateway"]


def test_a_tool_is_forced_where_the_model_allows_it(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Strict schema, one call, and the reply is read as any other."""
    claude = proposer(api, tmp_path, models=(with_tool(),))
    reply = claude.ask(context())
    request = api.requests[0]

    assert {"type": "tool", "name": "propose_experiment", "disable_parallel_tool_use": True} == request["tool_choice"]
    assert request["tools"][0]["strict"]
    assert "output_config" not in request
    assert "a change" == claude.read(reply).hypothesis


def test_a_model_that_is_to_think_is_not_forced(api: FakeMessagesApi, tmp_path: Path) -> None:
    """The API refuses thinking together with a forced tool."""
    proposer(api, tmp_path, models=(replace(find_model("claude-opus-4-8"), answer=Answer.TOOL),)).ask(context())

    assert "auto" == api.requests[0]["tool_choice"]["type"]
    assert {"type": "adaptive"} == api.requests[0]["thinking"]


FAULTS = {
    "429": Failure(status=429, kind="rate_limit_error"),
    "429 with retry-after": Failure(status=429, headers={"retry-after": "0.1"}),
    "429 with a retry-after nobody can read": Failure(status=429, headers={"retry-after": "soon"}),
    "500": Failure(status=500),
    "502 from a gateway": Failure(status=502, raw=b"<html>bad gateway</html>"),
    "503": Failure(status=503),
    "529": Failure(status=529, kind="overloaded_error"),
    "408": Failure(status=408),
    "connection dropped": Failure(status=0),
    "no answer at all": Failure(status=-1),
    "a page instead of an answer": Failure(status=200, raw=b"<html>login</html>"),
    "an empty answer": Failure(status=200, raw=b""),
    "events that are none": Failure(status=200, raw=b'event: message_start\ndata: {"type": "message_start"}\n\n'),
    "events that are no JSON": Failure(status=200, raw=b"event: message_start\ndata: {{{\n\n"),
    "events of the wrong shape": Failure(
        status=200, raw=b'event: message_delta\ndata: {"delta": [1], "type": "message_delta"}\n\n'
    ),
    "stream broken at once": Message(arguments=GOOD.arguments, break_after=0),
    "stream broken in the middle": Message(arguments=GOOD.arguments, break_after=4),
    "stream silent in the middle": Message(arguments=GOOD.arguments, hang_after=3),
    "an error in the stream": Message(arguments=GOOD.arguments, error_after=(3, "overloaded_error")),
}  # fmt: skip
SILENT = ("no answer at all", "stream silent in the middle")
FREE = (
    "429", "429 with retry-after", "429 with a retry-after nobody can read", "500", "503", "529",
    "an error in the stream",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_waited_out(api: FakeMessagesApi, tmp_path: Path, fault: str) -> None:
    """Twice the fault, then an answer: the proposal comes, each wait is logged, nothing is charged too little."""
    api.script.extend([FAULTS[fault], FAULTS[fault], GOOD])
    claude = proposer(api, tmp_path, read_timeout_s=0.5 if fault in SILENT else 20.0)
    with capture_logs() as logs:
        reply = claude.ask(context())

    assert "a higher rate" == claude.read(reply).hypothesis
    assert 3 == len(api.requests) == len(reply.calls)
    delayed = [entry for entry in logs if entry["event"] == "proposal.delayed"]
    assert 2 == len(delayed)
    assert all(entry["reason"] and entry["wait_s"] >= 0 for entry in delayed)
    assert ledger(claude).settled == [True] * 3
    assert ledger(claude).charged().cost_usd >= api.cost_usd(PRICES)
    if fault in FREE:
        assert pytest.approx(api.cost_usd(PRICES)) == reply.usage.cost_usd
    else:
        assert reply.usage.cost_usd > 2 * 4000 * 25 / 1e6


def test_retry_after_is_honoured(api: FakeMessagesApi, tmp_path: Path) -> None:
    """The API's own wish is waited for, not less."""
    api.script.extend([Failure(status=429, headers={"retry-after": "1"}), GOOD])
    started = time.monotonic()
    proposer(api, tmp_path).ask(context())

    assert 1.0 <= time.monotonic() - started < 20


def test_a_retry_after_as_a_date_is_understood(api: FakeMessagesApi, tmp_path: Path) -> None:
    """HTTP allows a date; one that is over means now."""
    api.script.extend([Failure(status=529, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), GOOD])
    started = time.monotonic()
    proposer(api, tmp_path).ask(context())

    assert time.monotonic() - started < 20


def test_an_endpoint_that_is_down_is_waited_for(tmp_path: Path) -> None:
    """Nothing listens; later something does; the call goes through by itself and waiting was free."""
    with FakeMessagesApi() as gone:
        url = gone.url
    claude = proposer(gone, tmp_path)
    back = FakeMessagesApi(always=GOOD)

    def come_back() -> None:
        time.sleep(0.5)
        endpoint = replace(claude.settings.endpoint, base_url=back.url)
        claude.settings = replace(claude.settings, endpoint=endpoint)

    with back:
        threading.Thread(target=come_back).start()
        reply = claude.ask(context())

    assert url != back.url
    assert pytest.approx(back.cost_usd(PRICES)) == reply.usage.cost_usd
    assert len(reply.calls) > 2


def test_a_person_is_told_only_while_nothing_else_runs(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Asked ahead, an API that is down is no reason to call the loop waiting."""
    told: list[str] = []
    claude = proposer(api, tmp_path)
    claude.waiting = told.append
    api.script.extend([Failure(status=529, message="overloaded"), GOOD])
    claude.ask(context(in_flight=("deeper",)))
    assert [] == told

    api.script.extend([Failure(status=529, message="overloaded"), GOOD])
    claude.ask(context())
    assert ["the LLM's API: 529 overloaded; next attempt in 0 s"] == told


def test_waiting_ends_at_some_time(api: FakeMessagesApi, tmp_path: Path) -> None:
    """After max_wait_s it says in one line what it waited for."""
    api.always = Failure(status=529, message="overloaded")
    with pytest.raises(ProposerUnavailable, match=r"no answer within .* 529 overloaded"):
        proposer(api, tmp_path, max_wait_s=0.3).ask(context())


def test_a_stream_without_end_is_cut(api: FakeMessagesApi, tmp_path: Path) -> None:
    """A call has a deadline of its own, however often something comes."""
    api.script.extend([Message(arguments=GOOD.arguments, hang_after=2), GOOD])
    started = time.monotonic()
    proposer(api, tmp_path, read_timeout_s=0.4, call_timeout_s=0.2).ask(context())

    assert time.monotonic() - started < 3


ONCE = {
    401: "invalid API key",
    403: "may not use 'claude-opus-4-5'",
    404: "unknown model 'claude-opus-4-5'",
    400: "was refused",
    413: "was refused",
}


@pytest.mark.parametrize("status", ONCE)
def test_what_waiting_cannot_mend_ends_at_once(api: FakeMessagesApi, tmp_path: Path, status: int) -> None:
    """One request, one line, no charge."""
    api.always = Failure(status=status, message=f"no\n\x1b[31m {KEY}")
    claude = proposer(api, tmp_path)
    with pytest.raises((ConfigError, ProposerUnavailable), match=ONCE[status]) as caught:
        claude.ask(context())

    assert 1 == len(api.requests)
    assert 0 == ledger(claude).charged().cost_usd
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()


REFUSED = {
    "truncated": (Message(arguments='{"hypothesis": "x", "edi', stop_reason="max_tokens"), "cut off"),
    "cut off after the proposal": (Message(arguments=GOOD.arguments, stop_reason="max_tokens"), "cut off"),
    "too long for the context": (Message(text="x", stop_reason="model_context_window_exceeded"), "did not fit"),
    "paused": (Message(arguments=GOOD.arguments, stop_reason="pause_turn"), "paused before it was complete"),
    "a new reason to stop": (Message(arguments=GOOD.arguments, stop_reason="moonrise"), "'moonrise'"),
    "empty": (Message(stop_reason="end_turn"), "contained nothing"),
    "thinking only": (Message(thinking=True, stop_reason="end_turn"), "nothing but thinking"),
    "words only": (Message(text="Here is an idea", stop_reason="end_turn"), "no JSON object .*Here is an idea"),
    "two proposals": (Message(text=f"{GOOD.arguments}\n{proposal('a', 'b')}"), "2 proposals"),
    "two calls": (Message(arguments=GOOD.arguments, calls=2, form="tool"), "2 tool calls"),
    "another tool": (Message(arguments=GOOD.arguments, tool="shell", form="tool"), "call propose_experiment"),
    "arguments that are not JSON": (Message(arguments='{"hypothesis": "x", }', form="tool"), "not valid JSON"),
    "arguments twice": (Message(arguments='{"hypothesis": "x", "hypothesis": "y"}', form="tool"), "not valid JSON"),
    "a text with keys twice": (Message(arguments='{"hypothesis": "x", "hypothesis": "y"}'), "no JSON object"),
    "NaN": (Message(arguments='{"hypothesis": NaN}', form="tool"), "not valid JSON"),
    "arguments of another shape": (Message(arguments='{"hypothesis": "x"}'), "expected_effect: Field required"),
    "edits that are none": (
        Message(arguments='{"hypothesis": "x", "expected_effect": "y", "edits": [{"search": 1, "replace": "a"}]}'),
        "edits.0.search",
    ),
    "edits in a string that is not JSON": (
        Message(arguments='{"hypothesis": "x", "expected_effect": "y", "edits": "[{"}'), "edits: Input should be"
    ),
    "a list": (Message(arguments="[]", form="tool"), "does not match the schema"),
    "nothing": (Message(arguments='{"hypothesis": "x", "expected_effect": "y", "edits": []}'), "propose a change"),
    "a depth bomb": (Message(arguments="[" * 100_000, form="tool"), "not valid JSON"),
    "a depth bomb in words": (Message(text='{"a":' * 100_000), "no JSON object"),
}  # fmt: skip
# a proposal in any of these is read
READ = {
    "as asked": GOOD,
    "a tool call that nobody asked for": Message(arguments=GOOD.arguments, form="tool"),
    "words before": Message(text=f"Let me think: {{1, 2}}.\n\n{GOOD.arguments}\nDone."),
    "fenced": Message(text=f"```json\n{GOOD.arguments}\n```"),
    "thinking before": Message(arguments=GOOD.arguments, thinking=True),
    "said twice": Message(text=f"{GOOD.arguments}\n\nAgain:\n```\n{GOOD.arguments}\n```"),
    "an unknown field": Message(arguments=proposal("LR = 0.02", "LR = 0.03", "a higher rate", confidence=0.7)),
    "edits in a string": Message(
        arguments=proposal("", "", "a higher rate", edits='[{"search": "LR = 0.02", "replace": "LR = 0.03"}]')
    ),
    "null for what is left out": Message(
        arguments=proposal("LR = 0.02", "LR = 0.03", "a higher rate", source=None, parent_id=None)
    ),
}


@pytest.mark.parametrize("case", READ)
def test_a_proposal_is_read_from_any_form(api: FakeMessagesApi, tmp_path: Path, case: str) -> None:
    """One reader for structured output, tool calls and JSON among words."""
    api.script.append(READ[case])
    claude = proposer(api, tmp_path)
    given = claude.read(claude.ask(context()))

    assert "a higher rate" == given.hypothesis
    assert (Edit(search="LR = 0.02", replace="LR = 0.03"),) == given.edits


def test_a_reply_of_an_older_record_is_read() -> None:
    """A forced tool call, with the older name of a field."""
    arguments = {**json.loads(proposal("a", "b")), "why_again": "the batch is larger now"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "propose_experiment", "input": arguments}
    text = json.dumps({"id": "msg_1", "model": MODEL, "stop_reason": "tool_use", "content": [call]})

    assert "the batch is larger now" == answer.read(text).retry_rationale


@pytest.mark.parametrize("case", REFUSED)
def test_a_useless_reply_is_stored_then_refused(api: FakeMessagesApi, tmp_path: Path, case: str) -> None:
    """The reply is whole and paid; reading it says what to fix, and nothing is asked again behind the loop's back."""
    message, expected = REFUSED[case]
    api.script.append(message)
    claude = proposer(api, tmp_path)
    reply = claude.ask(context())

    with pytest.raises(PatchRejected, match=expected):
        claude.read(reply)
    assert 1 == len(api.requests)
    assert reply.usage.cost_usd > 0
    json.loads(reply.text)


def test_ten_megabytes_of_source_are_stored(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Large is not broken: the patch says later that it is too large."""
    source = "x = 1\n" * 1_700_000
    arguments = json.dumps({"hypothesis": "h", "expected_effect": "e", "edits": [], "source": source})
    api.script.append(Message(arguments=arguments))
    claude = proposer(api, tmp_path, call_timeout_s=60.0)

    assert source == claude.read(claude.ask(context())).source


def test_the_refusal_of_the_last_try_is_told(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Word for word, with the reply it is about, as data."""
    claude = proposer(api, tmp_path)
    reply = claude.ask(context())
    claude.ask(context(rejected=((reply, "edit 1: search text not found in train.py"),)))

    last = api.requests[1]["messages"][0]["content"][-1]["text"]
    assert "edit 1: search text not found in train.py" in last
    assert "a change" in last


def test_no_call_is_made_that_could_cross_max_usd(api: FakeMessagesApi, tmp_path: Path) -> None:
    """The worst case is reserved: the run ends below the limit by the API's own bill."""
    api.always = Message(arguments=GOOD.arguments, input_tokens=2000, output_tokens=3999)
    claude = proposer(api, tmp_path, max_usd=1.0)
    with pytest.raises(BudgetExhausted, match="raise MAX_USD"):
        ask_for_ever(claude)

    assert 0.7 < api.cost_usd(PRICES) <= 1.0
    assert pytest.approx(api.cost_usd(PRICES)) == ledger(claude).charged().cost_usd


def test_no_call_is_made_that_could_cross_max_tokens(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Tokens of every kind count."""
    api.always = Message(arguments=GOOD.arguments, input_tokens=500, cache_read=5000, cache_write=100)
    claude = proposer(api, tmp_path, max_tokens=50_000)
    with pytest.raises(BudgetExhausted, match="raise MAX_TOKENS"):
        ask_for_ever(claude)

    assert 30_000 < sum(sum(bill.values()) for bill in api.billed) <= 50_000


def test_a_night_of_faults_crosses_no_budget(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Every kind of fault in turn, until the money is gone: never more billed than charged, nor than the limit."""
    night = [answer for fault in FAULTS if fault != "no answer at all" for answer in (FAULTS[fault], GOOD)] * 3
    api.script.extend(night)
    claude = proposer(api, tmp_path, max_usd=2.0)
    with pytest.raises(BudgetExhausted):
        ask_for_ever(claude)

    assert len(api.requests) > 16
    assert api.cost_usd(PRICES) <= ledger(claude).charged().cost_usd <= 2.0
    assert all(ledger(claude).settled)


def test_an_endpoint_that_tells_no_usage_is_charged_the_worst(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Not knowing is not free."""
    api.always = Message(arguments=GOOD.arguments, without_usage=True)
    claude = proposer(api, tmp_path)

    assert claude.ask(context()).usage.output_tokens == 4000


def test_an_interrupted_call_stays_charged(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Ctrl-C in mid-call: nobody knows what it cost, so it cost the worst."""
    api.always = Failure(status=-1)
    claude = proposer(api, tmp_path, read_timeout_s=20.0)
    interrupt = threading.Thread(target=once_asked, args=(api, lambda: os.kill(os.getpid(), signal.SIGINT)))
    interrupt.start()  # not by the clock: the SDK's client cannot be interrupted cleanly while it is being made
    with pytest.raises(KeyboardInterrupt):
        claude.ask(context())
    interrupt.join()

    assert ledger(claude).charged().output_tokens == 4000
    assert ledger(claude).settled == [True]


def test_a_wait_in_another_thread_can_be_ended(api: FakeMessagesApi, tmp_path: Path) -> None:
    """A session that ends does not wait for the API."""
    api.always = Failure(status=429, headers={"retry-after": "60"})
    claude = proposer(api, tmp_path, max_wait_s=1000.0)
    threading.Thread(target=once_asked, args=(api, claude.stop)).start()
    with pytest.raises(ProposerUnavailable):
        claude.ask(context())

    assert 1 == len(api.requests)


def test_the_key_is_in_no_log_no_reply_and_no_repr(
    api: FakeMessagesApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint that echoes the key finds it struck out, at every log level."""
    caplog.set_level(logging.DEBUG)
    api.script.extend([Failure(status=500, message=f"bad key {KEY}"), Message(text=f"your key is {KEY}")])
    claude = proposer(api, tmp_path)
    with capture_logs() as logs:
        reply = claude.ask(context())

    assert KEY in str(api.headers[0])
    assert "[key]" in reply.text
    assert KEY not in f"{reply} {claude!r} {logs} {caplog.text}"


def test_preflight_has_the_real_request_answered(api: FakeMessagesApi, tmp_path: Path) -> None:
    """Same model, form, effort and marks, one token; charged as any call, and no proposal is made."""
    claude = proposer(api, tmp_path, max_usd=2.0, effort="low")
    claude.preflight(TODAY)
    claude.ask(context())
    check, request = api.checks[0], api.requests[0]

    assert 1 == check.pop("max_tokens")
    assert {"model", "system", "messages", "output_config", "stream"} == check.keys() == request.keys() - {"max_tokens"}
    assert check["system"] == request["system"]
    assert check["output_config"] == request["output_config"]
    marks = [["cache_control" in block for block in body["messages"][0]["content"]] for body in (check, request)]
    assert [[True, False], [True, False]] == marks
    assert pytest.approx(api.bill_usd) == ledger(claude).charged().cost_usd


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"api_key": SecretStr("sk-wrong")}, "invalid API key"),
        ({"models": (find_model("claude-nope-9"),)}, "unknown model 'claude-nope-9'"),
        ({"models": (find_model("local"),), "max_usd": 1.0}, r"\[prices.models\] has no 'local'"),
        ({"models": (find_model(MODEL), find_model("local")), "max_usd": 1.0}, r"\[prices.models\] has no 'local'"),
        ({"models": (find_model(MODEL), find_model("claude-nope-9"))}, "unknown model 'claude-nope-9'"),
        ({"effort": "xhigh"}, "known levels of 'claude-opus-4-5': low, medium, high"),
        ({"models": (replace(find_model("claude-opus-5-5"), answer=Answer.TOOL, forced_tools=True),)}, "forced tool"),
        ({"base_url": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"base_url": "nonsense"}, "cannot be called"),
        ({"extra_headers": {"x-bad": "a\nb"}}, "cannot be called"),
    ],
)
def test_preflight_names_what_is_wrong(
    api: FakeMessagesApi, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    """One clear line before the first experiment, and nothing is charged."""
    claude = proposer(api, tmp_path, **changes)  # type: ignore[arg-type]
    with pytest.raises((ConfigError, ProposerUnavailable), match=expected) as caught:
        claude.preflight(TODAY)

    assert "\n" not in str(caught.value)
    assert "sk-wrong" not in str(caught.value)
    assert [] == api.requests
    assert pytest.approx(api.bill_usd) == ledger(claude).charged().cost_usd


def test_an_address_without_the_api_is_named(api: FakeMessagesApi, tmp_path: Path) -> None:
    """A page, a 404 of a web server, an empty answer: not this API, and nothing to wait for."""
    for failure in (
        Failure(status=404, raw=b"no such page"),
        Failure(status=200, raw=b"<html>login</html>"),
        Failure(status=200, raw=b""),
    ):
        api.check = failure
        with pytest.raises((ConfigError, ProposerUnavailable), match=r"Messages API.*fix \[claude\] base_url"):
            proposer(api, tmp_path).preflight(TODAY)


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_a_retired_model_is_refused_before_anything_is_sent(api: FakeMessagesApi, tmp_path: Path) -> None:
    """By the table, on the day it retires; before that it is said; and the API's own word for it is understood."""
    models = (find_model("claude-sonnet-4-5"),)
    with pytest.raises(ConfigError, match=r"'claude-sonnet-4-5' was retired on 2026-11-30; use .* 'claude-opus-5'"):
        proposer(api, tmp_path, models=models).preflight(date(2026, 11, 30))
    assert [] == api.checks
    api.today = date(2027, 1, 1)
    with capture_logs() as logs, pytest.raises(ConfigError, match="unknown model 'claude-sonnet-4-5'"):
        proposer(api, tmp_path, models=models).preflight(TODAY)

    assert ["model.retires"] == [entry["event"] for entry in logs]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_preflight_needs_instructions(api: FakeMessagesApi, tmp_path: Path, text: str) -> None:
    """An empty program.md is named, and so is a missing one."""
    claude = proposer(api, tmp_path)
    (tmp_path / "program.md").write_text(text)
    with pytest.raises(ConfigError, match=r"program\.md: is empty"):
        claude.preflight(TODAY)
    (tmp_path / "program.md").unlink()
    with pytest.raises(ConfigError, match=r"program\.md: cannot be read"):
        claude.preflight(TODAY)


def test_preflight_waits_for_an_api_that_is_busy(api: FakeMessagesApi, tmp_path: Path) -> None:
    """More often than an address is tried that may be wrong; nothing else is begun until it has answered."""
    answers = iter([Failure(status=529)] * 5)
    api.check = lambda _: next(answers, Message(text="{", stop_reason="max_tokens"))
    told: list[str] = []
    claude = proposer(api, tmp_path)
    claude.waiting = told.append
    claude.preflight(TODAY)

    assert (6, 5) == (len(api.checks), len(told))
