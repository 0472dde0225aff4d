"""A streamed message put together from its events, as plain data. Pure; knows no SDK.

The SDK's own helper parses a tool call's arguments while they arrive and gives up the message where they are no JSON; a
reply is stored word for word, so here they are kept as text until somebody reads them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USAGE_KEYS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
MAX_BYTES = 16 * 1024 * 1024  # an endpoint that sends more is broken
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


@dataclass(slots=True)
class Message:
    """Take events until `ended`."""

    model: str = ""
    id: str = ""
    stop_reason: str | None = None
    closed: bool = False  # nothing comes any more
    size: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    _blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    _arguments: dict[int, list[str]] = field(default_factory=dict)
    _texts: dict[tuple[int, str], list[str]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the message is whole: only then it has a reason to stop."""
        return self.stop_reason is not None

    @property
    def usage_known(self) -> bool:
        """Whether input and output were both reported."""
        return {"input_tokens", "output_tokens"} <= self.usage.keys() and self.ended

    def take(self, event: Mapping[str, Any]) -> None:
        """One event. Raises ValueError, KeyError or TypeError if it is none of the API's, or far too large."""
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
            self.model, self.id = str(message.get("model", "")), str(message.get("id", ""))
            self._count(message.get("usage") or {})
        elif kind == "content_block_start":
            self._blocks[int(event["index"])] = dict(event["content_block"])
        elif kind == "content_block_delta":
            self._grow(int(event["index"]), event["delta"])
        elif kind == "message_delta":
            reason = event["delta"].get("stop_reason")
            self.stop_reason = str(reason) if reason is not None else self.stop_reason
            self._count(event.get("usage") or {})
        elif kind == "message_stop":
            self.closed = True

    def as_json(self) -> dict[str, Any]:
        """What is stored: blocks in order, arguments as JSON where they are."""
        content = [self._whole(index, block) for index, block in sorted(self._blocks.items())]
        return {"id": self.id, "model": self.model, "stop_reason": self.stop_reason, "content": content}

    def _grow(self, index: int, delta: Mapping[str, Any]) -> None:
        kind = delta["type"]
        if kind == "input_json_delta":
            piece = str(delta["partial_json"])
            self._arguments.setdefault(index, []).append(piece)
        elif kind in _DELTAS:
            piece = str(delta[_DELTAS[kind]])
            self._texts.setdefault((index, _DELTAS[kind]), []).append(piece)
        else:
            return
        self.size += len(piece)
        if self.size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} characters in one message")

    def _count(self, usage: Mapping[str, Any]) -> None:
        """The counts are cumulative: the last one holds."""
        for key in USAGE_KEYS:
            if isinstance(value := usage.get(key), int):
                self.usage[key] = max(0, value)

    def _whole(self, index: int, block: dict[str, Any]) -> dict[str, Any]:
        for (at, key), pieces in self._texts.items():
            if at == index:
                block = block | {key: str(block.get(key) or "") + "".join(pieces)}
        if index not in self._arguments:
            return block
        text = "".join(self._arguments[index])
        try:
            return block | {"input": json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)}
        except (ValueError, RecursionError):
            return {key: value for key, value in block.items() if key != "input"} | {"input_json": text}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without duplicate keys: what would be lost by parsing is kept as text."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate keys")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
