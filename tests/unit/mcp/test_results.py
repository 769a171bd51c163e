"""What a result becomes: content blocks that the log and every model API take."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hostler.mcp.results import LARGEST_IMAGE, MOST_BLOCKS, MOST_MEDIA, content_of

PNG = b"\x89PNG\r\n\x1a\n"


def image(raw: bytes = PNG, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "mimeType": kind, "data": base64.b64encode(raw).decode()}


def blocks(*content: Any, **more: Any) -> list[dict[str, Any]]:
    return content_of({"content": list(content), **more})


def texts(found: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in found if block["type"] == "text")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF0000WEBPVP8 ", "image/webp"),
    ],
)
def test_an_image_is_what_its_first_bytes_say(raw: bytes, kind: str) -> None:
    (block,) = blocks(image(raw, "image/unheard-of"))
    assert block == {
        "type": "image",
        "source": {"type": "base64", "media_type": kind, "data": base64.b64encode(raw).decode()},
    }


def test_media_are_bounded_in_size_and_number() -> None:
    (large,) = blocks(image(PNG + b"x" * (LARGEST_IMAGE * 3 // 4)))
    assert "too large" in large["text"]
    many = blocks(*[image()] * (MOST_MEDIA + 1))
    assert [block["type"] for block in many] == ["image"] * MOST_MEDIA + ["text"]
    half = image(PNG + b"x" * (LARGEST_IMAGE * 3 // 4 - 100))
    assert [block["type"] for block in blocks(half, half, half)] == ["image", "image", "text"]


def test_too_many_blocks() -> None:
    found = blocks(*[{"type": "text", "text": "x"}] * (MOST_BLOCKS + 5))
    assert len(found) == MOST_BLOCKS + 1
    assert found[-1]["text"] == "[5 more blocks left out]"


def test_structured_content_is_shown_where_no_text_says_it() -> None:
    assert texts(blocks(structuredContent={"a": 1})) == '{"a":1}'
    assert texts(blocks({"type": "text", "text": "one"}, structuredContent={"a": 1})) == "one"
    assert blocks() == []


def test_what_can_t_be_stored_or_shown_is_replaced() -> None:
    assert texts(blocks({"type": "text", "text": "a\0b"})) == "a\ufffdb"
    assert blocks({"type": "text", "text": " \n"}) == []
    assert "type video" in texts(blocks({"type": "video"}))
    assert "audio/wav" in texts(blocks({"type": "audio", "mimeType": "audio/wav", "data": "AAAA"}))


def test_resources() -> None:
    inside = {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "text/plain", "text": "A"}}
    assert texts(blocks(inside)) == "[resource file:///a (text/plain)]\nA"
    archive = {"type": "resource", "resource": {"uri": "file:///z", "blob": base64.b64encode(b"PK").decode()}}
    assert "2 bytes: not an image or document" in texts(blocks(archive))
    assert "without contents" in texts(blocks({"type": "resource", "resource": {"uri": "x"}}))
    link = {"type": "resource_link", "uri": "https://a/b", "name": "n", "mimeType": "text/html", "description": "d"}
    assert texts(blocks(link)) == "[resource link] n: https://a/b (text/html)\nd"
