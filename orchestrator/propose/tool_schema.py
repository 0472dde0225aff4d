"""The form in which an LLM answers, and how an answer becomes a proposal. Pure; knows no SDK.

A stored reply is JSON: {"content": [...], "stop_reason": ...} with the blocks as they came. The arguments of a tool
call are under "input" where they are JSON, else word for word under "input_json".
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import PatchRejected
from orchestrator.types import Edit, Proposal, Reply

NAME = "propose_experiment"
DESCRIPTION = (
    "Propose the next experiment: one change to train.py, as search/replace edits. Every search text must stand exactly"
    " once in the train.py shown, copied character for character with its indentation. Only if edits cannot say it,"
    " leave `edits` empty and give the whole new file as `source`."
)
_TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["hypothesis", "expected_effect", "edits"],
    "properties": {
        "hypothesis": {"type": "string", "description": "One sentence: what is changed, and why it should help."},
        "expected_effect": {
            "type": "string",
            "description": "What the score should become; what else would be seen.",
        },
        "edits": {
            "type": "array",
            "description": "All are located in the train.py shown; they do not overlap, their order does not matter.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["search", "replace"],
                "properties": {"search": _TEXT, "replace": _TEXT},
            },
        },
        "source": {"type": "string", "description": "The whole new train.py; only with empty edits."},
        "parent_id": {
            "type": "integer",
            "description": "The experiment whose train.py the edits are made to, if one beside the best was offered.",
        },
        "retry_rationale": {
            "type": "string",
            "description": "Only after being told that this is close to an earlier one: why it would end differently.",
        },
    },
}
MAX_WORDS = 2000  # characters of a hypothesis that are kept


class _Edit(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    search: str
    replace: str


class _Input(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    hypothesis: str = Field(min_length=1)
    expected_effect: str
    edits: list[_Edit]
    source: str | None = None
    parent_id: int | None = None
    retry_rationale: str | None = None


def read(reply: Reply) -> Proposal:
    """A proposal from a stored reply. Raises PatchRejected with what to fix."""
    try:
        message = json.loads(reply.text)
        content, stopped = message["content"], message["stop_reason"]
        calls = [block for block in content if block["type"] == "tool_use"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        text = f"this is no reply of the API: {error!r}"
        raise PatchRejected(text) from error
    _check_stop(stopped)
    if len(calls) != 1 or calls[0].get("name") != NAME:
        text = f"the reply holds {len(calls)} tool calls; call {NAME} exactly once"
        raise PatchRejected(text)
    return _proposal(_input(calls[0]))


def _check_stop(reason: object) -> None:
    if reason == "max_tokens":
        raise PatchRejected(
            "the reply was cut off at the limit of output tokens; make the change smaller, with short edits"
        )
    if reason == "refusal":
        raise PatchRejected("the model refused to answer; propose another experiment")
    if reason == "model_context_window_exceeded":
        raise PatchRejected("the reply did not fit the model's context; make the change smaller")


def _input(call: dict[str, Any]) -> _Input:
    if "input_json" in call:
        raise PatchRejected(f"the arguments of {NAME} are not valid JSON: {str(call['input_json'])[-200:]!r}")
    try:
        return _Input.model_validate(call.get("input"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "arguments"
        raise PatchRejected(
            f"the arguments of {NAME} are not as its schema wants them: {where}: {first['msg']}"
        ) from error


def _proposal(given: _Input) -> Proposal:
    whole = given.source or None
    if whole is None and not given.edits:
        raise PatchRejected("neither edits nor a source were given; propose a change")
    return Proposal(
        hypothesis=" ".join(given.hypothesis.split())[:MAX_WORDS],
        expected_effect=" ".join(given.expected_effect.split())[:MAX_WORDS],
        edits=tuple(Edit(search=edit.search, replace=edit.replace) for edit in given.edits),
        source=whole,
        parent_id=given.parent_id,
        retry_rationale=" ".join((given.retry_rationale or "").split())[:MAX_WORDS],
    )
