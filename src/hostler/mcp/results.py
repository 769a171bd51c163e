"""Turns the result of an MCP tool into content blocks that the log and every model API take.

It must not trust what a server says of its data: a picture that is none, sent on, would make every later request of the
session fail.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

Block = dict[str, Any]

LARGEST_IMAGE = 5 * 1024 * 1024  # in base64
LARGEST_MEDIA = 10 * 1024 * 1024  # of one result, in base64
MOST_MEDIA = 20
MOST_BLOCKS = 1000
LONGEST_NOTE = 2000

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PRINTABLE = re.compile(r"[^\x20-\x7e]")


def content_of(result: dict[str, Any]) -> list[Block]:
    """The blocks of a `tools/call` result. Structured content is added where no text says it already."""
    blocks: list[Block] = []
    room = _Room()
    given = result.get("content") or []
    for item in given[:MOST_BLOCKS]:
        blocks += _block(item, room)
    if len(given) > MOST_BLOCKS:
        blocks.append(_text(f"[{len(given) - MOST_BLOCKS} more blocks left out]"))
    structured = result.get("structuredContent")
    if structured is not None and not any(item.get("type") == "text" for item in given):
        blocks.append(_text(msgspec.json.encode(structured).decode()))
    return blocks


class _Room:
    """What a result may still hold of images and documents."""

    def __init__(self) -> None:
        self.bytes = LARGEST_MEDIA
        self.pieces = MOST_MEDIA

    def take(self, size: int) -> bool:
        if self.pieces == 0 or size > self.bytes:
            return False
        self.pieces -= 1
        self.bytes -= size
        return True


def _block(item: dict[str, Any], room: _Room) -> list[Block]:
    match item:
        case {"type": "text", "text": str(text)}:
            return [_text(text)] if text.strip() else []
        case {"type": "image", "data": str(data)}:
            return [_medium(data, item.get("mimeType"), "image", room)]
        case {"type": "audio", "data": str(data)}:
            return [_text(f"[audio, {_kind(item)}, about {len(data) * 3 // 4} bytes: it can't be passed on]")]
        case {"type": "resource", "resource": dict(resource)}:
            return _resource(resource, room)
        case {"type": "resource_link"}:
            return [_text(_link(item))]
    return [_text(f"[content of type {_short(item.get('type'))} can't be shown]")]


def _resource(resource: dict[str, Any], room: _Room) -> list[Block]:
    name = f"{_short(resource.get('uri'))} ({_kind(resource)})"
    if isinstance(resource.get("text"), str):
        return [_text(f"[resource {name}]\n{resource['text']}")]
    if isinstance(resource.get("blob"), str):
        return [_text(f"[resource {name}]"), _medium(resource["blob"], resource.get("mimeType"), "resource", room)]
    return [_text(f"[resource {name} without contents]")]


def _link(item: dict[str, Any]) -> str:
    lines = [f"[resource link] {_short(item.get('title') or item.get('name'))}: {_short(item.get('uri'))}"]
    if item.get("mimeType"):
        lines[0] += f" ({_kind(item)})"
    if item.get("description"):
        lines.append(_short(item["description"]))
    return "\n".join(lines)


def _medium(data: str, claimed: Any, what: str, room: _Room) -> Block:
    """An image or document block, or words on why it is none. What it is, its first bytes say."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return _text(f"[{what}, {_short(claimed)}: its data is not valid base64]")
    found = _detected(raw)
    if found is None:
        return _text(f"[{what}, {_short(claimed)}, {len(raw)} bytes: not an image or document that can be passed on]")
    document = found == "application/pdf"
    if (len(data) > LARGEST_IMAGE and not document) or not room.take(len(data)):
        return _text(f"[{what}, {found}, {len(raw)} bytes: too large to be passed on]")
    source = {"type": "base64", "media_type": found, "data": data}
    return {"type": "document" if document else "image", "source": source}


def _detected(raw: bytes) -> str | None:
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if raw.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if raw.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        return "image/webp"
    return "application/pdf" if raw.startswith(b"%PDF-") else None


def _text(text: str) -> Block:
    return {"type": "text", "text": _UNSTORABLE.sub("\ufffd", text)}


def _kind(item: dict[str, Any]) -> str:
    return _PRINTABLE.sub("?", str(item.get("mimeType") or "unknown type"))[:100]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_NOTE else text[:LONGEST_NOTE] + "[...]"
