"""Other endpoints than the provider's: what each lacks, and where a key goes."""

import os
from pathlib import Path

import pytest

from orchestrator import compose, propose
from orchestrator.errors import ConfigError, ProposerUnavailable
from orchestrator.record.journal import Journal
from orchestrator.types import Status
from tests.propose.test_night import idea, sleep_through, task
from tests.support.api_rules import KINDS
from tests.support.fake_messages_api import KEY, Failure, FakeMessagesApi, Message

KEYED = {"ANTHROPIC_API_KEY": KEY}
# as docs/proposer.md has them
RECIPES: dict[str, dict[str, object]] = {
    "ollama": {},
    "llama.cpp": {"claude.auth": "x-api-key"},
    "vllm": {"claude.auth": "bearer"},
    "strict gateway": {"claude.extra_headers": {"x-team": "research"}},
}


def serving(kind: str) -> FakeMessagesApi:
    """An endpoint of a kind, with one model."""
    return FakeMessagesApi(kind=KINDS[kind], models=("qwen3-coder",))


def local(tmp_path: Path, api: FakeMessagesApi, **flags: object) -> dict[str, object]:
    """The settings of a model that is served elsewhere and has no price."""
    values = {"claude.endpoint": "compatible", "claude.model": "qwen3-coder", "claude.fallback_models": None}
    return values | {"limits.max_usd": 0.0, "limits.experiments": 2, "prefetch": 0} | flags


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without what other programs are told."""
    for name in propose.SHELL:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_runs_experiments(tmp_path: Path, kind: str) -> None:
    """The whole loop: the plainest request is taken, and the answer is read in the form that the server has for it."""
    with serving(kind) as api:
        api.always = lambda body: Message(arguments=idea(len(api.requests), body).arguments, thinking=kind == "vllm")
        config = task(tmp_path, api, **local(tmp_path, api, **RECIPES[kind]))
        reason, ran = sleep_through(config)

    assert ("2 experiments done", 3) == (reason, len(ran))
    assert 1 == len(api.checks)
    with Journal.read(config.run_path) as journal:
        assert Status.INVALID not in {e.status for e in journal.experiments()}
        charged = journal.charged()
    sent = 3 * 1000 if KINDS[kind].reports_usage else 0
    assert charged.total_tokens >= sent


def test_tools_can_be_asked_for_where_the_server_has_them(tmp_path: Path) -> None:
    """Without being forced; and what a server without them says is told before anything starts."""
    with serving("ollama") as api:
        api.kind = KINDS["anthropic"].__class__(needs_key=False)
        api.always = lambda body: idea(len(api.requests), body)
        config = task(tmp_path, api, **local(tmp_path, api, **{"claude.answer": "tool"}))
        sleep_through(config)

    assert {"auto"} == {request["tool_choice"]["type"] for request in api.requests}
    assert "output_config" not in api.requests[0]


CANNOT = {
    "a server without tools": ("llama.cpp", {"claude.answer": "tool"}, "tools param requires --jinja"),
    "a gateway without schemas": (
        "strict gateway", {"claude.answer": "structured"}, 'output_config: Extra inputs .* answer = "text"'
    ),
    "a gateway without marks": (
        "strict gateway", {"claude.cache": True}, "cache_control: Extra inputs .* cache = false"
    ),
    "a model that is not served": ("vllm", {"claude.model": "qwen4"}, "unknown model 'qwen4'"),
    "a key at the wrong place": ("vllm", {"claude.auth": "x-api-key"}, "invalid API key"),
}  # fmt: skip


@pytest.mark.parametrize("case", CANNOT)
def test_what_an_endpoint_cannot_do_is_told_before_anything_starts(tmp_path: Path, case: str) -> None:
    """In one line, with the mend; no proposal was asked for."""
    kind, flags, expected = CANNOT[case]
    with serving(kind) as api, Journal.open(tmp_path / "runs" / "t") as journal:
        config = task(tmp_path, api, **local(tmp_path, api, **flags))
        with pytest.raises((ConfigError, ProposerUnavailable), match=expected) as caught:
            propose.build(config, journal, KEYED)

    assert "\n" not in str(caught.value)
    assert [] == api.requests


def test_an_endpoint_without_keys_needs_none(tmp_path: Path) -> None:
    """None of the machine's is sent instead, and no profile on disk is looked for."""
    with serving("ollama") as api, Journal.open(tmp_path / "runs" / "t") as journal:
        config = task(tmp_path, api, **local(tmp_path, api))
        propose.build(config, journal, {})

    assert ["Bearer none"] == [headers.get("Authorization") for headers in api.headers]


