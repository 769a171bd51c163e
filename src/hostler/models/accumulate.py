"""Turns the raw events of a Messages API stream into our model events and the finished response.

It must not know how the events came here (HTTP, SDK, a test), and takes nothing on trust: a stream in the wrong order,
with wrong JSON or without its end is a `ModelFailure`.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from hostler.models import failures
from hostler.models.protocol import BlockStarted, ModelEvent, ModelResponse, ModelUsage, StopReason, TextDelta

_STOP_REASONS = frozenset(get_args(StopReason))
_CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})
_decode_json = msgspec.json.Decoder().decode


class _Block:
    """A content block while it grows: its start, and the pieces of text, thinking or input JSON that follow."""

    __slots__ = ("json", "pieces", "start")

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = dict(start)
        self.pieces: list[str] = []
        self.json: list[str] = []


class MessageAccumulator:
    """Feed it one stream's events in order; the last thing it returns is the `ModelResponse`."""

    def __init__(self, model: str, *secrets: str) -> None:
        self._model = model
        self._secrets = secrets
        self._blocks: dict[int, _Block] = {}
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._stop_details: dict[str, Any] | None = None
        self._started = False
        self.finished = False

    def feed(self, event: dict[str, Any]) -> tuple[ModelEvent, ...]:
        """What the event means for the harness; raises `ModelFailure` for an error event or a malformed one."""
        try:
            return self._feed(event)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise failures.broken(f"unexpected event ({type(error).__name__})") from None

    def end(self) -> None:
        """The stream is over; raises `ModelFailure` when its message is not."""
        if not self.finished:
            raise failures.broken("the stream ended before its message was complete")

    def _feed(self, event: dict[str, Any]) -> tuple[ModelEvent, ...]:
        match event["type"]:
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "content_block_start":
                return self._start_block(event["index"], event["content_block"])
            case "message_start":
                self._started = True
                self._model = event["message"].get("model") or self._model
                self._add_usage(event["message"].get("usage"))
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason") or self._stop_reason
                self._stop_details = event["delta"].get("stop_details") or self._stop_details
                self._add_usage(event.get("usage"))
            case "message_stop":
                return (self._finish(),)
            case "error":
                raise failures.from_error_event(event.get("error", event), *self._secrets)
        return ()  # content_block_stop and ping carry nothing; unknown kinds of events are to be ignored

    def _start_block(self, index: int, start: dict[str, Any]) -> tuple[ModelEvent, ...]:
        if not self._started or index in self._blocks:
            raise failures.broken("a content block in the wrong place")
        self._blocks[index] = block = _Block(start)
        begun = BlockStarted(index, start["type"])
        if start["type"] == "text" and (text := start.get("text")):
            block.pieces.append(text)
            return begun, TextDelta(index, text)
        return (begun,)

    def _delta(self, index: int, delta: dict[str, Any]) -> tuple[ModelEvent, ...]:
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block.pieces.append(text := delta["text"])
                return (TextDelta(index, text),) if text else ()
            case "input_json_delta":
                block.json.append(delta["partial_json"])
            case "thinking_delta":
                block.pieces.append(delta["thinking"])
            case "signature_delta":
                block.start["signature"] = delta["signature"]
            case "citations_delta":
                block.start["citations"] = [*(block.start.get("citations") or ()), delta["citation"]]
            case _:
                _merge(block.start, delta)
        return ()

    def _add_usage(self, usage: dict[str, Any] | None) -> None:
        """Counts are cumulative: a later one replaces an earlier one."""
        self._usage |= {name: value for name, value in (usage or {}).items() if value is not None}

    def _finish(self) -> ModelResponse:
        if not self._started or self.finished:
            raise failures.broken("message_stop in the wrong place")
        self.finished = True
        invalid: dict[str, str] = {}
        content = [self._finished_block(block, invalid) for _, block in sorted(self._blocks.items())]
        return ModelResponse(
            content=content,
            stop_reason=self._known_stop_reason(content),
            stop_details=self._stop_details,
            usage=usage_of(self._usage),
            model=self._model,
            invalid_inputs=invalid,
        )

    def _finished_block(self, block: _Block, invalid: dict[str, str]) -> dict[str, Any]:
        done = block.start
        if done["type"] == "text":
            done["text"] = "".join(block.pieces)
        elif block.pieces:
            done["thinking"] = (done.get("thinking") or "") + "".join(block.pieces)
        if block.json:
            done["input"] = self._input(done, "".join(block.json), invalid)
        return done

    def _input(self, block: dict[str, Any], text: str, invalid: dict[str, str]) -> dict[str, Any]:
        """The decoded input. One cut off by the token limit is marked; any other that is no object is a failure."""
        if not text.strip():
            return block.get("input") or {}
        try:
            decoded = _decode_json(text)
        except msgspec.DecodeError:
            decoded = None
        if isinstance(decoded, dict):
            return decoded
        if self._stop_reason not in _CUT_SHORT:
            raise failures.broken("the input of a tool call is no JSON object")
        invalid[str(block.get("id"))] = f"the message ended ({self._stop_reason}) before the tool's input was complete"
        return {}

    def _known_stop_reason(self, content: list[dict[str, Any]]) -> StopReason:
        """A missing or future reason counts as the usual one for such content."""
        if self._stop_reason in _STOP_REASONS:
            return self._stop_reason  # type: ignore[return-value]
        return "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"


def _merge(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Fold a delta of an unknown kind into its block: texts and lists grow, anything else is replaced."""
    for name, value in delta.items():
        if name == "type":
            continue
        old = block.get(name)
        grows = isinstance(old, str | list) and type(old) is type(value)
        block[name] = old + value if grows else value


def usage_of(usage: dict[str, Any]) -> ModelUsage:
    """Our form of the Messages API's usage object. Cache writes of unknown lifetime count as 5-minute ones."""
    parts = usage.get("cache_creation") or {}
    hour = _count(parts, "ephemeral_1h_input_tokens")
    five_minutes = _count(parts, "ephemeral_5m_input_tokens")
    total = _count(usage, "cache_creation_input_tokens")
    return ModelUsage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cache_read_input_tokens=_count(usage, "cache_read_input_tokens"),
        cache_creation_5m_input_tokens=max(five_minutes, total - hour),
        cache_creation_1h_input_tokens=hour,
        web_search_requests=_count(usage.get("server_tool_use") or {}, "web_search_requests"),
        speed=usage.get("speed"),
    )


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0
