"""What the Messages API refuses and charges, per model, written down from its documentation and not from our table."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

ALL = ("low", "medium", "high", "xhigh", "max")
KEYS = {
    "model", "max_tokens", "messages", "system", "stream", "tools", "tool_choice", "thinking", "output_config",
    "cache_control", "metadata", "stop_sequences", "service_tier", "temperature", "top_p", "top_k",
}  # fmt: skip
SCHEMA_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "description", "items", "enum", "const", "anyOf", "$ref",
    "$defs", "default", "format",
}  # fmt: skip
MAX_MARKS = 4
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One model. Prices are USD per million tokens: input, output, write for 5 minutes, for an hour, read."""

    prices: tuple[float, float, float, float, float]
    long_prices: tuple[float, float, float, float, float] | None = None  # of prompts above 100,000 tokens
    forced_tools: bool = False
    thinking: tuple[str, ...] = ("adaptive",)
    thinks: bool = True  # where nothing is said of thinking
    efforts: tuple[str, ...] = ALL
    structured: bool = True
    cache_minimum: int = 512
    max_output: int = 128_000
    retires: date | None = None

    def usd(self, bill: dict[str, int], *, hourly: bool) -> float:
        """What the API would charge."""
        prompt = bill["input"] + bill["cache_write"] + bill["cache_read"]
        prices = self.long_prices if self.long_prices and prompt > 100_000 else self.prices
        given, returned, short, long, read = prices
        write = long if hourly else short
        costs = (
            bill["input"] * given, bill.get("output", 0) * returned, bill["cache_write"] * write,
            bill["cache_read"] * read,
        )  # fmt: skip
        return sum(costs) / 1e6


