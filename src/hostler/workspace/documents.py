"""Routes of a task's documents: what was handed in for it, and what its agents have made. It must not store any."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from starlette.responses import StreamingResponse

from hostler.errors import NotFound
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.records import StoredDocument
from hostler.runbooks.gates import find_tx
from hostler.runbooks.registry import tenants
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.wire.base import timestamp
from hostler.wire.tasks import TaskDocument
from hostler.workspace.call import Call
from hostler.workspace.gate import Route

LISTED = 1000
_DOCUMENTS = "/v1/workspace/tasks/{task}/documents"


class Documents:
    def __init__(self, store: Store, data: DataPlane) -> None:
        self._store = store
        self._data = data

    def routes(self) -> list[Route]:
        return [Route("GET", _DOCUMENTS, self._index), Route("GET", f"{_DOCUMENTS}/{{document}}", self._content)]

    async def _index(self, call: Call) -> Any:
        call.query()
        tenant, task_id = await self._place(call)
        return [_shown(each) for each in await self._data.documents(tenant, task_id=task_id, limit=LISTED)]

    async def _content(self, call: Call) -> Any:
        """Its bytes, always as a download: a page in it must not run as one of ours."""
        call.query()
        tenant, task_id = await self._place(call)
        found = await self._data.document(tenant, call.params["document"])
        if found.task_id != task_id:
            raise NotFound(f"Document {found.id} was not found among those of this task.")
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(found.filename, safe='')}",
            "content-length": str(found.size),
            "x-content-type-options": "nosniff",
        }
        content = _read(self._data.content(tenant, found.id))
        return StreamingResponse(content, media_type="application/octet-stream", headers=headers)

    async def _place(self, call: Call) -> tuple[str, str]:
        """The tenant's slug, and the task at the root, whose all documents are. Raises NotFound."""

        def tx() -> Tx[tuple[str, str]]:
            row = yield from find_tx(call.params["task"], call.scope)
            return (yield from tenants.find_tx(row.tenant_id)).slug, row.id.partition(":")[0]

        return await self._store.read(tx)


async def _read(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Closed also where the client goes in the middle."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            yield chunk


def _shown(found: StoredDocument) -> TaskDocument:
    return TaskDocument(
        id=found.id,
        filename=found.filename,
        content_type=found.content_type,
        size_bytes=found.size,
        source=found.source,
        uploaded_at=timestamp(int(found.uploaded_at.timestamp() * 1_000_000)),
        sha256=found.sha256,
        period=found.period,
    )
