"""Ideas from an LLM over the Messages API. The anthropic SDK is imported only here, and so are its exceptions.

Faults of the API and the network are waited out, with retry-after honoured and the SDK's own retries off; what waiting
cannot fix (a wrong key, an unknown model) ends at once in one line. Every call is paid for in advance: see budget.py.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anthropic
import httpx2
import structlog
import tenacity
from pydantic import SecretStr

from orchestrator.errors import AutoresearchError, ConfigError, ProposerUnavailable
from orchestrator.propose import budget, prompt_text, tool_schema
from orchestrator.propose.message import Message
from orchestrator.propose.prompt import Prompt, PromptBuilder
from orchestrator.propose.retry import EndpointUnreachable, RetryableError, call_with_retry, retry_after_s
from orchestrator.settings import Price
from orchestrator.types import Context, Proposal, Reply, Usage
from orchestrator.units import SECONDS_PER_HOUR

log = structlog.get_logger()
T = TypeVar("T")

NAME = "claude"
RETRIED = frozenset({408, 409, 425, 429})  # and every 5xx
MAYBE_CHARGED = frozenset({408, 502, 504, 524})  # something between us and the API gave up, the API perhaps not
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
NEVER_SENDABLE = (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)
SENT_BUT_LOST = (httpx2.HTTPError, anthropic.APIResponseValidationError, json.JSONDecodeError)
PREFLIGHT_TRIES = 3
_FAILED = (anthropic.AnthropicError, httpx2.HTTPError, httpx2.InvalidURL, ValueError)
_BROKEN = (*_FAILED, LookupError, TypeError, AttributeError)  # events that are none of the API's


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeSettings:
    """Which model, where, and how long to wait for it."""

    model: str
    api_key: SecretStr
    base_url: str | None = None
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    max_output_tokens: int = 16_000
    thinking_tokens: int = 0
    price: Price | None = None
    cache_for_an_hour: bool = False  # where experiments take longer than the API's cache of five minutes
    max_wait_s: float = 12.0 * SECONDS_PER_HOUR
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 120.0  # between two pieces of a stream
    call_timeout_s: float = 1800.0  # for all of it


@dataclass(slots=True, kw_only=True)
class ClaudeProposer:
    """Asks the LLM for one experiment at a time, each time with a prompt that says everything."""

    settings: ClaudeSettings
    prompts: PromptBuilder
    budget: budget.Budget
    waiting: Callable[[str], None] = lambda _reason: None  # tells a person why nothing runs
    name: str = NAME
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def preflight(self) -> None:
        """Check files, prices, key and model before the first experiment. Raises ConfigError or ProposerUnavailable."""
        self.prompts.check()
        if self.budget.max_usd and self.settings.price is None:
            raise ConfigError(
                f"task.toml: [prices.models] has no {self.settings.model!r}, so max_usd = {self.budget.max_usd:g}"
                " cannot be held; add its price, or set max_usd = 0"
            )
        try:
            self._patiently(self._count_tokens, tenacity.stop_after_attempt(PREFLIGHT_TRIES), self.waiting)
        except EndpointUnreachable as error:
            raise ProposerUnavailable(
                f"{self._url()}: cannot be reached: {error}; fix [claude] base_url or the network"
            ) from None
        except RetryableError as delayed:  # the API is there, though not well: the first call waits until it is
            log.warning("preflight.skipped", reason=str(delayed))

    def ask(self, context: Context) -> Reply:
        """The next idea; blocks, for hours if the API is down. Raises ProposerUnavailable or BudgetExhausted."""
        prompt = self.prompts.build(context)
        request = self._request(prompt)
        worst = self._worst(request)
        calls: list[int] = []
        charged: list[Usage] = []

        def attempt() -> dict[str, Any]:
            if self._stopped.is_set():
                raise ProposerUnavailable("stopped while it waited for the API")
            calls.append(self.budget.reserve(worst))
            charged.append(worst)  # as long as nothing better is known
            try:
                answer = self._called(request)
                charged[-1] = self._usage(answer, worst)
                return answer.as_json()
            except RetryableError as delayed:
                charged[-1] = worst if delayed.usage is None else delayed.usage
                raise
            except AutoresearchError:
                charged[-1] = Usage()
                raise
            finally:
                self.budget.settle(calls[-1], charged[-1])

        tell = (lambda _reason: None) if context.in_flight else self.waiting  # something runs: nobody waits yet
        try:
            message = self._patiently(attempt, tenacity.stop_before_delay(self.settings.max_wait_s), tell)
        except RetryableError as delayed:
            hours = self.settings.max_wait_s / SECONDS_PER_HOUR
            text = f"{self._url()}: no answer within {hours:.3g} hours: {delayed}; run again when it is back"
            raise ProposerUnavailable(text) from None
        if charged[-1] is not worst:
            self._compare_counts(prompt, charged[-1])
        return Reply(
            proposer=self.name,
            model=message["model"] or self.settings.model,
            prompt=prompt.text,
            text=self._secretless(json.dumps(message, ensure_ascii=False, indent=1)),
            usage=budget.total(charged),
            parent_id=context.best.id,
            calls=tuple(calls),
        )

    def read(self, reply: Reply) -> Proposal:
        """Parse a stored reply. Raises PatchRejected with what to fix."""
        return tool_schema.read(reply)

    def stop(self) -> None:
        """End a wait that goes on in another thread."""
        self._stopped.set()

    # ---- one call

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        """The body of the request, cached parts marked."""
        mark = {"type": "ephemeral"} | ({"ttl": "1h"} if self.settings.cache_for_an_hour else {})
        system: list[dict[str, Any]] = []
        user: list[dict[str, Any]] = []
        for block in prompt.blocks:
            text = f"# {block.title}\n\n{block.text}".encode("utf-8", "replace").decode()
            part = {"type": "text", "text": text} | ({"cache_control": mark} if block.cached else {})
            (system if block.system else user).append(part)
        request: dict[str, Any] = {
            "model": self.settings.model,
            "max_tokens": self.settings.max_output_tokens,
            "system": system,
            "messages": [{"role": "user", "content": user}],
            "tools": [_TOOL],
            "tool_choice": {"type": "tool", "name": tool_schema.NAME, "disable_parallel_tool_use": True},
        }
        if self.settings.thinking_tokens:  # the API lets no model think that is forced to call a tool
            request["thinking"] = {"type": "enabled", "budget_tokens": self.settings.thinking_tokens}
            request["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        return request

    def _client(self) -> anthropic.Anthropic:
        """A client without the SDK's own retries."""
        settings = self.settings
        return anthropic.Anthropic(
            api_key=settings.api_key.get_secret_value(),
            base_url=settings.base_url,
            max_retries=0,
            default_headers=dict(settings.extra_headers),
            timeout=httpx2.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
        )

    def _count_tokens(self) -> None:
        """Ask for a count: free, and it needs a right key and a known model."""
        with self._client() as client:
            try:
                client.messages.count_tokens(
                    model=self.settings.model, messages=[{"role": "user", "content": "?"}], tools=[_TOOL]
                )
            except anthropic.NotFoundError as error:
                if error.type != "not_found_error":  # a gateway that cannot count
                    log.warning("preflight.skipped", reason=self._secretless(str(error)))
                    return
                raise self._explained(error) from None
            except _FAILED as error:
                raise self._explained(error) from None

    def _called(self, request: dict[str, Any]) -> Message:
        """One request, its stream read to the end. Raises RetryableError, ConfigError or ProposerUnavailable."""
        deadline = time.monotonic() + self.settings.call_timeout_s
        message = Message()
        with self._client() as client:
            try:
                stream = client.messages.create(**request, stream=True)
            except _FAILED as error:
                raise self._explained(error) from None
            try:
                with stream:
                    for event in stream:
                        message.take(event.to_dict(warnings=False))
                        if message.closed or time.monotonic() > deadline or self._stopped.is_set():
                            break
            except _BROKEN as error:
                if not message.ended:  # else all of it had come
                    reason = f"the stream broke: {self._said(error)}"
                    raise RetryableError(reason, usage=self._at_most(message)) from None
        if not message.ended:
            reason = f"the stream ended after {message.size} characters, before the message did"
            raise RetryableError(reason, usage=self._at_most(message))
        return message

    # ---- money

    def _worst(self, request: dict[str, Any]) -> Usage:
        size = len(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace"))
        return budget.worst_case(
            size, self.settings.max_output_tokens, self.settings.price, hour_writes=self.settings.cache_for_an_hour
        )

    def _compare_counts(self, prompt: Prompt, usage: Usage) -> None:
        """Ours are by the task's own encoding; the API's are those that are paid for, and hold from then on."""
        ours, apis = self.prompts.count(prompt.text), usage.prompt_tokens
        self.prompts.learn(ours, apis)
        log.info("prompt.counted", ours=ours, apis=apis)

    def _usage(self, message: Message, worst: Usage) -> Usage:
        """What a whole message cost; an endpoint that does not tell is charged the worst case."""
        return self._priced(Usage(**message.usage)) if message.usage_known else worst

    def _at_most(self, message: Message) -> Usage | None:
        """What a broken stream has cost: its input is known once it began, its output is not."""
        if "input_tokens" not in message.usage:
            return None
        return self._priced(replace(Usage(**message.usage), output_tokens=self.settings.max_output_tokens))

    def _priced(self, usage: Usage) -> Usage:
        if self.settings.price is None:
            return usage
        cost = budget.cost_usd(usage, self.settings.price, hour_writes=self.settings.cache_for_an_hour)
        return replace(usage, cost_usd=cost)

    # ---- waiting, and what waiting cannot fix

    def _patiently(self, attempt: Callable[[], T], stop: tenacity.stop.stop_base, tell: Callable[[str], None]) -> T:
        first_s, longest_s = self.settings.first_wait_s, self.settings.longest_wait_s
        return call_with_retry(attempt, stop, tell, first_s=first_s, longest_s=longest_s, stopped=self._stopped)

    def _explained(self, error: Exception) -> Exception:
        """What a failed request means: wait, or fix something."""
        said, cause = self._said(error), error.__cause__ or error
        if not isinstance(error, anthropic.APIStatusError):
            if isinstance(cause, NEVER_SENDABLE) or not isinstance(cause, SENT_BUT_LOST):
                return ConfigError(f"{self._url()}: cannot be asked: {said}; fix [claude] base_url and extra_headers")
            if isinstance(cause, NEVER_SENT):
                return EndpointUnreachable(said, usage=Usage())
            return RetryableError(said, usage=None)
        status = error.status_code
        if status in RETRIED or status >= 500:  # noqa: PLR2004 - HTTP's
            usage = None if status in MAYBE_CHARGED else Usage()
            return RetryableError(said, usage=usage, retry_after_s=retry_after_s(error.response.headers))
        fixes = {
            401: "the API does not know the key; set ANTHROPIC_API_KEY or [claude] key_file to a valid one",
            403: f"the key may not use {self.settings.model!r}; fix [claude] model, or use another key",
            404: f"no model {self.settings.model!r} there; fix [claude] model in task.toml",
        }
        if status in fixes:
            return ConfigError(f"{self._url()}: {fixes[status]} ({said})")
        return ProposerUnavailable(f"{self._url()}: the request was refused ({said})")

    def _said(self, error: Exception) -> str:
        """An error in a few words, without the key."""
        cause = error.__cause__ or error
        text = f"{error.status_code} {error.api_message or error.message}" if isinstance(
            error, anthropic.APIStatusError
        ) else f"{type(cause).__name__} {cause}"  # fmt: skip
        return prompt_text.line(self._secretless(text), 300)

    def _url(self) -> str:
        return self._secretless(self.settings.base_url or "the API")

    def _secretless(self, text: str) -> str:
        """An endpoint may echo the key; nothing that is written down may hold it."""
        return text.replace(self.settings.api_key.get_secret_value(), "[key]")


_TOOL: Any = {
    "name": tool_schema.NAME,
    "description": tool_schema.DESCRIPTION,
    "input_schema": tool_schema.SCHEMA,
    "strict": True,
}
