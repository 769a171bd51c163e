"""A bounded excerpt of a conversation for a judge, as data that can't be mistaken for instructions.

It must leave out what tools returned: what a page or a file says can then not speak for a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hostler.harness.parts import Heard, Part, Said, Summed

TOTAL_CHARS = 16_000
TEXT_CHARS = 2000
CALL_CHARS = 500


def excerpt(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The first part, and as many of the last ones as there is room for, in order."""
    shown = [_shown(part) for part in parts]
    taken, room = [], TOTAL_CHARS
    for item in reversed(shown[1:]):
        room -= len(msgspec.json.encode(item))
        if room < 0:
            break
        taken.append(item)
    left_out = [{"left_out": len(shown) - 1 - len(taken)}] if len(taken) < len(shown) - 1 else []
    return [*shown[:1], *left_out, *reversed(taken)]


def quoted(value: Any) -> str:
    """JSON in which no tag can begin or end: what stands between two tags stays between them."""
    text = msgspec.json.encode(value).decode()
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def shown_text(content: Sequence[dict[str, Any]]) -> str:
    """The text of some content; other blocks are only named."""
    words = [
        block["text"] if block["type"] == "text" else f"[{block['type']}]"
        for block in content
        if block["type"] not in ("thinking", "redacted_thinking", "tool_use")
    ]
    return clipped("\n".join(words), TEXT_CHARS)


def shown_call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"tool": name, "input": clipped(msgspec.json.encode(arguments).decode(), CALL_CHARS)}


def clipped(text: str, limit: int) -> str:
    """Both ends of a text that is too long."""
    return text if len(text) <= limit else f"{text[: limit // 2]}\n[...]\n{text[-limit // 2 :]}"


def _shown(part: Part) -> dict[str, Any]:
    if isinstance(part, Heard):
        return {"who": part.who, "text": shown_text(part.content)}
    if isinstance(part, Said):
        calls = [shown_call(call.name, call.input) for call in part.calls]
        return {"who": "agent", "text": shown_text(part.content), "calls": calls}
    if isinstance(part, Summed):
        return {"who": "summary", "text": clipped(part.text, TEXT_CHARS)}
    return {"who": "operator", "text": clipped(part.text, TEXT_CHARS)}
