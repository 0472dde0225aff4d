"""Proposals from an LLM over the Messages API: which model to ask, and when to stop.

Before any device is leased, each model of the list must answer a request of the real shape. If a model refuses, the
next one of the list is asked for the same idea; several answers in a row without a proposal end the session.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import tenacity

from orchestrator.errors import AutoresearchError, BudgetExhausted, ConfigError, PatchRejected, ProposerUnavailable
from orchestrator.logger import log
from orchestrator.propose import answer
from orchestrator.propose.budget import NOTHING, Bill, Budget, cost_usd, total, worst_case
from orchestrator.propose.message import Message
from orchestrator.propose.messages_api import Endpoint, MessagesApi
from orchestrator.propose.models import Answer, Model
from orchestrator.propose.prompt import Prompt, PromptBuilder
from orchestrator.propose.request import build_request, size_of
from orchestrator.propose.retry import EndpointBusy, EndpointUnreachable, RetryableError, Stop, call_with_retry
from orchestrator.types import Context, Proposal, Reply, Usage
from orchestrator.units import SECONDS_PER_HOUR

NAME = "claude"
CHECK_TRIES = 3
ASKED_FOR_TOKENS = 16_000  # the longest answer, thinking included, that is no proposal
SOON = tenacity.stop_any(  # no such answer is waited for while the API is down
    tenacity.stop_after_attempt(CHECK_TRIES), tenacity.stop_before_delay(60)
)
RETIRES_SOON_DAYS = 30
ADVICE = {
    "": "raise [claude] max_output_tokens, or lower effort",
    "frontier_llm": "it also catches benign work on small models: name other models in [claude] fallback_models",
    "reasoning_extraction": "program.md may ask for written-out reasoning; remove that",
}
OTHER_ADVICE = "check program.md, or name other models in [claude] fallback_models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeSettings:
    """Which models, in which order, and how long to wait for them."""

    models: tuple[Model, ...]
    endpoint: Endpoint
    effort: str | None = None
    max_output_tokens: int = 32_000
    max_refusals: int = 3  # answers in a row without a proposal
    drop_fallbacks: bool = False  # that cannot be asked, as the user did not name them
    cache_for_an_hour: bool = False  # where experiments take longer than the API's cache of five minutes
    max_wait_s: float = 12.0 * SECONDS_PER_HOUR
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0


@dataclass(slots=True, kw_only=True)
class ClaudeProposer:
    """Asks an LLM for one experiment at a time, each time with a self-contained prompt."""

    settings: ClaudeSettings
    prompts: PromptBuilder
    budget: Budget
    waiting: Callable[[str], None] = lambda _reason: None  # tells a person why nothing runs
    name: str = NAME
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    _models: list[Model] = field(default_factory=list, repr=False)  # the one to ask next comes first
    _unanswered: int = 0  # answers in a row without a proposal
    _worst: Usage = NOTHING  # what the last proposal could have cost

    def __post_init__(self) -> None:
        """Begin with the model that the user named."""
        self._models = list(self.settings.models)

    def preflight(self, today: date) -> None:
        """Check files, settings and prices, then call every model. Raises ConfigError or ProposerUnavailable."""
        self.prompts.check()
        check_settings(self.settings, self.budget.max_usd, today)
        for model in self.settings.models:
            try:
                self._check(model)
            except BudgetExhausted as error:  # what is owed, or paid for already, may still run
                log.warning("preflight.skipped", reason=str(error))
            except (ConfigError, ProposerUnavailable) as error:
                if model is self.settings.models[0] or not self.settings.drop_fallbacks:
                    raise
                self._models.remove(model)
                log.warning("fallback.dropped", model=model.id, reason=str(error))

    def ask(self, context: Context) -> Reply:
        """Return the next idea; blocks, for hours if the API is down. Raises ProposerUnavailable or BudgetExhausted."""
        bill, refusals = Bill(self.budget), list[str]()
        tell = (
            (lambda _reason: None) if context.in_flight else self.waiting
        )  # an experiment runs, so nothing is delayed yet
        stop = tenacity.stop_before_delay(self.settings.max_wait_s)
        while True:
            model = self._models[0]
            prompt = self.prompts.build(context, model.answer)
            request = self._request(model, prompt)
            self._worst = self._worst_case(model, request)
            try:
                message = self._repeat(model, request, bill, stop, tell)
            except RetryableError as error:
                raise self._too_long(error) from None
            text = self.settings.endpoint.without_key(json.dumps(message.as_json(), ensure_ascii=False, indent=1))
            if not (category := self._count(model, text)):
                break
            refusals.append(f"{model.id}: {category}")
        if message.usage_known:
            self._compare_counts(prompt, bill.usages[-1])
        return Reply(
            proposer=self.name,
            model=message.model or model.id,
            prompt=prompt.text,
            text=text,
            usage=total(bill.usages),
            parent_id=context.champion.id,
            calls=tuple(bill.calls),
            refusals=tuple(refusals),
        )

    def read(self, reply: Reply) -> Proposal:
        """Parse a stored reply. Raises PatchRejected with what to fix."""
        return answer.read(reply.text)

    def ask_for(self, wanted: answer.Wanted, build: Callable[[Answer], Prompt], *, beside_loop: bool) -> Reply:
        """Ask for something else than a proposal, for minutes at most; where a model refuses, the next one.

        It waits for no API that is down, counts no refusal, and beside the loop leaves the money for a proposal.
        Raises ProposerUnavailable, ConfigError or BudgetExhausted.
        """
        bill, refusals = Bill(self.budget, spare=self._worst if beside_loop else NOTHING), list[str]()
        for model in (models := tuple(self._models)):
            prompt = build(model.answer)
            request = self._request(model, prompt, wanted)
            request["max_tokens"] = min(request["max_tokens"], ASKED_FOR_TOKENS)
            try:
                message = self._repeat(model, request, bill, SOON, _ignore)
            except RetryableError as error:
                raise ProposerUnavailable(f"{self.settings.endpoint.url}: no answer: {error}") from None
            text = self.settings.endpoint.without_key(json.dumps(message.as_json(), ensure_ascii=False, indent=1))
            if not (category := answer.refusal_category(json.loads(text))) or model is models[-1]:
                break
            refusals.append(f"{model.id}: {category}")
        return Reply(
            proposer=self.name, model=message.model or model.id, prompt=prompt.text, text=text,
            usage=total(bill.usages), calls=tuple(bill.calls), refusals=tuple(refusals),
        )  # fmt: skip

    def read_as(self, wanted: answer.Wanted, reply: Reply) -> object:
        """Return the object in a stored reply, unchecked. Raises PatchRejected."""
        return answer.read_object(reply.text, wanted)

    def stop(self) -> None:
        """End a wait in another thread."""
        self._stopped.set()

    def _check(self, model: Model) -> None:
        """Request the shortest answer of a model with a request of the real shape."""
        request = self._request(model, self.prompts.build_check(model.answer)) | {"max_tokens": 1}
        try:
            self._repeat(model, request, Bill(self.budget), self._stop_checking, self.waiting)
        except EndpointBusy as error:
            raise self._too_long(error) from None
        except RetryableError as error:
            unreachable = isinstance(error, EndpointUnreachable)
            why = "cannot be reached" if unreachable else "does not answer like the Messages API"
            url = self.settings.endpoint.url
            raise ProposerUnavailable(f"{url}: {why}: {error}; fix [claude] base_url or the network") from None

    def _stop_checking(self, state: tenacity.RetryCallState) -> bool:
        """Return True to stop: a busy API gets more time than an address that does not answer properly."""
        if state.outcome is not None and isinstance(state.outcome.exception(), EndpointBusy):
            return tenacity.stop_before_delay(self.settings.max_wait_s)(state)
        return state.attempt_number >= CHECK_TRIES

    def _count(self, model: Model, text: str) -> str:
        """Count answers in a row without a proposal; return the category of a refusal, else "".

        Raises ProposerUnavailable at the last one that is allowed. After each, another model is asked.
        """
        why = _why_unanswered(text)
        self._unanswered = self._unanswered + 1 if why else 0
        if not why:
            return ""
        category = answer.refusal_category(json.loads(text))
        log.warning("proposal.missing", model=model.id, category=category, reason=why)
        if self._unanswered >= self.settings.max_refusals:
            advice = ADVICE.get(category, OTHER_ADVICE)
            raise ProposerUnavailable(f"{self._unanswered} answers in a row without a proposal: {why}; {advice}")
        self._models = [*self._models[1:], model]
        return category

    def _request(self, model: Model, prompt: Prompt, wanted: answer.Wanted = answer.PROPOSAL) -> dict[str, Any]:
        settings = self.settings
        return build_request(
            model,
            prompt,
            effort=settings.effort,
            max_output_tokens=settings.max_output_tokens,
            cache_for_an_hour=settings.cache_for_an_hour,
            wanted=wanted,
        )

    def _api(self) -> MessagesApi:
        return MessagesApi(endpoint=self.settings.endpoint, stopped=self._stopped)

    def _repeat(
        self, model: Model, request: dict[str, Any], bill: Bill, stop: Stop, tell: Callable[[str], None]
    ) -> Message:
        """Retry a call until `stop`. Raises RetryableError then."""
        first_s, longest_s = self.settings.first_wait_s, self.settings.longest_wait_s
        return call_with_retry(
            lambda: self._call(model, request, bill),
            stop, tell, first_s=first_s, longest_s=longest_s, stopped=self._stopped,
        )  # fmt: skip

    def _too_long(self, error: RetryableError) -> ProposerUnavailable:
        hours, url = self.settings.max_wait_s / SECONDS_PER_HOUR, self.settings.endpoint.url
        return ProposerUnavailable(
            f"{url}: no answer within {hours:.3g} hours: {error}; run again when it is available"
        )

    def _call(self, model: Model, request: dict[str, Any], bill: Bill) -> Message:
        """Make one call: reserve its worst case, then settle its cost as far as it is known."""
        if self._stopped.is_set():
            raise ProposerUnavailable("stopped while it waited for the API")
        hourly, worst = self.settings.cache_for_an_hour, self._worst_case(model, request)

        def price(usage: Usage) -> Usage:
            return replace(usage, cost_usd=cost_usd(usage, model, hour_writes=hourly))

        with bill.charge(worst) as charge:
            try:
                message = self._api().send(request)
            except RetryableError as error:
                charge.usage = worst if error.usage is None else price(error.usage)
                raise
            except AutoresearchError:
                charge.usage = Usage()
                raise
            charge.usage = price(Usage(**message.usage)) if message.usage_known else worst
        return message

    def _worst_case(self, model: Model, request: dict[str, Any]) -> Usage:
        hourly = self.settings.cache_for_an_hour
        return worst_case(size_of(request), request["max_tokens"], model, hour_writes=hourly)

    def _compare_counts(self, prompt: Prompt, usage: Usage) -> None:
        """Compare our token count, by the task's encoding, with the API's billed one, and scale to it."""
        ours, apis = self.prompts.count(prompt.text), usage.prompt_tokens
        self.prompts.learn(ours, apis)
        log.info("prompt.counted", ours=ours, apis=apis)


def _ignore(_reason: str) -> None:
    """Tell nobody: an experiment runs meanwhile, or the session is over."""


def check_settings(settings: ClaudeSettings, max_usd: float, today: date) -> None:
    """Raise ConfigError if, by the table of models, a call would be refused or could not be charged."""
    for model in settings.models:
        if max_usd and not model.has_price:
            raise ConfigError(
                f"task.toml: [prices.models] has no {model.id!r}, so max_usd = {max_usd:g} cannot be enforced;"
                " add its price, or set max_usd = 0"
            )
        if model.retires and model.retires <= today:
            raise ConfigError(
                f"[claude] model = {model.id!r} was retired on {model.retires}; use one of its successors, as"
                f" {model.fallbacks[0]!r}"
            )
        if model.retires and (model.retires - today).days <= RETIRES_SOON_DAYS:
            log.warning("model.retires", model=model.id, on=str(model.retires))
    first = settings.models[0]
    if settings.effort and settings.effort not in first.efforts:
        known = ", ".join(first.efforts) or "none"
        raise ConfigError(
            f"[claude] effort = {settings.effort!r}: known levels of {first.id!r}: {known}; choose one, or remove it"
        )


def _why_unanswered(text: str) -> str:
    """Return why a reply contains no proposal at all; "" if it contains one, valid or not."""
    try:
        answer.read(text)
    except answer.NoProposal as error:
        return str(error).splitlines()[0]
    except PatchRejected:
        return ""
    return ""
