"""One call of the Messages API, and what its failures mean. The anthropic SDK is imported only here.

Nothing of the shell's reaches a request: address, key and headers are those of the settings, and the SDK's own retries
and traces are off.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anthropic
import httpx2
from pydantic import SecretStr

from orchestrator.errors import ConfigError, ProposerUnavailable
from orchestrator.propose import prompt_text
from orchestrator.propose.message import Message
from orchestrator.propose.retry import EndpointBusy, EndpointUnreachable, RetryableError, retry_after_s
from orchestrator.types import Usage

PROVIDER_URL = "https://api.anthropic.com"
OK, NOT_FOUND = 200, 404
NO_KEY = "none"  # sent where an endpoint needs no key: without one the SDK looks for credentials by itself
PERMANENT = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "billing_error",
        "not_found_error",
    }
)  # types of errors that waiting does not mend, where a stream brings them after HTTP 200
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
ELSEWHERE = frozenset({301, 302, 303, 307, 308, 405, 410, 501})  # the address is another one, or takes no such request
BUSY_STATUSES = frozenset({429, 503, 529})  # the address is right, and it is only a matter of time
BUSY_TYPES = frozenset({"overloaded_error", "rate_limit_error"})
MAYBE_CHARGED = frozenset({408, 502, 504, 524})  # something between us and the API gave up, the API perhaps not
SPENT = "spend_limit_reached"  # how the codes of errors end that only the owner of the account can mend
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
NEVER_SENDABLE = (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)
SENT_BUT_LOST = (httpx2.HTTPError, anthropic.APIResponseValidationError, json.JSONDecodeError)
_FAILED = (anthropic.AnthropicError, httpx2.HTTPError, httpx2.InvalidURL, ValueError)
_BROKEN = (*_FAILED, LookupError, TypeError, AttributeError)  # events that are none of the API's


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where requests go, with which key, and how long they may take."""

    api_key: SecretStr
    base_url: str | None = None  # None: the provider's
    auth: str = "bearer"  # or x-api-key
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0  # between two pieces of a stream, which may pause for minutes
    call_timeout_s: float = 1800.0  # for all of it

    @property
    def url(self) -> str:
        """The address without the key, for messages."""
        return self.without_key(self.base_url or PROVIDER_URL)

    def without_key(self, text: str) -> str:
        """Strike the key out: an endpoint may echo it, and nothing that is written down may contain it."""
        key = self.api_key.get_secret_value()
        return text if key in ("", NO_KEY) else text.replace(key, "[key]")


