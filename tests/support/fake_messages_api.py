"""A real HTTP server on loopback that speaks the Messages API, streams, refuses what it refuses, and fails when told.

It bills as the API does: input when a message starts, output for what it sent, also when the connection broke
afterwards; a request that ends in an error of the API itself is not billed.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.api_rules import KINDS, RULES, Cache, Kind, refusal

TOOL = "propose_experiment"
KEY = "sk-test-0123456789-canary"
MODEL = "claude-opus-4-5"
TODAY = date(2026, 11, 27)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A whole answer: a proposal in the form that was asked for, or blocks as they would be."""

    arguments: str | None = None  # of a proposal, sent as they are
    form: str = ""  # "tool" or "text" where it is not the one that was asked for
    text: str | None = None
    thinking: bool | None = None  # whether a thinking block comes first; None: as the model does
    stop_reason: str | None = ""  # "": as the form has it
    category: str | None = None  # of a refusal
    model: str | None = None  # None: the one that was asked
    calls: int = 1
    tool: str = ""  # the name that is called; "": the one that was offered
    input_tokens: int | None = 1000  # None: counted, with the cache
    output_tokens: int = 200
    cache_read: int = 0
    cache_write: int = 0
    break_after: int | None = None  # events, then the connection is cut
    hang_after: int | None = None  # events, then nothing more comes
    pause_after: tuple[int, float] | None = None  # events, then nothing for so many seconds
    error_after: tuple[int, str] | None = None  # events, then an error event of this type
    without_usage: bool = False
    latency_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """No answer but a status; 0 drops the connection, -1 sends nothing at all."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "api_error"
    code: str = ""  # error.details.error_code
    message: str = "told to fail"
    raw: bytes | None = None


Scripted = Message | Failure | Callable[[dict[str, Any]], "Message | Failure"]


def proposal(search: str, replace: str, hypothesis: str = "a change", **more: Any) -> str:
    """The arguments of a good proposal."""
    edits = [{"search": search, "replace": replace}]
    return json.dumps({"hypothesis": hypothesis, "expected_effect": "lower", "edits": edits} | more)


@dataclass
class FakeMessagesApi:
    """Answers from `script`, one entry a message request, then `always`.

    A request for one token is only checked; with `lessons`, one for lessons is answered by that.
    """

    script: deque[Scripted] = field(default_factory=deque)
    always: Scripted = field(default_factory=lambda: Message(arguments=proposal("a", "b")))
    lessons: Scripted | None = None  # how a request for lessons is answered; None: as any other
    check: Scripted | None = None  # how a request for one token is answered; None: as the rules say
    key: str = KEY
    models: tuple[str, ...] = tuple(RULES)
    kind: Kind = KINDS["anthropic"]
    today: date = TODAY
    spend_limit_usd: float = 0.0  # of the account; nothing is answered once so much is billed; 0: none
    requests: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # by the rules: model and message
    billed: list[dict[str, int]] = field(default_factory=list)
    cache: Cache = field(default_factory=Cache)
    closing: threading.Event = field(default_factory=threading.Event)
    _priced: list[tuple[str, bool]] = field(default_factory=list)  # model, and whether it was cached for an hour

    def __enter__(self) -> Self:
        """Listen on a free port."""
        api = self

        class Handler(_Handler):
            server_api = api  # type: ignore[assignment]  # the parameter of a class

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def cost_usd(self, price: dict[str, float]) -> float:
        """What all of it cost, by the bill, at one price."""
        return sum(amount * price[kind] for bill in self.billed for kind, amount in bill.items()) / 1e6

    @property
    def bill_usd(self) -> float:
        """What all of it cost, each call at the price of its model, of its length and of its kind of caching."""
        priced = zip(self.billed, self._priced, strict=True)
        return sum(RULES[model].usd(bill, hourly=hourly) for bill, (model, hourly) in priced)

    def begin_bill(self, body: dict[str, Any], message: Message) -> dict[str, int]:
        """Charge the input of a message that starts."""
        if message.input_tokens is None:
            bill = self.cache.count(body, RULES[body["model"]].cache_minimum)
        else:
            bill = {"input": message.input_tokens, "cache_write": message.cache_write, "cache_read": message.cache_read}
        self.billed.append(bill)
        self._priced.append((body["model"], '"ttl": "1h"' in json.dumps(body)))
        return bill

    def cancel_bill(self, bill: dict[str, int]) -> None:
        """Charge nothing for a message that ended in an error of the API."""
        at = next(number for number, one in enumerate(self.billed) if one is bill)
        del self.billed[at], self._priced[at]


class _Handler(BaseHTTPRequestHandler):
    server_api: FakeMessagesApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        """Answer, or fail as told."""
        api = self.server_api
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if (wrong := self._wrong_key()) is not None:
            self._fail(Failure(status=401, kind="authentication_error", message=f"invalid key {wrong}"))
        elif self.path != "/v1/messages":
            self._fail(Failure(status=404, raw=b"404 page not found"))
        elif body["model"] not in api.models:
            self._fail(Failure(status=404, kind="not_found_error", message=f"model: {body['model']}"))
        else:
            is_check = body["max_tokens"] == 1
            (api.checks if is_check else api.requests).append(body)
            api.headers.append(dict(self.headers.items()))
            answer = (
                self._over_limit() or self._refused(body) or (self._checked(body) if is_check else self._next(body))
            )
            if isinstance(answer, Failure):
                self._fail(answer)
            else:
                self._stream(body, answer)

    def _wrong_key(self) -> str | None:
        """The key that was given where it is not the right one, or not where it is looked for."""
        api = self.server_api
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        given = {"bearer": bearer, "x-api-key": self.headers.get("x-api-key", "")}
        right = any(given[way] == api.key for way in api.kind.auth)
        return None if right or not api.kind.needs_key else bearer or given["x-api-key"]

    def _over_limit(self) -> Failure | None:
        """What is said where the account has spent what its owner allows."""
        api = self.server_api
        if not api.spend_limit_usd or api.bill_usd < api.spend_limit_usd:
            return None
        code, said = "enforced_spend_limit_reached", "Monthly spend limit reached."
        return Failure(status=429, kind="rate_limit_error", code=code, message=said)

    def _refused(self, body: dict[str, Any]) -> Failure | None:
        """What is said where the rules refuse the request."""
        api = self.server_api
        if (refused := refusal(api.kind, body, api.today)) is None:
            return None
        status, kind, message = refused
        api.refused.append(f"{body['model']}: {message}")
        return Failure(status=status, kind=kind, message=message)

    def _next(self, body: dict[str, Any]) -> Message | Failure:
        api = self.server_api
        if api.lessons is not None and asks_for_lessons(body):
            scripted = api.lessons
        else:
            scripted = api.script.popleft() if api.script else api.always
        return scripted(body) if callable(scripted) else scripted

    def _checked(self, body: dict[str, Any]) -> Message | Failure:
        api = self.server_api
        if api.check is None:
            return Message(
                text="{", stop_reason="max_tokens", output_tokens=1, input_tokens=None if api.kind.has_rules else 10
            )
        return api.check(body) if callable(api.check) else api.check

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "content-type": "application/json",
            "content-length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, failure: Failure) -> None:
        if failure.status <= 0:
            if failure.status < 0:
                self.server_api.closing.wait(30)
            self.close_connection = True
            return
        if failure.raw is not None:
            self.send_response(failure.status)
            self.send_header("content-length", str(len(failure.raw)))
            self.end_headers()
            self.wfile.write(failure.raw)
            return
        details = {"details": {"error_code": failure.code}} if failure.code else {}
        error = {"type": failure.kind, "message": failure.message, **details}
        self._json(failure.status, {"type": "error", "error": error}, failure.headers)

    def _stream(self, body: dict[str, Any], message: Message) -> None:
        api = self.server_api
        time.sleep(message.latency_s)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        bill = api.begin_bill(body, message)
        for number, event in enumerate(_events(message, body, api.kind, bill)):
            if number == message.break_after:
                return
            if number == message.hang_after:
                api.closing.wait(30)
                return
            if message.pause_after and number == message.pause_after[0]:
                api.closing.wait(message.pause_after[1])
            if message.error_after and number == message.error_after[0]:
                api.cancel_bill(bill)
                self._send({"type": "error", "error": {"type": message.error_after[1], "message": "told to fail"}})
                return
            if number == 1:
                bill["output"] = message.output_tokens
            self._send(event)

    def _send(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()


def asks_for_lessons(body: dict[str, Any]) -> bool:
    """Whether a request is not for a proposal."""
    return "Distil the lessons." in str(body["messages"][-1]["content"][-1])


def _form(message: Message, body: dict[str, Any], kind: Kind) -> str:
    """How a proposal is sent: as a tool call, or as a text of some kind."""
    asked = "tool" if body.get("tools") and "format" not in body.get("output_config", {}) else "text"
    return message.form or kind.answers or asked


def _blocks(
    message: Message, body: dict[str, Any], kind: Kind
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each block of the answer, as it starts, and what follows."""
    says = body.get("thinking", {}).get("type")
    thinks = kind.has_rules and (says == "adaptive" or (says is None and RULES[body["model"]].thinks))
    if thinks if message.thinking is None else message.thinking:
        start: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
        yield start, [{"type": "thinking_delta", "thinking": ""}, {"type": "signature_delta", "signature": "c2ln"}]
    if message.text is not None:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": message.text}]
    if message.arguments is None:
        return
    form = _form(message, body, kind)
    wraps = {"fenced": ("```json\n", "\n```"), "words around it": ("Here it is:\n\n", "\n\nGood luck.")}
    before, after = wraps.get(form, ("", ""))
    text = f"{before}{message.arguments}{after}"
    pieces = [text[at : at + 4096] for at in range(0, len(text), 4096)]
    if form != "tool":
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
        return
    for call in range(message.calls):
        name = message.tool or (body["tools"][0]["name"] if body.get("tools") else TOOL)
        start = {"type": "tool_use", "id": f"toolu_{call}", "name": name, "input": {}}
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _events(message: Message, body: dict[str, Any], kind: Kind, bill: dict[str, int]) -> Iterator[dict[str, Any]]:
    usage = {
        "input_tokens": bill["input"], "output_tokens": 1,
        "cache_creation_input_tokens": bill["cache_write"], "cache_read_input_tokens": bill["cache_read"],
    }  # fmt: skip
    silent = message.without_usage or not kind.reports_usage
    start: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": message.model or body["model"],
        "content": [],
    }
    start |= {"stop_reason": None} if silent else {"stop_reason": None, "usage": usage}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    has_call = False
    for index, (block, deltas) in enumerate(_blocks(message, body, kind)):
        has_call = has_call or block["type"] == "tool_use"
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    reason = message.stop_reason
    if reason == "":
        reason = "tool_use" if has_call else "end_turn"
    details = {"type": "refusal", "category": message.category} if reason == "refusal" else None
    delta = {"stop_reason": reason, "stop_sequence": None, "stop_details": details}
    used = {} if silent else {"usage": {"output_tokens": message.output_tokens}}
    yield {"type": "message_delta", "delta": delta, **used}
    yield {"type": "message_stop"}
