"""Turns the chunks of a chat-completions stream into our model events and the finished response.

It must not trust the server: call ids, indexes, `finish_reason` and usage go missing or lie in the wild (vLLM, Ollama,
gateways), and are mended where the meaning is clear. A message without any sign of its end is a failure.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from hostler.models import failures
from hostler.models.protocol import BlockStarted, ModelEvent, ModelResponse, ModelUsage, StopReason, TextDelta

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_BAD_ARGUMENTS = "the arguments of this tool call were no JSON object"
_CUT_ARGUMENTS = "the message ended (max_tokens) before the tool's input was complete"


class _Call:
    """A tool call while its arguments arrive."""

    __slots__ = ("arguments", "block", "id", "name")

    def __init__(self, block: int) -> None:
        self.block = block
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def is_another(self, call_id: str, name: str) -> bool:
        """Whether a delta at this call's index begins a new call: some servers give every call the index 0."""
        if self.id and call_id and call_id != self.id:
            return True
        return bool(name and self.name and not call_id and _object("".join(self.arguments)) is not None)


class ChatAccumulator:
    """Feed it one stream's chunks in order, then call `finish`."""

    def __init__(self, model: str, prompt_chars: int, *secrets: str) -> None:
        self._model = model
        self._prompt_chars = prompt_chars
        self._secrets = secrets
        self._texts: dict[int, list[str]] = {}
        self._calls: list[_Call] = []
        self._at_index: dict[int, _Call] = {}
        self._open_text: int | None = None
        self._thinking = False
        self._next_block = 0
        self._usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.has_usage = False

    def feed(self, chunk: dict[str, Any]) -> list[ModelEvent]:
        """What the chunk means for the harness; raises `ModelFailure` for an error object or a malformed chunk."""
        try:
            return self._feed(chunk)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise failures.broken(f"unexpected chunk ({type(error).__name__})") from None

    def _feed(self, chunk: dict[str, Any]) -> list[ModelEvent]:
        if error := chunk.get("error"):
            raise failures.from_error_event(error, *self._secrets)
        self._model = chunk.get("model") or self._model
        if usage := chunk.get("usage"):
            self._usage = dict(usage)
            self.has_usage = True
        events: list[ModelEvent] = []
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # only one answer was asked for
            delta = choice.get("delta") or {}
            if delta.get("reasoning_content") or delta.get("reasoning"):
                events += self._think()
            if text := delta.get("content") or delta.get("refusal"):
                events += self._add_text(text)
            for position, call in enumerate(delta.get("tool_calls") or ()):
                events += self._add_call(position, call)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return events

    def _think(self) -> list[ModelEvent]:
        """Reasoning is shown as the start of a thinking block; its text is not kept, as it can't be sent back."""
        if self._thinking:
            return []
        self._thinking = True
        return [BlockStarted(self._new_block(), "thinking")]

    def _add_text(self, text: str) -> list[ModelEvent]:
        events: list[ModelEvent] = []
        if self._open_text is None:
            self._open_text = self._new_block()
            self._texts[self._open_text] = []
            events.append(BlockStarted(self._open_text, "text"))
        self._texts[self._open_text].append(text)
        events.append(TextDelta(self._open_text, text))
        return events

    def _add_call(self, position: int, delta: dict[str, Any]) -> list[ModelEvent]:
        index = delta.get("index")
        index = position if index is None else index
        function = delta.get("function") or {}
        call_id, name = delta.get("id") or "", function.get("name") or ""
        call = self._at_index.get(index)
        events: list[ModelEvent] = []
        if call is None or call.is_another(call_id, name):
            call = self._at_index[index] = _Call(self._new_block())
            self._calls.append(call)
            self._open_text = None
            events.append(BlockStarted(call.block, "tool_use"))
        call.id = call.id or call_id
        call.name = call.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:  # already decoded
            call.arguments.append(msgspec.json.encode(arguments).decode())
        return events

    def _new_block(self) -> int:
        self._next_block += 1
        return self._next_block - 1

    def finish(self, *, done: bool) -> ModelResponse:
        """The response; `done` says whether the stream ended with `[DONE]`. Raises `ModelFailure` when it broke off."""
        if self.finish_reason is None and not (done and self._next_block):
            raise failures.broken("the stream ended before its message was complete")
        invalid: dict[str, str] = {}
        content = self._content(invalid)
        stop = _STOP_REASONS.get(self.finish_reason or "stop", "end_turn")
        if self._calls and stop == "end_turn":
            stop = "tool_use"
        return ModelResponse(
            content=content, stop_reason=stop, usage=self._counted(), model=self._model, invalid_inputs=invalid
        )

    def _content(self, invalid: dict[str, str]) -> list[dict[str, Any]]:
        numbered: list[tuple[int, dict[str, Any]]] = [
            (block, {"type": "text", "text": "".join(pieces)}) for block, pieces in self._texts.items()
        ]
        for call in self._calls:
            if not call.name:
                raise failures.broken("a tool call without a name")
            call_id = call.id or f"call_{uuid.uuid4().hex[:24]}"
            arguments = "".join(call.arguments)
            decoded = _object(arguments) if arguments.strip() else {}
            if decoded is None:
                invalid[call_id] = _CUT_ARGUMENTS if self.finish_reason == "length" else _BAD_ARGUMENTS
            block = {"type": "tool_use", "id": call_id, "name": call.name, "input": decoded or {}}
            numbered.append((call.block, block))
        return [block for _, block in sorted(numbered, key=lambda each: each[0])]

    def _counted(self) -> ModelUsage:
        """The server's counts; without any, four characters count as a token so that context limits still work."""
        if self._usage is None:
            produced = sum(len(piece) for pieces in self._texts.values() for piece in pieces)
            produced += sum(len(piece) for call in self._calls for piece in call.arguments)
            return ModelUsage(input_tokens=self._prompt_chars // 4, output_tokens=produced // 4)
        cached = _count((self._usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
        prompt = _count(self._usage.get("prompt_tokens"))
        return ModelUsage(
            input_tokens=max(prompt - cached, 0),
            cache_read_input_tokens=cached,
            output_tokens=_count(self._usage.get("completion_tokens")),
        )


def _object(text: str) -> dict[str, Any] | None:
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
