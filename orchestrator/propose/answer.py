"""The forms in which an LLM answers, and how an answer becomes a proposal. Pure; knows no SDK.

Three forms, one reader: an object that follows SCHEMA (structured output), a call of our tool with the same object as
its arguments, or a text with that object in it. A stored reply is JSON: {"content": [...], "stop_reason": ...} with the
blocks as they came; the arguments of a tool call are under "input" where they are JSON, else word for word under
"input_json".
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.errors import PatchRejected
from orchestrator.propose.models import Answer
from orchestrator.types import Edit, Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a model is asked for: one JSON object of this schema, as a tool call or as text."""

    what: str  # in words
    key: str  # every such object has it
    tool: str  # the name of the tool
    instruction: str
    schema: Mapping[str, Any]

    def how(self, form: Answer) -> str:
        """Return the instruction for an answer of this form."""
        if form is Answer.TOOL:
            return f"{self.instruction} Answer by calling the tool `{self.tool}` once."
        if form is Answer.TEXT:
            return (
                f"{self.instruction} Answer with one JSON object and nothing else. It follows this JSON schema:\n\n"
                f"{json.dumps(self.schema, indent=1)}"
            )
        return self.instruction


TOOL_NAME = "propose_experiment"
INSTRUCTION = (
    "Propose the next experiment: one change to train.py, as search/replace edits. Each search text must match exactly"
    " once in the train.py shown, copied character for character with its indentation. Only if edits cannot express it,"
    " leave `edits` empty and give the whole new file as `source`."
)
_TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["hypothesis", "expected_effect", "edits"],
    "properties": {
        "hypothesis": {"type": "string", "description": "One sentence: what changes, and why it should help."},
        "expected_effect": {
            "type": "string",
            "description": "Expected score, and any other effect you expect to see.",
        },
        "edits": {
            "type": "array",
            "description": "All apply to the file shown; they must not overlap, their order does not matter.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["search", "replace"],
                "properties": {"search": _TEXT, "replace": _TEXT},
            },
        },
        "source": {"type": "string", "description": "The whole new file; only with empty edits."},
        "parent_id": {
            "type": "integer",
            "description": "The experiment whose file the edits apply to, if one other than the best was offered.",
        },
        "retry_rationale": {
            "type": "string",
            "description": "Only after a rejection as too close to an earlier one: why the outcome would differ.",
        },
    },
}
PROPOSAL = Wanted(what="a proposal", key="hypothesis", tool=TOOL_NAME, instruction=INSTRUCTION, schema=SCHEMA)
WHOLE = ("end_turn", "tool_use", "stop_sequence")
CUT_OFF = (
    "the answer was cut off at max_output_tokens, thinking included; make the change smaller, with short edits"
    " (for the user: raise [claude] max_output_tokens, or lower effort)"
)
STOPPED = {
    "max_tokens": CUT_OFF,
    "model_context_window_exceeded": "the answer did not fit the model's context; make the change smaller",
    "pause_turn": "the answer was paused before it was complete; give a complete answer",
}
MAX_CHARS = 2000  # of a hypothesis
MAX_OBJECTS = 100  # places in a text that may be where the object begins


class NoProposal(PatchRejected):
    """The answer contains no proposal: refused, cut off, empty, or prose only."""


