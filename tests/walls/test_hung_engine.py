"""An engine that takes a call and never answers: every call ends by itself, with what to do."""

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import EngineUnavailable
from orchestrator.walls import engine as engine_module
from orchestrator.walls.engine import Engine
from tests.walls.test_spec import spec

ID = "a" * 64
ANSWERS = {
    "/version": {"ApiVersion": "1.41", "Version": "20.10", "Components": []},
    "/info": {"DefaultRuntime": "runc", "CgroupVersion": "2", "SecurityOptions": []},
}
CALLS: dict[str, Callable[[Engine], Any]] = {
    "info": lambda engine: engine.info(),
    "image": lambda engine: engine.image_id("autoresearch-sandbox:cpu"),
    "volume": lambda engine: engine.volume("out", 4096, {}),
    "no volume": lambda engine: engine.remove_volume("out"),
    "inspect": lambda engine: engine.inspect(ID),
    "create": lambda engine: engine._create(spec(), {}, Path()),
    "query_libpod": lambda engine: engine.query_libpod("info"),
    "start": lambda engine: engine.attach_and_start(ID),
    "kill": lambda engine: engine.kill(ID),
    "remove": lambda engine: engine.remove(ID),
    "reap": lambda engine: engine.reap(),
}


class Hung(http.server.BaseHTTPRequestHandler):
    """Says who it is, then nothing any more."""

    def do_GET(self) -> None:
        """Answer what `connect` asks."""
        answer = next((a for path, a in ANSWERS.items() if self.path.endswith(path)), None)
        if answer is None or self.server.hung.is_set():  # type: ignore[attr-defined]
            self.trickle() if self.server.trickles else self.server.over.wait()  # type: ignore[attr-defined]
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def trickle(self) -> None:
        """Begin an answer that never ends."""
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not self.server.over.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b" ")

    do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815  # their names

    def address_string(self) -> str:
        """A Unix socket has none."""
        return "client"

    def log_message(self, *_: object) -> None:
        """Nothing to print."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """On a socket."""

    daemon_threads = True
    block_on_close = False


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An engine that will hang, and calls that wait a short while only."""
    for name in ("CALL_TIMEOUT_S", "LONG_CALL_TIMEOUT_S"):
        monkeypatch.setattr(engine_module, name, 0.3)
    with Server(str(tmp_path / "engine.sock"), Hung) as server:
        server.hung, server.over = threading.Event(), threading.Event()  # type: ignore[attr-defined]
        server.trickles = False  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("trickles", [False, True], ids=["silent", "trickling"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_call_ends_by_itself(server: Server, call: Callable[[Engine], Any], *, trickles: bool) -> None:
    """And says that the engine does not answer; one byte now and then is no answer."""
    engine = Engine.connect(f"unix://{server.server_address!s}")
    server.trickles = trickles  # type: ignore[attr-defined]
    server.hung.set()  # type: ignore[attr-defined]

    with pytest.raises(EngineUnavailable, match="does not answer"):
        call(engine)


@pytest.mark.timeout(30)
def test_a_container_may_take_longer_to_make(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the message says, where others end earlier."""
    engine = Engine.connect(f"unix://{server.server_address!s}")
    monkeypatch.setattr(engine_module, "LONG_CALL_TIMEOUT_S", 1.5)
    server.hung.set()  # type: ignore[attr-defined]
    began = time.monotonic()

    with pytest.raises(EngineUnavailable, match=r"create .*, 1\.5 s"):
        engine._create(spec(), {}, Path())
    assert 1.5 <= time.monotonic() - began < 10


@pytest.mark.timeout(30)
def test_an_engine_that_hangs_from_the_start_is_none(server: Server) -> None:
    """So does the first call."""
    server.hung.set()  # type: ignore[attr-defined]

    with pytest.raises(EngineUnavailable, match="answer"):
        Engine.connect(f"unix://{server.server_address!s}")
