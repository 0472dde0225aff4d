"""Money and tokens: the worst case of a call is reserved before it is made. Pure apart from the ledger passed in.

The ledger is the journal. A reservation is recorded before the request is sent and settled after the answer arrives, so
a session killed in between has spent the worst case, and the limits hold across restarts.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.errors import BudgetExhausted
from orchestrator.propose.models import Model
from orchestrator.settings import Profile
from orchestrator.types import Usage

PER_MILLION = 1e-6
CACHE_S = 300  # how long the API remembers a prompt by default
HOUR_WRITE_FACTOR = 2.0  # writing to the API's cache for an hour costs twice the input price
OVERHEAD_TOKENS = 2000  # what the API adds to a request with tools


class Ledger(Protocol):
    """Where calls are charged."""

    def reserve(self, worst: Usage) -> int:
        """Record that a call may cost this much; returns the number of the reservation."""

    def settle(self, call: int, actual: Usage) -> None:
        """Replace the reservation by the actual cost."""

    def charged(self) -> Usage:
        """Return the run's spending, with open reservations at their worst case."""


def outlives_cache(profile: Profile) -> bool:
    """Return True if an experiment takes longer than the API's default cache lifetime; then an hour is paid for."""
    return profile.time_budget_s + profile.score_budget_s > CACHE_S


def cost_usd(usage: Usage, model: Model, *, hour_writes: bool = False) -> float:
    """Return the cost of the tokens in US dollars, 0 without a price; cache writes for five minutes or an hour."""
    price = model.price(usage.prompt_tokens)
    if price is None:
        return 0.0
    write = price.input * HOUR_WRITE_FACTOR if hour_writes else price.cache_write
    return PER_MILLION * (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_creation_input_tokens * write
        + usage.cache_read_input_tokens * price.cache_read
    )


def total(usages: Iterable[Usage]) -> Usage:
    """Return the sum of several usages."""
    all_of = list(usages)
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in all_of),
        output_tokens=sum(usage.output_tokens for usage in all_of),
        cache_creation_input_tokens=sum(usage.cache_creation_input_tokens for usage in all_of),
        cache_read_input_tokens=sum(usage.cache_read_input_tokens for usage in all_of),
        cost_usd=sum(usage.cost_usd for usage in all_of),
    )


def worst_case(request_bytes: int, max_output_tokens: int, model: Model, *, hour_writes: bool = False) -> Usage:
    """Return the most that a call can cost: no token is shorter than a byte, and none is read from the cache.

    Every token is written to the cache, if that costs more than sending it.
    """
    tokens = request_bytes + OVERHEAD_TOKENS
    sent = Usage(input_tokens=tokens, output_tokens=max_output_tokens)
    written = Usage(cache_creation_input_tokens=tokens, output_tokens=max_output_tokens)
    costs = [cost_usd(usage, model, hour_writes=hour_writes) for usage in (sent, written)]
    return replace(written, cost_usd=max(costs))


NOTHING = Usage()


@dataclass(slots=True, kw_only=True)
class Budget:
    """Grants reservations as long as none of them could exceed a limit; 0: no limit."""

    ledger: Ledger
    max_usd: float = 0.0
    max_tokens: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, worst: Usage, spare: Usage = NOTHING) -> int:
        """Reserve the worst case if `spare` is left besides. Raises BudgetExhausted before anything is sent."""
        with self._guard:
            spent, needed = self.ledger.charged(), total((worst, spare))
            if self.max_usd and spent.cost_usd + needed.cost_usd > self.max_usd:
                raise BudgetExhausted(
                    f"${spent.cost_usd:.2f} of MAX_USD {self.max_usd:g} are spent and the next call could cost"
                    f" ${needed.cost_usd:.2f}: not made; raise MAX_USD to continue"
                )
            if self.max_tokens and spent.total_tokens + needed.total_tokens > self.max_tokens:
                raise BudgetExhausted(
                    f"{spent.total_tokens} of MAX_TOKENS {self.max_tokens} are used and the next call could use"
                    f" {needed.total_tokens}: not made; raise MAX_TOKENS to continue"
                )
            return self.ledger.reserve(worst)

    def settle(self, call: int, actual: Usage) -> None:
        """Replace a call's reservation by its actual cost."""
        self.ledger.settle(call, actual)


@dataclass(slots=True)
class Charge:
    """What one call is charged: its worst case until more is known."""

    usage: Usage


@dataclass(slots=True)
class Bill:
    """The calls made for one idea."""

    budget: Budget
    spare: Usage = NOTHING  # that each call leaves to others
    calls: list[int] = field(default_factory=list)  # records of the ledger
    usages: list[Usage] = field(default_factory=list)

    @contextmanager
    def charge(self, worst: Usage) -> Iterator[Charge]:
        """Reserve the worst case, let a call be made, and settle its cost. Raises BudgetExhausted."""
        call, charge = self.budget.reserve(worst, self.spare), Charge(worst)
        try:
            yield charge
        finally:
            self.budget.settle(call, charge.usage)
            self.calls.append(call)
            self.usages.append(charge.usage)
