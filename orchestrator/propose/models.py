"""What each model accepts and what it costs: one row per model, looked up in the provider's documentation. Pure data.

How a request looks is a value here, never an `if` in the client. A model without a row gets the plainest request: no
effort, no schema, no tool, the answer as JSON in its text.
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from orchestrator.settings import Price

CHECKED = date(2026, 11, 27)
STALE_AFTER_DAYS = 90
CACHE_WRITE_FACTOR = 1.25  # of the input price, for five minutes
ANY_LENGTH = 2**63


class Answer(StrEnum):
    """The form in which a model is asked to answer."""

    STRUCTURED = "structured"  # `output_config.format` with our schema
    TOOL = "tool"  # a call of our tool
    TEXT = "text"  # JSON in the text


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBand:
    """Prices, for all tokens, of a request whose prompt has at most so many tokens, cached ones included."""

    max_prompt_tokens: int = ANY_LENGTH
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model at the endpoint that is used."""

    id: str
    bands: tuple[PriceBand, ...] = ()  # shortest first; none: the price is unknown
    answer: Answer = Answer.TEXT
    forced_tools: bool = False  # whether `tool_choice` may demand our tool
    thinks: bool = False  # part of the output is thinking
    ask_to_think: bool = False  # it thinks only where the request says `thinking: adaptive`
    efforts: tuple[str, ...] = ()  # of `output_config.effort`
    cache_marks: bool = False  # `cache_control` is understood
    cache_minimum_tokens: int = 0  # a shorter prefix is not cached, and nothing says so
    max_output_tokens: int | None = None
    retires: date | None = None
    fallbacks: tuple[str, ...] = ()  # asked where this one refuses to answer
    checked: date | None = None  # None: not from the table

    @property
    def is_known(self) -> bool:
        """True if the table has a row for it."""
        return self.checked is not None

    @property
    def has_price(self) -> bool:
        """True if its calls can be charged."""
        return bool(self.bands)

    def price(self, prompt_tokens: int) -> Price | None:
        """Return the price of a request of this length, None where it is unknown."""
        return next((band.price for band in self.bands if prompt_tokens <= band.max_prompt_tokens), None)

    def is_stale(self, today: date) -> bool:
        """Return True if its row was looked up too long ago to be reliable."""
        return self.checked is not None and (today - self.checked).days > STALE_AFTER_DAYS


def _price(given: float, returned: float, cache_read: float) -> Price:
    return Price(input=given, output=returned, cache_write=given * CACHE_WRITE_FACTOR, cache_read=cache_read)


_FIVE = ("low", "medium", "high", "xhigh", "max")
_CURRENT = Model(
    id="", answer=Answer.STRUCTURED, thinks=True, efforts=_FIVE, cache_marks=True, cache_minimum_tokens=512,
    max_output_tokens=128_000, checked=CHECKED,
)  # fmt: skip
_OPUS_4 = replace(
    _CURRENT, bands=(PriceBand(price=_price(5, 25, 0.5)),), forced_tools=True, ask_to_think=True,
    fallbacks=("claude-opus-5",),
)  # fmt: skip
_FOUR_FIVE = replace(
    _CURRENT, forced_tools=True, thinks=False, efforts=(), max_output_tokens=64_000, fallbacks=("claude-opus-5",)
)

_ROWS = (
    replace(
        _CURRENT, id="claude-fable-5-2", bands=(PriceBand(price=_price(8, 40, 0.2)),), fallbacks=("claude-opus-5-5",)
    ),
    replace(_CURRENT, id="claude-opus-5-5", bands=(PriceBand(price=_price(4, 20, 0.2)),), fallbacks=("claude-opus-5",)),
    replace(
        _CURRENT, id="claude-sonnet-5-5", bands=(PriceBand(price=_price(2, 10, 0.1)),), fallbacks=("claude-opus-5",)
    ),
    replace(
        _CURRENT, id="claude-haiku-5-5", fallbacks=("claude-sonnet-5-5",),
        bands=(
            PriceBand(max_prompt_tokens=100_000, price=_price(0.1, 0.5, 0.01)),
            PriceBand(price=_price(0.5, 2.5, 0.05)),
        ),
    ),
    replace(_OPUS_4, id="claude-opus-5", ask_to_think=False, fallbacks=("claude-opus-4-8",)),
    replace(_OPUS_4, id="claude-opus-4-8", cache_minimum_tokens=1024),
    replace(_OPUS_4, id="claude-opus-4-7", cache_minimum_tokens=2048),
    replace(_OPUS_4, id="claude-opus-4-6", cache_minimum_tokens=4096, efforts=("low", "medium", "high", "max")),
    replace(
        _FOUR_FIVE, id="claude-opus-4-5", bands=_OPUS_4.bands, efforts=("low", "medium", "high"),
        cache_minimum_tokens=4096,
    ),
    replace(_FOUR_FIVE, id="claude-haiku-4-5", bands=(PriceBand(price=_price(1, 5, 0.1)),), cache_minimum_tokens=4096),
    replace(
        _FOUR_FIVE, id="claude-sonnet-4-5", bands=(PriceBand(price=_price(3, 15, 0.3)),), cache_minimum_tokens=1024,
        retires=date(2026, 11, 30),
    ),
)  # fmt: skip
MODELS = {row.id: row for row in _ROWS}
DEFAULT = "claude-opus-5-5"


def find_model(name: str) -> Model:
    """Return the row of a model, also of a dated snapshot (`-20251101`); the plainest one where there is none."""
    row = MODELS.get(name) or MODELS.get(re.sub(r"-20\d{6}$", "", name))
    return replace(row or Model(id=name), id=name)


def describe_stale(today: date) -> str:
    """Name the rows that were looked up too long ago, "" where all are recent."""
    stale = [f"{row.id} ({row.checked})" for row in _ROWS if row.is_stale(today)]
    return f"look up again what these models accept and cost: {', '.join(stale)}" if stale else ""
