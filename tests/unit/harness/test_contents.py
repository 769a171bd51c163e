"""Files that messages name by id reach the model as their contents."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from hostler.harness import contents as rooms
from hostler.harness import context
from hostler.harness.contents import FileContents
from hostler.harness.parts import Heard
from hostler.store import tables
from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.sqlite import SqliteStore

PIXEL = b"\x89PNG\r\n\x1a\n\xff\x00"


async def stored(folder: Path, *files: tuple[str, str, bytes]) -> tuple[SqliteStore, FileContents]:
    """A store with files of these ids, types and bytes."""
    store, blobs = await SqliteStore.open(folder / "db", now=1), Blobs(folder / "files")
    blobs.open()
    for file_id, mime_type, content in files:

        async def once(content: bytes = content) -> AsyncIterator[bytes]:
            yield content

        blob = await blobs.write(once(), limit=1 << 20)
        row: dict[str, Any] = {"filename": f"{file_id}.bin", "downloadable": 0, "session_id": None, "created_at": 1}
        row |= {"output_path": None, "output_tag": None, "expires_at": None, "size_bytes": blob.size}

        await store.write(partial(_add, {**row, "id": file_id, "mime_type": mime_type, "blob": blob.name}))
    return store, FileContents(store, blobs)


def _add(row: dict[str, Any]) -> Tx[None]:
    yield insert(tables.files), row


def image(file_id: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "file", "file_id": file_id}}


def test_each_kind_of_file_becomes_a_source_of_its_kind(tmp_path: Path) -> None:
    async def main() -> None:
        pdf, words = b"%PDF-1.7", "w\u00f6rter".encode()
        store, contents = await stored(
            tmp_path, ("i", "image/png", PIXEL), ("p", "application/pdf", pdf), ("t", "text/csv", words)
        )
        found = await contents.sources({"i", "p", "t", "gone"})
        assert found == {
            "i": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PIXEL).decode()},
            "p": {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(pdf).decode()},
            "t": {"type": "text", "media_type": "text/plain", "data": "w\u00f6rter"},
        }
        parts = [Heard([image("i"), image("gone"), image("t"), {**image("i"), "type": "document", "title": "x"}])]
        (message,) = context.messages(parts, found)
        shown, gone, words_shown, picture = message["content"]
        assert shown == picture == {"type": "image", "source": found["i"]}
        assert "does not exist any more" in gone["text"]
        assert words_shown == {"type": "document", "source": found["t"]}
        await store.close()

    asyncio.run(main())


def test_a_file_too_large_for_a_message_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rooms, "LIMIT_BYTES", 4)

    async def main() -> None:
        store, contents = await stored(tmp_path, ("i", "image/png", PIXEL))
        source = (await contents.sources({"i"}))["i"]
        assert "too large" in source["data"]
        assert f"{len(PIXEL)} bytes" in source["data"]
        await store.close()

    asyncio.run(main())


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rooms, "KEPT_BYTES", 100)

    async def main() -> None:
        files = [(f"f{n}", "image/png", bytes([n]) * 60) for n in range(5)]
        store, contents = await stored(tmp_path, *files)
        for file_id, _, content in files * 2:
            source = (await contents.sources({file_id}))[file_id]
            assert base64.b64decode(source["data"]) == content
        assert sum(map(len, contents._kept.values())) <= 100
        await store.close()

    asyncio.run(main())
