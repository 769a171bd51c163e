"""Takes a file that somebody hands in at a task's gate: to the tenant's documents, then the task is told.

The same bytes handed in again at the same gate are the same document. It must not know HTTP, nor where documents are.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from hostler.errors import InvalidRequest, RequestTooLarge, Unavailable
from hostler.runbooks.acting import Acted, Acting
from hostler.runbooks.acting import Document as Told
from hostler.runbooks.dataplane.records import Document
from hostler.runbooks.gates import Gate
from hostler.runbooks.invoking.agents import Place
from hostler.runbooks.invoking.passback import Documents

_HANDED_IN = uuid.UUID("9c1f0f3e-3a55-4c0c-8e0a-0d4c4b1f7e30")
_KEPT = uuid.UUID("b7a2f6f4-0d53-4d9e-9f0e-5a8f4f1c2d17")


class Uploads:
    def __init__(
        self,
        acting: Acting,
        documents: Documents,
        place: Callable[[str], Awaitable[Place]],
        *,
        folder: Path,
        max_bytes: int,
    ) -> None:
        """`folder` is for files on their way; `place` says whose a task is."""
        self._acting = acting
        self._documents = documents
        self._place = place
        self._folder = folder
        self.max_bytes = max_bytes

    async def hand_in(
        self,
        task_id: str,
        content: AsyncIterator[bytes],
        *,
        filename: str,
        content_type: str,
        scope: str | None = None,
        source: str | None = None,
        gate: str | None = None,
    ) -> Acted:
        """Raises NotFound, Conflict, InvalidRequest, RequestTooLarge, Unavailable."""
        wanted = await self._acting.wanted_file(task_id, scope=scope, source=source, gate=gate)
        place = await self._place(wanted.task.id)
        document = await self._stored(
            place, content, lambda size, sha256: _document(wanted, place, filename, content_type, size, sha256)
        )
        told = Told(
            document_ref=document.id,
            tenant_slug=place.tenant,
            entity_slug=place.entity,
            source=document.source,
            filename=document.filename,
            content_type=document.content_type,
        )
        return await self._acting.submit_file(task_id, told, scope=scope, gate=gate)

    async def keep(
        self, task_id: str, content: AsyncIterator[bytes], *, filename: str, content_type: str, source: str
    ) -> Document:
        """Keep a document of a task that nobody waits for; the same bytes of the same name and source are the same
        document. Raises NotFound, InvalidRequest, RequestTooLarge, Unavailable."""
        place, root = await self._place(task_id), task_id.partition(":")[0]

        def document(size: int, sha256: str) -> Document:
            return Document(
                id=str(uuid.uuid5(_KEPT, f"{root}/{source}/{filename}/{sha256}")),
                entity_slug=place.entity,
                period=place.period,
                source=source,
                filename=filename,
                content_type=content_type,
                task_id=root,
                size=size,
                sha256=sha256,
            )

        return await self._stored(place, content, document)

    async def _stored(
        self, place: Place, content: AsyncIterator[bytes], document: Callable[[int, str], Document]
    ) -> Document:
        """Store what comes; `document` is what it becomes, once its size and hash are known."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="upload-") as file:
            try:
                size, sha256 = await self._take(content, Path(file.name))
            except OSError as problem:
                raise Unavailable(f"The file could not be written: {problem.strerror}.") from problem
            made = document(size, sha256)
            await self._documents.insert_document(place.tenant, made, Path(file.name))
        return made

    async def _take(self, content: AsyncIterator[bytes], file: Path) -> tuple[int, str]:
        size, sha256 = 0, hashlib.sha256()
        with file.open("wb") as out:
            async for chunk in content:
                size += len(chunk)
                if size > self.max_bytes:
                    raise RequestTooLarge(f"A file may have {self.max_bytes} bytes at most.")
                sha256.update(chunk)
                await asyncio.to_thread(out.write, chunk)
        if size == 0:
            raise InvalidRequest("The file is empty: its bytes are expected as the request's body.")
        return size, sha256.hexdigest()


def _document(wanted: Gate, place: Place, filename: str, content_type: str, size: int, sha256: str) -> Document:
    args = wanted.action.get("args") or {}
    return Document(
        id=str(uuid.uuid5(_HANDED_IN, f"{wanted.token}/{filename}/{sha256}")),
        entity_slug=place.entity,
        period=place.period,
        source=str(args.get("source") or "upload"),
        filename=filename,
        content_type=content_type,
        task_id=wanted.task.id.partition(":")[0],
        size=size,
        sha256=sha256,
    )
