"""Gives the contents of files that messages refer to, in the form a model takes. It must not read whole folders of
them: what is kept in memory is bounded."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import files

KEPT_BYTES = 64 * 1024 * 1024
LIMIT_BYTES = 32 * 1024 * 1024
TOO_LARGE = "[The file {name} is too large to be read in a message: {size} bytes.]"


class FileContents:
    """See `deps.Contents`."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    async def sources(self, file_ids: set[str]) -> Mapping[str, dict[str, Any]]:
        if not file_ids:
            return {}

        def tx() -> Tx[list[tuple[str, str, str, str, int]]]:
            columns = (files.c.id, files.c.blob, files.c.mime_type, files.c.filename, files.c.size_bytes)
            rows = yield select(*columns).where(files.c.id.in_(sorted(file_ids)))
            return [tuple(row) for row in rows]

        found = await self._store.read(tx)
        return {file_id: await self._source(blob, mime, name, size) for file_id, blob, mime, name, size in found}

    async def _source(self, blob: str, mime: str, name: str, size: int) -> dict[str, Any]:
        if size > LIMIT_BYTES:
            return {"type": "text", "media_type": "text/plain", "data": TOO_LARGE.format(name=name, size=size)}
        encoded = await self._base64(blob)
        if mime.startswith("image/") or mime == "application/pdf":
            return {"type": "base64", "media_type": mime, "data": encoded}
        text = base64.b64decode(encoded).decode(errors="replace")
        return {"type": "text", "media_type": "text/plain", "data": text}

    async def _base64(self, blob: str) -> str:
        if blob in self._kept:
            self._kept.move_to_end(blob)
            return self._kept[blob]
        content = await asyncio.to_thread(self._blobs.path(blob).read_bytes)
        encoded = base64.b64encode(content).decode()
        self._kept[blob] = encoded
        self._size += len(encoded)
        while self._size > KEPT_BYTES:
            self._size -= len(self._kept.popitem(last=False)[1])
        return encoded
