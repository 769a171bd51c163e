"""Translates a request into the chat-completions form. It must not send anything, nor drop content without a word.

Differences it bridges: system prompt and tool results are messages of their own; tool results hold only text, so their
images follow in a user message; thinking has no place and is left out; a content block without any counterpart
becomes a line of text that says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hostler.models.conversation import blocks, text_of
from hostler.models.protocol import ModelRequest

_LEFT_OUT = frozenset({"thinking", "redacted_thinking"})


def request_body(request: ModelRequest, *, model: str, max_tokens_field: str, send_effort: bool) -> dict[str, Any]:
    """The body of a streaming chat-completions request."""
    body: dict[str, Any] = {
        "model": model or request.model,
        "messages": chat_messages(request),
        max_tokens_field: request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if tools := [_tool(tool) for tool in request.tools if "input_schema" in tool]:
        body["tools"] = tools
    if send_effort and request.effort:
        body["reasoning_effort"] = "high" if request.effort in ("xhigh", "max") else request.effort
    return body


def chat_messages(request: ModelRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if system := text_of(request.system):
        messages.append({"role": "system", "content": system})
    for message in request.messages:
        content = blocks(message)
        match message.get("role"):
            case "assistant":
                messages += _assistant(content)
            case "system":
                messages.append({"role": "system", "content": text_of(content)})
            case _:
                messages += _user(content)
    return messages


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _assistant(content: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """One assistant message, or none when only thinking is left."""
    calls = [_call(block) for block in content if block.get("type") == "tool_use"]
    kept = [block for block in content if block.get("type") not in _LEFT_OUT | {"tool_use"}]
    text = "\n".join(block["text"] if block.get("type") == "text" else _no_form(block) for block in kept)
    if calls:
        yield {"role": "assistant", "content": text or None, "tool_calls": calls}
    elif text:
        yield {"role": "assistant", "content": text}


def _call(block: dict[str, Any]) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}


def _user(content: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Tool results first, as they must follow their calls at once; then what the user wrote."""
    parts: list[dict[str, Any]] = []
    for block in content:
        if block.get("type") != "tool_result":
            continue
        text, others = _tool_result(block)
        yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
        if others:
            parts += [_text(f"[Attached to the result of tool call {block['tool_use_id']}]"), *others]
    parts += [_part(block) for block in content if block.get("type") != "tool_result"]
    if parts:
        yield {"role": "user", "content": _simplest(parts)}


def _tool_result(block: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The result's text, errors marked, and the parts a tool message can't hold."""
    inner = block.get("content") or ""
    pieces = [_text(inner)] if isinstance(inner, str) else [_part(each) for each in inner]
    text = "\n".join(piece["text"] for piece in pieces if piece["type"] == "text")
    others = [piece for piece in pieces if piece["type"] != "text"]
    if others:
        text = f"{text}\n[Attached in the next message]".strip()
    return (f"[The tool call failed]\n{text}" if block.get("is_error") else text), others


def _part(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source") or {}
    match block.get("type"), source.get("type"):
        case "text", _:
            return _text(block.get("text", ""))
        case "image", "base64":
            return {"type": "image_url", "image_url": {"url": f"data:{source['media_type']};base64,{source['data']}"}}
        case "image", "url":
            return {"type": "image_url", "image_url": {"url": source["url"]}}
        case "document", "text":
            return _text(_headed(block, source.get("data", "")))
        case "document", "content":
            inner = source.get("content") or ""
            return _text(_headed(block, inner if isinstance(inner, str) else text_of(inner)))
        case "document", "base64":
            data = f"data:{source['media_type']};base64,{source['data']}"
            return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": data}}
        case "document", "url":
            return _text(_headed(block, source.get("url", "")))
    return _text(_no_form(block))


def _headed(block: dict[str, Any], text: str) -> str:
    return "\n".join(filter(None, (f"[Document: {block.get('title') or 'untitled'}]", block.get("context"), text)))


def _no_form(block: dict[str, Any]) -> str:
    return f"[A {block.get('type')} block stood here; this model's protocol has no form for it]"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _simplest(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Plain text as a string: many small servers take nothing else."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts
