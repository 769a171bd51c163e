"""Builds the events that several steps of the loop emit. It must not append them."""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.harness.ledger import span_usage
from hostler.harness.parts import Call
from hostler.harness.state import HIDDEN_RESULT
from hostler.log.entries import Draft
from hostler.models.protocol import ModelUsage

_NO_USAGE = msgspec.to_builtins(span_usage(ModelUsage()))


def session_error(error_type: str, message: str, retry: str, **more: Any) -> Draft:
    """A `session.error`; `retry` is retrying (the server goes on), exhausted (the turn is dead) or terminal."""
    error = {"type": error_type, "message": message, "retry_status": {"type": retry}, **more}
    return Draft(type="session.error", fields={"error": error})


def span_end(start_id: str, usage: ModelUsage | None = None, *, is_error: bool = False) -> Draft:
    """The end of a model request's span; it always comes, with zeros when nothing was counted."""
    counted = msgspec.to_builtins(span_usage(usage)) if usage else _NO_USAGE
    fields = {"model_request_start_id": start_id, "is_error": is_error, "model_usage": counted}
    return Draft(type="span.model_request_end", fields=fields)


def tool_result(call: Call, content: list[dict[str, Any]], *, is_error: bool) -> Draft:
    """The answer to a call that a client did not answer: an `agent.tool_result`, or for a custom tool its twin. Workers
    go by such a twin as well: without it, one would run the call after an interrupt."""
    if call.kind == "custom":
        fields = {"custom_tool_use_id": call.id, "content": content, "is_error": is_error}
        return Draft(type="user.custom_tool_result", fields=fields, answers=call.id)
    if call.kind == "mcp":
        fields = {"mcp_tool_use_id": call.id, "content": content, "is_error": is_error}
        return Draft(type="agent.mcp_tool_result", fields=fields, answers=call.id)
    fields = {"tool_use_id": call.id, "content": content, "is_error": is_error}
    if call.kind == "worker" and not call.refused:
        return Draft(type="user.tool_result", fields=fields, answers=call.id)
    return Draft(type=HIDDEN_RESULT if call.hidden else "agent.tool_result", fields=fields, answers=call.id)


def error_result(call: Call, text: str) -> Draft:
    return tool_result(call, [{"type": "text", "text": text}], is_error=True)