@pytest.mark.parametrize("auth", ["bearer", "x-api-key"])
def test_the_key_goes_into_one_header(tmp_path: Path, auth: str) -> None:
    """The one that was asked for, and into no other."""
    with FakeMessagesApi() as api, Journal.open(tmp_path / "runs" / "t") as journal:
        propose.build(task(tmp_path, api, **{"claude.auth": auth}), journal, KEYED)
    headers = {name.lower(): value for name, value in api.headers[0].items()}

    assert (f"Bearer {KEY}" if auth == "bearer" else None) == headers.get("authorization")
    assert (KEY if auth == "x-api-key" else None) == headers.get("x-api-key")
    assert "2026-10-21" == headers["anthropic-version"]


def test_the_shell_of_the_user_changes_no_request(tmp_path: Path, shell: pytest.MonkeyPatch) -> None:
    """Address, token and headers that are meant for other programs are not used, and that is said."""
    with FakeMessagesApi() as api, FakeMessagesApi() as other, Journal.open(tmp_path / "runs" / "t") as journal:
        shell.setenv("ANTHROPIC_BASE_URL", other.url)
        shell.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-another")
        shell.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer evil\nx-other: 1")
        config = task(tmp_path, api)
        (note, *_) = [note for note in propose.notes(config, os.environ) if "not used" in note]
        propose.build(config, journal, dict(os.environ) | KEYED)

    assert "ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_CUSTOM_HEADERS of your shell are not used" in note
    assert [] == other.headers
    headers = {name.lower(): value for name, value in api.headers[0].items()}
    assert f"Bearer {KEY}" == headers["authorization"]
    assert "x-other" not in headers


def test_the_user_is_told_where_the_shells_key_goes(tmp_path: Path) -> None:
    """To an address of theirs; a key file is meant for it."""
    with FakeMessagesApi() as api:
        plain, own = task(tmp_path, api), None
        own = plain.model_copy(update={"claude": plain.claude.model_copy(update={"key_file": Path("key")})})

    assert [f"ANTHROPIC_API_KEY of your shell is sent to {api.url}; [claude] key_file names another key"] == list(
        propose.notes(plain, KEYED)
    )
    assert [] == list(propose.notes(own, KEYED))


@pytest.mark.parametrize("text", [f'"{KEY}"', f"ANTHROPIC_API_KEY={KEY}", f"export ANTHROPIC_API_KEY='{KEY}'\n"])
def test_a_key_file_may_be_a_line_of_a_shell_script(tmp_path: Path, text: str) -> None:
    """Quotes and the name of the variable are no part of the key."""
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with FakeMessagesApi() as api, Journal.open(tmp_path / "runs" / "t") as journal:
        propose.build(task(tmp_path, api, **{"claude.key_file": path}), journal, {})

    assert f"Bearer {KEY}" == api.headers[0]["Authorization"]


def test_a_gateway_that_fails_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """A page of a proxy instead of an answer: after a few tries the address is named."""
    with FakeMessagesApi(check=Failure(status=200, raw=b"<html>login</html>")) as api:
        config = task(tmp_path, api)
        with (
            Journal.open(tmp_path / "runs" / "t") as journal,
            pytest.raises(ProposerUnavailable, match=rf"{api.url}: does not answer like the Messages API"),
        ):
            propose.build(config, journal, KEYED)

    assert 3 == len(api.checks)


NO_API = {
    "a page": Failure(status=404, raw=b"<html>404</html>"),
    "another API's words": Failure(
        status=404, raw=b'{"error": {"message": "Invalid URL (POST /v1/messages)", "type": "invalid_request_error"}}'
    ),
    "a framework's words": Failure(status=404, raw=b'{"detail": "Not Found"}'),
    "another method": Failure(status=405, raw=b"no"),
    "another place": Failure(status=308, raw=b"moved"),
    "nothing of the kind": Failure(status=501, raw=b""),
}


@pytest.mark.parametrize("case", NO_API)
def test_an_address_without_the_api_is_no_missing_model(tmp_path: Path, case: str) -> None:
    """The setting to fix is the address."""
    with (
        FakeMessagesApi(check=NO_API[case]) as api,
        Journal.open(tmp_path / "runs" / "t") as journal,
        pytest.raises(ConfigError, match=rf"^{api.url}: no Messages API at this address; fix \[claude\] base_url"),
    ):
        propose.build(task(tmp_path, api), journal, KEYED)


def test_what_is_not_used_of_the_shell_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the session then fails: before anything is sent, and told to whoever subscribes."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://elsewhere")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-wrong-0123456789")
    told = list[str]()

    def subscribe(journal: Journal) -> None:
        journal.subscribe(lambda recorded: told.append(recorded.event.kind))

    with FakeMessagesApi() as api:
        config = task(tmp_path, api)
        with pytest.raises(ConfigError, match="invalid API key"), compose.open_session(config, subscribe):
            pass
    with Journal.read(config.run_path) as journal:
        notes = journal.notes()

    assert ["session.note", "session.note"] == told[:2]
    assert [f"ANTHROPIC_API_KEY of your shell is sent to {api.url}; [claude] key_file names another key"] == notes[:1]
    assert notes[1].startswith("ANTHROPIC_BASE_URL of your shell is not used: ")
