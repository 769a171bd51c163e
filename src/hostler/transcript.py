"""Renders a session's events as lines for a person at a terminal. It must not print or read anything itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SHOWN_LINES = 12
SHOWN_WIDTH = 160
_SAYS = ("user.message", "agent.message", "agent.tool_result", "user.custom_tool_result")


def lines(event: Mapping[str, Any]) -> list[str]:
    """What to show of an event: its type, and below it what a person wants to read. Nothing for one that waits."""
    if event.get("processed_at", "") is None:
        return []
    said = [_printable(line) for line in _details(event).splitlines()]
    shown = [f"  | {line}" for line in said[:SHOWN_LINES]]
    more = len(said) - SHOWN_LINES
    return [event["type"], *shown, *([f"  | and {more} more lines"] if more > 0 else [])]


def _details(event: Mapping[str, Any]) -> str:
    kind = event["type"]
    if kind in _SAYS:
        return "\n".join(block["text"] for block in event.get("content") or () if block["type"] == "text")
    if kind == "agent.tool_use":
        given = event["input"]
        return f"{event['name']}: {given.get('command') or json.dumps(given, ensure_ascii=False)}"
    if kind == "session.error":
        return f"{event['error']['type']}: {event['error']['message']}"
    if kind == "session.status_idle":
        return f"stop_reason: {event['stop_reason']['type']}"
    return ""


def _printable(line: str) -> str:
    """Without control characters: an agent's output must not drive the terminal."""
    clean = "".join(letter if letter.isprintable() else " " for letter in line[: SHOWN_WIDTH + 1])
    return clean if len(line) <= SHOWN_WIDTH else clean[:SHOWN_WIDTH] + "..."
