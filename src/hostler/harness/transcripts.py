"""A conversation as plain text, for another model to judge or advise on. It must not carry a secret thought along.

Thinking is left out, long results lose their middle, and the oldest messages go first when there is no room. What was
said is escaped: an agent can neither end the transcript from within nor put words into somebody else's mouth.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import msgspec

from hostler.harness import context
from hostler.harness.parts import Part


def transcribed(parts: Iterable[Part], limit: int) -> str:
    """A `<transcript>` of about `limit` characters at most."""
    messages = context.shortened(context.messages(parts, {}), limit)
    told = "\n\n".join(_message(message["role"], _told(message["content"])) for message in messages)
    return f"<transcript>\n{told[:limit]}\n</transcript>"


def _message(role: str, text: str) -> str:
    return f'<message from="{role}">\n{escape(text, quote=False)}\n</message>'


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