@dataclass(slots=True, kw_only=True)
class MessagesApi:
    """Sends one request at a time; `stopped` ends a stream from another thread."""

    endpoint: Endpoint
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def send(self, request: dict[str, Any]) -> Message:
        """Return the whole message. Raises RetryableError, ConfigError or ProposerUnavailable."""
        deadline = time.monotonic() + self.endpoint.call_timeout_s
        message = Message()
        with self._client() as client:
            try:
                stream = client.messages.create(**request, stream=True, extra_headers=self._headers())
            except _FAILED as error:
                raise self._explain(error, request["model"]) from None
            try:
                with stream:
                    for event in stream:
                        message.take(event.to_dict(warnings=False))
                        if message.closed or time.monotonic() > deadline or self.stopped.is_set():
                            break
            except anthropic.APIStatusError as error:
                if not message.ended:
                    raise self._explain(error, request["model"]) from None
            except _BROKEN as error:
                if not message.ended:  # else all of it had come
                    raise self._broken(message, request, f"the stream broke: {self._describe(error)}") from None
        if not message.ended:
            reason = f"the stream ended after {message.size} characters, before the message did"
            raise self._broken(message, request, reason)
        return message

    def _client(self) -> anthropic.Anthropic:
        endpoint = self.endpoint
        return anthropic.Anthropic(
            api_key=endpoint.api_key.get_secret_value() or NO_KEY,
            base_url=endpoint.base_url or PROVIDER_URL,
            max_retries=0,
            default_headers=dict(endpoint.extra_headers),
            timeout=httpx2.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s),
            open_telemetry=False,
        )

    def _headers(self) -> dict[str, Any]:
        if self.endpoint.auth == "bearer":
            return {}
        return {"Authorization": anthropic.Omit(), "X-Api-Key": self.endpoint.api_key.get_secret_value() or NO_KEY}

    def _broken(self, message: Message, request: dict[str, Any], reason: str) -> RetryableError:
        """Return the error for a broken stream: its input is known once it began, its output is not."""
        if "input_tokens" not in message.usage:
            return RetryableError(reason, usage=None)
        return RetryableError(reason, usage=replace(Usage(**message.usage), output_tokens=request["max_tokens"]))

    def _explain(self, error: Exception, model: str) -> Exception:
        """Return the error for a failed request: to be retried, or something must be changed."""
        said, cause = self._describe(error), error.__cause__ or error
        if not isinstance(error, anthropic.APIStatusError):
            if isinstance(cause, NEVER_SENDABLE) or not isinstance(cause, SENT_BUT_LOST):
                return ConfigError(
                    f"{self.endpoint.url}: cannot be called: {said}; fix [claude] base_url and extra_headers"
                )
            if isinstance(cause, NEVER_SENT):
                return EndpointUnreachable(said, usage=Usage())
            return RetryableError(said, usage=None)
        status = error.status_code
        if (error.error_code or "").endswith(SPENT):
            return ProposerUnavailable(
                f"{self.endpoint.url}: a spend limit is reached; raise it, or wait for its reset ({said})"
            )
        if error.type not in PERMANENT if status == OK else status in RETRIED:
            usage = None if status in MAYBE_CHARGED else Usage()
            kind = EndpointBusy if status in BUSY_STATUSES or error.type in BUSY_TYPES else RetryableError
            return kind(said, usage=usage, retry_after_s=retry_after_s(error.response.headers))
        return self._explain_permanent(error, model, said)

    def _explain_permanent(self, error: anthropic.APIStatusError, model: str, said: str) -> Exception:
        """Return the error that says what to change, by status, or within a stream by the type of the error."""
        if error.status_code in ELSEWHERE or (error.status_code == NOT_FOUND and not _is_about(error, model)):
            return ConfigError(f"{self.endpoint.url}: no Messages API at this address; fix [claude] base_url ({said})")
        fixes = {
            (401, "authentication_error"): "invalid API key; set ANTHROPIC_API_KEY or [claude] key_file to a valid one",
            (402, "billing_error"): "a billing problem; resolve it with the provider",
            (403, "permission_error"): f"the key may not use {model!r}; fix [claude] model, or use another key",
            (NOT_FOUND, "not_found_error"): f"unknown model {model!r}; fix [claude] model",
        }
        for (status, kind), fix in fixes.items():
            if error.status_code == status or (error.status_code == OK and error.type == kind):
                return ConfigError(f"{self.endpoint.url}: {fix} ({said})")
        mend = 'answer = "text" and cache = false in [claude] make the plainest request'
        return ProposerUnavailable(f"{self.endpoint.url}: the request to {model!r} was refused ({said}); {mend}")

    def _describe(self, error: Exception) -> str:
        """Return an error in a few words, without the key."""
        cause = error.__cause__ or error
        text = f"{type(cause).__name__} {cause}"
        if isinstance(error, anthropic.APIStatusError):
            kind = f"{error.type} in the stream:" if error.status_code == OK else error.status_code
            text = f"{kind} {error.api_message or error.message}"
        return prompt_text.line(self.endpoint.without_key(text), 300)


def _is_about(error: anthropic.APIStatusError, model: str) -> bool:
    """Return whether an address that answers 404 has the API, but not the model."""
    is_api = isinstance(error.body, dict) and error.body.get("type") == "error"
    said = error.api_message or ""
    return bool(said) and (is_api or model in said)
