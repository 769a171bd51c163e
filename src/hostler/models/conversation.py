"""Reads a request's messages the way a script's conditions need them. It must not know what a script does with it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from hostler.models.protocol import ModelRequest

_MAX_TEXT = 100_000


def blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message's content as blocks, whether it was given as a string or a list."""
    content = message.get("content", [])
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(content: str | Iterable[dict[str, Any]]) -> str:
    """The text blocks of some content, joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if block.get("type") == "text")


def _read(content: str | list[dict[str, Any]]) -> str:
    """The text of a tool result as an agent reads it: text blocks and plain-text documents."""
    if isinstance(content, str):
        return content
    return text_of(_as_text(block) for block in content)


def _as_text(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source") or {}
    return {"type": "text", "text": source["data"]} if source.get("type") == "text" else block


class Conversation:
    """What a rule may ask about a request. Everything is derived from the messages, so it survives a restart."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request

    @cached_property
    def _last_user_index(self) -> int:
        messages = self.request.messages
        for index in range(len(messages) - 1, -1, -1):
            if messages[index].get("role") == "user" and _has_text(messages[index]):
                return index
        return -1

    @cached_property
    def last_user_text(self) -> str:
        """The text of the last message in which the user wrote something (tool results alone don't count)."""
        return self.whole_user_text[:_MAX_TEXT]

    @cached_property
    def whole_user_text(self) -> str:
        """The same, however long it is: to be passed on, not to be searched."""
        index = self._last_user_index
        return text_of(blocks(self.request.messages[index])) if index >= 0 else ""

    @cached_property
    def first_user_text(self) -> str:
        for message in self.request.messages:
            if message.get("role") == "user" and _has_text(message):
                return text_of(blocks(message))[:_MAX_TEXT]
        return ""

    @cached_property
    def _last_results(self) -> list[dict[str, Any]]:
        for message in reversed(self.request.messages):
            if message.get("role") == "assistant":
                return []
            results = [block for block in blocks(message) if block.get("type") == "tool_result"]
            if results:
                return results
        return []

    @cached_property
    def last_tool_result(self) -> str:
        """The text of the tool results that answer the last assistant message, also of documents such as fetched
        pages; empty when there are none."""
        return "\n".join(_read(block.get("content") or "") for block in self._last_results)[:_MAX_TEXT]

    @cached_property
    def last_tool_failed(self) -> bool | None:
        """Whether any of those results is an error; None when there are none."""
        if not self._last_results:
            return None
        return any(block.get("is_error") for block in self._last_results)

    @cached_property
    def turn(self) -> int:
        """Assistant messages since the last message the user wrote."""
        return self._assistant_messages(self._last_user_index + 1)

    @cached_property
    def turn_from_start(self) -> int:
        """Assistant messages since the conversation's beginning."""
        return self._assistant_messages(0)

    def _assistant_messages(self, start: int) -> int:
        messages = self.request.messages
        return sum(1 for index in range(start, len(messages)) if messages[index].get("role") == "assistant")

    @cached_property
    def system(self) -> str:
        return text_of(self.request.system)

    def offers(self, tool: str) -> bool:
        return any(offered.get("name") == tool for offered in self.request.tools)


def _has_text(message: dict[str, Any]) -> bool:
    content = message.get("content")
    if isinstance(content, str):
        return bool(content)
    return any(block.get("type") == "text" and block.get("text") for block in content or [])
