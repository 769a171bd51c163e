"""A conversation as plain text, for another model to judge or advise on. It must not carry a secret thought along.

Thinking is left out, long results lose their middle, and the oldest messages go first when there is no room.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hostler.harness import context
from hostler.harness.parts import Part


def transcribed(parts: Iterable[Part], limit: int) -> str:
    """About `limit` characters at most."""
    messages = context.shortened(context.messages(parts, {}), limit)
    return "\n\n".join(f"{message['role'].upper()}:\n{_told(message['content'])}" for message in messages)[:limit]


def _told(content: Any) -> str:
    """What a message says, calls and results included, as text."""
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, (_told_block(block) for block in content)))


def _told_block(block: dict[str, Any]) -> str:
    kind = block["type"]
    if kind == "text":
        return str(block["text"])
    if kind == "tool_use":
        return f"[uses {block['name']}: {msgspec.json.encode(block['input']).decode()}]"
    if kind == "tool_result":
        return f"[result: {_told(block['content'])}]"
    return "" if kind in ("thinking", "redacted_thinking") else f"[{kind}]"
