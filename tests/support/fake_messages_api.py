"""A real HTTP server on loopback that speaks the Messages API, streaming, and fails when told to.

It bills as the API does: input when a message starts, output for what it sent, also when the stream broke afterwards.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOOL = "propose_experiment"
KEY = "sk-test-0123456789-canary"
MODEL = "claude-opus-4-5"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A whole answer: blocks as they would be, or a tool call with raw argument text."""

    arguments: str | None = None  # of the tool call, sent as they are
    text: str | None = None
    stop_reason: str | None = "tool_use"
    model: str = MODEL
    calls: int = 1
    tool: str = TOOL
    input_tokens: int = 1000
    output_tokens: int = 200
    cache_read: int = 0
    cache_write: int = 0
    break_after: int | None = None  # events, then the connection is cut
    hang_after: int | None = None  # events, then nothing more comes
    error_after: tuple[int, str] | None = None  # events, then an error event of this type
    without_usage: bool = False
    latency_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """No answer but a status; 0 drops the connection, -1 sends nothing at all."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "api_error"
    message: str = "told to fail"
    raw: bytes | None = None


Scripted = Message | Failure | Callable[[dict[str, Any]], "Message | Failure"]


def proposal(search: str, replace: str, hypothesis: str = "a change", **more: Any) -> str:
    """The arguments of a good tool call."""
    edits = [{"search": search, "replace": replace}]
    return json.dumps({"hypothesis": hypothesis, "expected_effect": "lower", "edits": edits} | more)


@dataclass
class FakeMessagesApi:
    """Answers from `script`, one entry a message request, then `always`."""

    script: deque[Scripted] = field(default_factory=deque)
    always: Scripted = field(default_factory=lambda: Message(arguments=proposal("a", "b")))
    key: str = KEY
    models: tuple[str, ...] = (MODEL,)
    count: Failure | None = None  # how count_tokens fails
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    counted: int = 0
    billed: list[dict[str, int]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Listen on a free port."""
        api = self

        class Handler(_Handler):
            server_api = api

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
        """What all of it cost, by the bill."""
        return sum(amount * price[kind] for bill in self.billed for kind, amount in bill.items()) / 1e6


class _Handler(BaseHTTPRequestHandler):
    server_api: FakeMessagesApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        """Answer, or fail as told."""
        api = self.server_api
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        given = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
        if given != api.key:
            self._fail(Failure(status=401, kind="authentication_error", message=f"invalid key {given}"))
        elif body["model"] not in api.models:
            self._fail(Failure(status=404, kind="not_found_error", message=f"model: {body['model']}"))
        elif self.path == "/v1/messages/count_tokens":
            api.counted += 1
            self._fail(api.count) if api.count else self._json(200, {"input_tokens": 42})
        else:
            api.requests.append(body)
            api.headers.append(dict(self.headers.items()))
            scripted = api.script.popleft() if api.script else api.always
            answer = scripted(body) if callable(scripted) else scripted
            self._fail(answer) if isinstance(answer, Failure) else self._stream(answer)

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
        error = {"type": failure.kind, "message": failure.message}
        self._json(failure.status, {"type": "error", "error": error}, failure.headers)

    def _stream(self, message: Message) -> None:
        time.sleep(message.latency_s)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        bill = {"input": message.input_tokens}
        bill |= {"cache_write": message.cache_write, "cache_read": message.cache_read}
        self.server_api.billed.append(bill)
        for number, planned in enumerate(_events(message)):
            event = planned
            if number == message.break_after:
                return
            if number == message.hang_after:
                self.server_api.closing.wait(30)
                return
            if message.error_after and number == message.error_after[0]:
                event = {"type": "error", "error": {"type": message.error_after[1], "message": "overloaded"}}
            if number == 1:
                bill["output"] = message.output_tokens
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()


def _events(message: Message) -> Iterator[dict[str, Any]]:
    usage = {
        "input_tokens": message.input_tokens, "output_tokens": 1,
        "cache_creation_input_tokens": message.cache_write, "cache_read_input_tokens": message.cache_read,
    }  # fmt: skip
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": message.model, "content": []}
    start |= {"stop_reason": None} if message.without_usage else {"stop_reason": None, "usage": usage}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    index = 0
    if message.text is not None:
        yield {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        yield {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": message.text}}
        yield {"type": "content_block_stop", "index": index}
        index += 1
    for call in range(message.calls if message.arguments is not None else 0):
        block = {"type": "tool_use", "id": f"toolu_{call}", "name": message.tool, "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        arguments = message.arguments or ""
        for at in range(0, len(arguments), 4096):
            delta = {"type": "input_json_delta", "partial_json": arguments[at : at + 4096]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
        index += 1
    used = {} if message.without_usage else {"usage": {"output_tokens": message.output_tokens}}
    yield {"type": "message_delta", "delta": {"stop_reason": message.stop_reason, "stop_sequence": None}, **used}
    yield {"type": "message_stop"}