def _parse_json_string(value: object) -> object:
    """Parse an array that a model gave as a JSON string; return anything else unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


class _Edit(BaseModel):
    model_config = ConfigDict(strict=True)
    search: str
    replace: str


class _Fields(BaseModel):
    """What a proposal may contain; other keys are ignored."""

    model_config = ConfigDict(strict=True)
    hypothesis: str = Field(min_length=1)
    expected_effect: str
    edits: Annotated[list[_Edit], BeforeValidator(_parse_json_string)]
    source: str | None = None
    parent_id: int | None = None
    retry_rationale: str | None = Field(
        default=None, validation_alias=AliasChoices("retry_rationale", "why_again")
    )  # as older records have it


def read(text: str) -> Proposal:
    """Return the proposal in a stored reply of the Messages API. Raises PatchRejected with what to fix."""
    return _proposal(read_object(text, PROPOSAL))


def read_text(text: str) -> Proposal:
    """Return the proposal in a text, fenced or with words around it. Raises PatchRejected with what to fix."""
    return _proposal(find_object(text, PROPOSAL))


def read_object(text: str, wanted: Wanted) -> object:
    """Return the object in a stored reply of the Messages API, unchecked. Raises PatchRejected with what to fix."""
    try:
        message = json.loads(text)
        blocks, reason = list(message["content"]), message["stop_reason"]
        kinds = [block["type"] for block in blocks]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoProposal(f"not a reply of the Messages API: {error!r}") from error
    _check_stop(reason, message.get("stop_details"))
    calls = [block for block in blocks if block["type"] == "tool_use"]
    if calls:
        return _arguments(calls, wanted)
    words = "".join(str(block.get("text", "")) for block in blocks if block["type"] == "text")
    if not words.strip():
        only = "nothing but thinking" if "thinking" in kinds or "redacted_thinking" in kinds else "nothing"
        raise NoProposal(f"the answer contained {only}; give {wanted.what}")
    return find_object(words, wanted)


def find_object(text: str, wanted: Wanted) -> object:
    """Return the object in a text, fenced or with words around it, unchecked. Raises PatchRejected."""
    found = {json.dumps(item, sort_keys=True): item for item in _objects(text, wanted.key)}
    if not found:
        end = text.strip()[-200:]
        raise NoProposal(f"the answer contained no JSON object with a `{wanted.key}`; it ends with {end!r}")
    if len(found) > 1:
        raise PatchRejected(f"the answer contained {len(found)} proposals; give exactly one")
    return next(iter(found.values()))


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON strictly: no duplicate keys, no NaN, no bottomless nesting. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def refusal_category(message: Mapping[str, Any]) -> str:
    """Return the category of a refused answer, "unnamed" where it has none, "" where it was not refused."""
    if message.get("stop_reason") != "refusal":
        return ""
    details = message.get("stop_details")
    return str((details.get("category") if isinstance(details, dict) else None) or "unnamed")


def _check_stop(reason: object, details: object) -> None:
    if reason == "refusal":
        category = refusal_category({"stop_reason": reason, "stop_details": details})
        raise NoProposal(f"the model refused to answer (category: {category}); propose another experiment")
    if reason in STOPPED:
        raise NoProposal(STOPPED[str(reason)])
    if reason not in WHOLE:
        raise NoProposal(f"the answer stopped for an unknown reason, {str(reason)[:100]!r}; answer again")


def _arguments(calls: list[dict[str, Any]], wanted: Wanted) -> object:
    if len(calls) != 1 or calls[0].get("name") != wanted.tool:
        raise PatchRejected(f"the answer contained {len(calls)} tool calls; call {wanted.tool} exactly once")
    if "input_json" in calls[0]:
        raise PatchRejected(
            f"the arguments of {wanted.tool} are not valid JSON: {str(calls[0]['input_json'])[-200:]!r}"
        )
    return calls[0].get("input")


def _objects(text: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield the objects with this key in a text: all of it, what is in fences, or objects among words."""
    for candidate in (text, *re.findall(r"```[a-zA-Z]*\n(.*?)```", text, flags=re.DOTALL)):
        try:
            value = parse_json(candidate)
        except ValueError:
            continue
        if isinstance(value, dict) and key in value:
            yield value
            if candidate is text:
                return
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
    at = 0
    for _ in range(MAX_OBJECTS):
        if (at := text.find("{", at)) < 0:
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(value, dict) and key in value:
            yield value


def first_mismatch(error: ValidationError) -> str:
    """Return where an object differs from its schema first, and how."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the object"
    return f"{where}: {first['msg']}"


def _proposal(arguments: object) -> Proposal:
    try:
        given = _Fields.model_validate(arguments)
    except ValidationError as error:
        raise PatchRejected(f"the proposal does not match the schema: {first_mismatch(error)}") from error
    whole = given.source or None
    if whole is None and not given.edits:
        raise PatchRejected("neither edits nor source were given; propose a change")
    return Proposal(
        hypothesis=" ".join(given.hypothesis.split())[:MAX_CHARS],
        expected_effect=" ".join(given.expected_effect.split())[:MAX_CHARS],
        edits=tuple(Edit(search=edit.search, replace=edit.replace) for edit in given.edits),
        source=whole,
        parent_id=given.parent_id,
        retry_rationale=" ".join((given.retry_rationale or "").split())[:MAX_CHARS],
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; raise ValueError for duplicate keys, of which parsing would lose one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate keys")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
