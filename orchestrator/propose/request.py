"""The body of a request to the Messages API, as the row of a model says. Pure."""

import json
from typing import Any

from orchestrator.propose.answer import PROPOSAL, Wanted
from orchestrator.propose.models import Answer, Model
from orchestrator.propose.prompt import Prompt


def build_request(  # noqa: PLR0913
    model: Model,
    prompt: Prompt,
    *,
    effort: str | None,
    max_output_tokens: int,
    cache_for_an_hour: bool,
    wanted: Wanted = PROPOSAL,
) -> dict[str, Any]:
    """Return the body: only what this model accepts. `effort` is left out where the model has none."""
    system, user = _blocks(prompt, model, cache_for_an_hour=cache_for_an_hour)
    request: dict[str, Any] = {
        "model": model.id,
        "max_tokens": min(max_output_tokens, model.max_output_tokens or max_output_tokens),
        "system": system,
        "messages": [{"role": "user", "content": user}],
    }
    output: dict[str, Any] = {}
    if effort in model.efforts:
        output["effort"] = effort
    if model.answer is Answer.STRUCTURED:
        output["format"] = {"type": "json_schema", "schema": wanted.schema}
    if output:
        request["output_config"] = output
    if model.answer is Answer.TOOL:
        request["tools"] = [
            {"name": wanted.tool, "description": wanted.instruction, "input_schema": wanted.schema, "strict": True}
        ]
        forced = model.forced_tools and not model.ask_to_think  # a model that is to think may not be forced
        choice = {"type": "tool", "name": wanted.tool} if forced else {"type": "auto"}
        request["tool_choice"] = choice | {"disable_parallel_tool_use": True}
    if model.ask_to_think:
        request["thinking"] = {"type": "adaptive"}
    return request


def size_of(request: dict[str, Any]) -> int:
    """Return the bytes of a request, which has fewer tokens than that."""
    return len(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace"))


def _blocks(
    prompt: Prompt, model: Model, *, cache_for_an_hour: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the blocks of system and user, with the ends of what should be cached marked."""
    mark = {"type": "ephemeral"} | ({"ttl": "1h"} if cache_for_an_hour else {})
    system: list[dict[str, Any]] = []
    user: list[dict[str, Any]] = []
    for block in prompt.blocks:
        text = f"# {block.title}\n\n{block.text}".encode("utf-8", "replace").decode()
        marked = {"cache_control": mark} if block.cached and model.cache_marks else {}
        (system if block.system else user).append({"type": "text", "text": text} | marked)
    return system, user
