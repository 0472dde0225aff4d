"""Through the real LiteLLM gateway to our emulator: the same requests, the same bill. tests/litellm.sh installs it."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import propose
from orchestrator.errors import ConfigError, ProposerUnavailable
from orchestrator.record.journal import Journal
from tests.propose.test_models import measured
from tests.propose.test_night import idea, sleep_through, task
from tests.support.fake_messages_api import KEY, FakeMessagesApi, Message

ROOT = Path(__file__).parents[2]
LITELLM = ROOT / "build" / "litellm" / "bin" / "litellm"
GATEWAY_KEY = "sk-gateway-9876543210"
MODEL = "claude-opus-5-5"
PATIENCE_S = 60.0
STARTS_WITHIN_S = 240.0  # it imports a great deal
SETTINGS = f"""
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: anthropic/{MODEL}
      api_base: os.environ/UPSTREAM
      api_key: os.environ/UPSTREAM_KEY
general_settings:
  master_key: os.environ/GATEWAY_KEY
"""
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Gateway:
    """The gateway, and the emulator behind it."""

    url: str
    api: FakeMessagesApi


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway for the tests of this file."""
    assert LITELLM.exists(), f"{LITELLM} is missing; tests/litellm.sh installs it"
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "settings.yaml").write_text(SETTINGS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with FakeMessagesApi(models=(MODEL,)) as api, (folder / "log").open("wb") as log:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "UPSTREAM": api.url, "UPSTREAM_KEY": KEY,
            "GATEWAY_KEY": GATEWAY_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }  # fmt: skip
        argv = [str(LITELLM), "--config", "settings.yaml", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            argv, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + STARTS_WITHIN_S
            while not answers(f"{url}/health/liveliness"):
                end = (folder / "log").read_text()[-2000:]
                assert process.poll() is None, f"it ended: {end}"
                assert time.monotonic() < until, f"it does not answer: {end}"
                time.sleep(0.5)
            yield Gateway(url, api)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    """Whether something is served there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - loopback
            return bool(response.status == 200)
    except OSError:
        return False


def settings(gateway: Gateway, **flags: object) -> dict[str, object]:
    """As docs/proposer.md has them."""
    values = {"claude.base_url": gateway.url, "claude.model": MODEL, "claude.endpoint": None, "prefetch": 0}
    return values | {"claude.fallback_models": None, "api_key": GATEWAY_KEY} | flags


def test_three_experiments_through_the_gateway_cost_what_is_billed(gateway: Gateway, tmp_path: Path) -> None:
    """Structured output, effort, cache marks and the counts of tokens pass through it in both directions."""
    api = gateway.api
    numbers = iter(range(1, 100))
    api.always = lambda body: measured(idea(next(numbers), body))
    before, asked = api.bill_usd, len(api.requests)
    config = task(tmp_path, api, **settings(gateway, **{"limits.experiments": 3, "claude.effort": "low"}))
    reason, ran = sleep_through(config, PATIENCE_S)
    requests = api.requests[asked:]

    assert ("3 experiments done", 4) == (reason, len(ran))
    with Journal.read(config.run_path) as journal:
        spent = journal.charged()
    assert pytest.approx(api.bill_usd - before, abs=1e-9) == spent.cost_usd > 0
    assert spent.cache_read_input_tokens > 0
    assert {"low"} == {request["output_config"]["effort"] for request in requests}
    assert all("schema" in request["output_config"]["format"] for request in requests)
    assert GATEWAY_KEY not in str(api.headers)


def test_a_refusal_passes_through_with_its_category(gateway: Gateway, tmp_path: Path) -> None:
    """And a run of them ends the session."""
    gateway.api.always = Message(stop_reason="refusal", category="frontier_llm")
    with pytest.raises(ProposerUnavailable, match=r"3 answers .*frontier_llm"):
        sleep_through(task(tmp_path, gateway.api, **settings(gateway)), PATIENCE_S)


def test_a_tool_that_is_not_forced_is_taken(gateway: Gateway, tmp_path: Path) -> None:
    """Where a person prefers a tool call; the emulator refuses one that is forced."""
    gateway.api.always = lambda body: idea(len(gateway.api.requests), body)
    asked = len(gateway.api.requests)
    sleep_through(
        task(tmp_path, gateway.api, **settings(gateway, **{"claude.answer": "tool", "limits.experiments": 1}))
    )

    assert ["auto"] == [request["tool_choice"]["type"] for request in gateway.api.requests[asked:]]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            {"api_key": "sk-wrong"},
            "was refused (400 No connected db.)",
        ),  # what it says of a wrong key where it has no database
        ({"claude.model": "claude-sonnet-5-5"}, "'claude-sonnet-5-5' was refused"),
    ],
)
def test_what_the_gateway_refuses_is_told_at_the_start(
    gateway: Gateway, tmp_path: Path, flags: dict[str, object], expected: str
) -> None:
    """A key or a model that it does not have, in one line; no proposal was asked for."""
    asked = len(gateway.api.requests)
    config = task(tmp_path, gateway.api, **settings(gateway, **flags))
    with Journal.open(config.run_path) as journal, pytest.raises((ConfigError, ProposerUnavailable)) as caught:
        propose.build(config, journal, {})

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked == len(gateway.api.requests)