_OLD = Rules(
    prices=(5, 25, 6.25, 10, 0.5), forced_tools=True, thinks=False, thinking=("adaptive", "disabled"),
    cache_minimum=1024,
)  # fmt: skip
_OLDER = replace(_OLD, thinking=("enabled", "disabled"), efforts=(), max_output=64_000, cache_minimum=4096)
RULES = {
    "claude-fable-5-2": Rules(prices=(8, 40, 10, 16, 0.2)),
    "claude-opus-5-5": Rules(prices=(4, 20, 5, 8, 0.2)),
    "claude-sonnet-5-5": Rules(prices=(2, 10, 2.5, 4, 0.1), thinking=("adaptive", "between_tools")),
    "claude-haiku-5-5": Rules(
        prices=(0.1, 0.5, 0.125, 0.2, 0.01), long_prices=(0.5, 2.5, 0.625, 1, 0.05), thinking=("disabled",)
    ),
    "claude-opus-5": replace(_OLD, thinks=True, cache_minimum=512),
    "claude-opus-4-8": _OLD,
    "claude-opus-4-7": replace(_OLD, cache_minimum=2048),
    "claude-opus-4-6": replace(_OLD, thinking=("adaptive", "enabled", "disabled"), cache_minimum=4096,
                               efforts=("low", "medium", "high", "max")),
    "claude-opus-4-5": replace(_OLDER, efforts=("low", "medium", "high")),
    "claude-haiku-4-5": replace(_OLDER, prices=(1, 5, 1.25, 2, 0.1)),
    "claude-sonnet-4-5": replace(_OLDER, prices=(3, 15, 3.75, 6, 0.3), cache_minimum=1024, retires=date(2026, 11, 30)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An endpoint: which keys of a request it refuses, what it looks at, what it reports."""

    refuses: frozenset[str] = frozenset()  # HTTP 400
    tools_refused: str = ""  # the message of a server that was started without tools
    auth: tuple[str, ...] = ("bearer", "x-api-key")
    needs_key: bool = True
    reports_usage: bool = True
    has_rules: bool = False  # the provider's own: a request is held to the rules of its model
    answers: str = ""  # the form of every answer, whatever was asked for


KINDS = {
    "anthropic": Kind(has_rules=True),
    "ollama": Kind(needs_key=False, refuses=frozenset({"cache_control", "metadata"}), answers="fenced"),
    "llama.cpp": Kind(tools_refused="tools param requires --jinja flag", answers="text"),
    "vllm": Kind(auth=("bearer",), answers="words around it"),
    "strict gateway": Kind(
        refuses=frozenset({"output_config", "cache_control", "thinking"}), answers="text", reports_usage=False
    ),
}


def refusal(kind: Kind, body: dict[str, Any], today: date) -> tuple[int, str, str] | None:
    """Status, type and message with which the endpoint refuses a request; None if it takes it."""
    text = json.dumps(body)
    for key in sorted(kind.refuses):
        if f'"{key}"' in text:
            return 400, "invalid_request_error", f"{key}: Extra inputs are not permitted"
    if kind.tools_refused and body.get("tools"):
        return 500, "api_error", kind.tools_refused
    if not kind.has_rules:
        return None
    rules = RULES[body["model"]]
    if rules.retires and rules.retires <= today:
        return 404, "not_found_error", f"model: {body['model']}"
    broken = next(_broken(rules, body), None)
    return (400, "invalid_request_error", broken) if broken else None


def _broken(rules: Rules, body: dict[str, Any]) -> Iterator[str]:
    """Every rule of the model that a request breaks."""
    yield from (f"{key}: Extra inputs are not permitted" for key in body.keys() - KEYS)
    yield from (f"{key} is not supported by this model" for key in ("temperature", "top_p", "top_k") if key in body)
    thinking = body.get("thinking", {}).get("type")
    if thinking is not None and thinking not in rules.thinking:
        yield f'"thinking.type.{thinking}" is not supported for this model.'
    forced = body.get("tool_choice", {}).get("type") in ("tool", "any")
    if forced and not rules.forced_tools:
        yield "tool_choice: forced tool use is not supported by this model"
    if forced and thinking in ("adaptive", "enabled"):
        yield "Thinking may not be enabled when tool_choice forces tool use."
    output = body.get("output_config", {})
    yield from (f"output_config.{key}: Extra inputs are not permitted" for key in output.keys() - {"effort", "format"})
    if "effort" in output and output["effort"] not in rules.efforts:
        yield f"output_config.effort: {output['effort']} is not supported by this model"
    if "format" in output:
        if not rules.structured:
            yield "output_config.format is not supported by this model"
        yield from (f"output_config.format.schema: {word} is not supported" for word in _keywords(output["format"]))
    if body["max_tokens"] > rules.max_output:
        yield f"max_tokens: {body['max_tokens']} > {rules.max_output}"
    if body["messages"][-1]["role"] == "assistant":
        yield "This model does not support assistant message prefill."
    if sum("cache_control" in block for block in blocks(body)) > MAX_MARKS:
        yield "A maximum of 4 blocks with cache_control may be provided."


def _keywords(form: dict[str, Any]) -> Iterator[str]:
    """Keywords of a schema that structured output does not know; objects must be closed."""
    stack = [form["schema"]]
    while stack:
        node = stack.pop()
        yield from sorted(node.keys() - SCHEMA_KEYWORDS)
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            yield "additionalProperties: true"
        stack += [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]


def blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Every block of a prompt, in the order in which it is cached."""
    system = body.get("system", [])
    user = [block for message in body["messages"] for block in message["content"]]
    return [*body.get("tools", []), *system, *user]


@dataclass
class Cache:
    """Prefixes that were sent before, by model."""

    known: set[str] = field(default_factory=set)

    def count(self, body: dict[str, Any], minimum: int) -> dict[str, int]:
        """The prompt's tokens as input, cache_write and cache_read; what ends at a mark is remembered."""
        text, read, written = body["model"] + json.dumps(body.get("output_config")), 0, 0
        for block in blocks(body):
            text += json.dumps({key: value for key, value in block.items() if key != "cache_control"})
            tokens = len(text) // BYTES_PER_TOKEN
            if "cache_control" in block and tokens >= minimum:
                name = hashlib.sha256(text.encode()).hexdigest()
                read = tokens if name in self.known else read
                written = tokens
                self.known.add(name)
        return {
            "input": len(text) // BYTES_PER_TOKEN - max(read, written),
            "cache_write": max(0, written - read),
            "cache_read": read,
        }
