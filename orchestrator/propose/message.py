"""A streamed message assembled from its events, as plain data. Pure; independent of the SDK.

The SDK's own accumulator (2.12) is unsuitable: it raises if the arguments of a tool call are not JSON, and if an
endpoint reports no usage, and both lose a reply that was paid for; and with each event it parses all arguments so far,
which takes minutes for ten megabytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.propose.answer import parse_json

USAGE_KEYS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
MAX_CHARS = 16 * 1024 * 1024  # an endpoint that sends more is broken
_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


@dataclass(slots=True)
class Message:
    """A message under construction: pass events to `take` until `ended`."""

    model: str = ""
    id: str = ""
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None  # of a refusal
    closed: bool = False  # no more events will follow
    size: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    _blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    _pieces: dict[tuple[int, str], list[str]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True if the message is complete: only then it has a stop reason."""
        return self.stop_reason is not None

    @property
    def usage_known(self) -> bool:
        """True if input and output tokens were both reported."""
        return {"input_tokens", "output_tokens"} <= self.usage.keys() and self.ended

    def take(self, event: Mapping[str, Any]) -> None:
        """Add one event. Raises ValueError, KeyError or TypeError if it is not one of the API's, or far too large."""
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
            delta = event["delta"]
            reason = delta.get("stop_reason")
            self.stop_reason = str(reason) if reason is not None else self.stop_reason
            self.stop_details = delta.get("stop_details") or self.stop_details
            self._count(event.get("usage") or {})
        elif kind == "message_stop":
            self.closed = True

    def as_json(self) -> dict[str, Any]:
        """Return the message as it is stored: blocks in order, valid arguments as JSON."""
        content = [self._whole(index, block) for index, block in sorted(self._blocks.items())]
        details = {"stop_details": self.stop_details} if self.stop_details else {}
        return {"id": self.id, "model": self.model, "stop_reason": self.stop_reason, **details, "content": content}

    def _grow(self, index: int, delta: Mapping[str, Any]) -> None:
        if (key := _DELTAS.get(delta["type"])) is None:
            return
        piece = str(delta[key])
        self._pieces.setdefault((index, key), []).append(piece)
        self.size += len(piece)
        if self.size > MAX_CHARS:
            raise ValueError(f"more than {MAX_CHARS} characters in one message")

    def _count(self, usage: Mapping[str, Any]) -> None:
        """Update the token counts: they are cumulative, so the last one counts."""
        for key in USAGE_KEYS:
            if isinstance(value := usage.get(key), int):
                self.usage[key] = max(0, value)

    def _whole(self, index: int, block: dict[str, Any]) -> dict[str, Any]:
        """Return a block with all its pieces."""
        for (at, key), pieces in self._pieces.items():
            text = "".join(pieces)
            if at != index:
                continue
            if key != "partial_json":
                block = block | {key: str(block.get(key) or "") + text}
                continue
            try:
                block = block | {"input": parse_json(text)}
            except ValueError:
                block = {key: value for key, value in block.items() if key != "input"} | {"input_json": text}
        return block
