"""Tools of a task's documents and records: listed, read, and handed in, each once however often it is sent.

An agent hands in for the task that it works on, and is named as the source. It must not know where documents are kept.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hostler.errors import InvalidRequest, NotFound, RequestTooLarge
from hostler.runbooks.dataplane.records import StoredDocument
from hostler.runbooks.invoking.agents import Place
from hostler.runbooks.invoking.directory import place_tx
from hostler.runbooks.room import Runbooks
from hostler.runbooks.tasks import TaskRow
from hostler.store.sql import Tx
from hostler.wire.workspace import Config, Key
from hostler.workspace.mcp import reach
from hostler.workspace.mcp.callers import Caller
from hostler.workspace.mcp.tasks import page_of
from hostler.workspace.mcp.tool import Contents, Tool
from hostler.workspace.mcp.words import OfTask

LARGEST_TEXT = 1024 * 1024
LARGEST_BINARY = 4 * 1024 * 1024
LARGEST_RECORD = 1024 * 1024
SHOWN_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_RECORDS = uuid.UUID("3d0d8f0a-4a1b-4f64-8c6c-2f4b1d8f5e90")
_TEXTS = ("application/json", "application/xml", "application/yaml", "application/x-yaml", "application/csv")
_RECORD = """INSERT INTO ingest.submitted_records (id, entity_slug, task_id, kind, source_ref, data)
    VALUES ($1::uuid, $2, $3, $4, $5::jsonb, $6::jsonb) ON CONFLICT (id) DO NOTHING"""

Filename = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=r"^[^/\\]+$", description="A name without folders.")
]
Encoded = Annotated[str, Meta(description="The file's bytes in base64.")]


class FileList(OfTask, kw_only=True):
    source_prefix: Annotated[Key, Meta(description="Such as agent_output: for what agents wrote.")] | None = None
    period: Key | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class FileGet(OfTask, kw_only=True):
    document_ref: Annotated[
        Key, Meta(description="The id of a document, from ntro_task_list_files or from your input.")
    ]
    encoding: Annotated[
        Literal["auto", "base64"],
        Meta(description="auto gives text as text, and anything else as an attachment; base64 gives any file as text."),
    ] = "auto"


class FileIngest(OfTask, kw_only=True):
    filename: Filename
    text: Annotated[str, Meta(description="The file's content, if it is text; else content_base64.")] | None = None
    content_base64: Encoded | None = None
    content_type: Annotated[Key, Meta(pattern=r"^[\w.+-]+/[\w.+-]+(;.*)?$", description="Such as text/csv.")] | None = (
        None
    )
    source: Annotated[Key, Meta(description="Which of the files a gate waits for; not for agents.")] | None = None


class DataIngest(OfTask, kw_only=True):
    kind: Annotated[Key, Meta(description="What sort of record it is; the runbook looks for it.")]
    data: Config
    source_ref: Annotated[Config, Meta(description="Where it comes from.")] | None = None


class Files:
    def __init__(self, room: Runbooks) -> None:
        self._room = room

    def tools(self) -> list[Tool]:
        return [
            Tool("ntro_task_list_files", "Documents of a task, the newest first: what was handed in, and what agents "
                 "and the runbook wrote.", FileList, self.all, agents=True, reads=True),
            Tool("ntro_task_file_get", "Read a document of a task.", FileGet, self.get, agents=True, reads=True),
            Tool("ntro_task_file_ingest", "Hand in a document for a task. From an agent it is kept among the task's "
                 "documents; from anybody else it goes to the gate that waits for a file.", FileIngest, self.ingest,
                 agents=True),
            Tool("ntro_task_data_ingest", "Hand in a structured record for a task; the same record is kept once.",
                 DataIngest, self.ingest_record, agents=True),
        ]  # fmt: skip

    async def all(self, caller: Caller, params: FileList) -> Any:
        row, place = await self._of(caller, params.task_id)
        found: list[StoredDocument] = []
        for task_id in dict.fromkeys((reach.root_of(row.id), row.id)):
            found += await self._room.data.documents(
                place.tenant,
                task_id=task_id,
                source_prefix=params.source_prefix,
                period=params.period,
                limit=params.limit,
            )
        return [_listed(each) for each in found[: params.limit]]

    async def get(self, caller: Caller, params: FileGet) -> Any:
        row, place = await self._of(caller, params.task_id)
        found = await self._room.data.document(place.tenant, params.document_ref)
        if found.task_id is None or reach.root_of(found.task_id) != reach.root_of(row.id):
            raise NotFound(f"Task {row.id} has no document {params.document_ref}.")
        if found.size > (LARGEST_TEXT if _is_text(found) else LARGEST_BINARY):
            raise RequestTooLarge(
                f"{found.filename} has {found.size} bytes, which is too much for an answer. "
                f"It can be downloaded on the task's page: {page_of(caller, row.id)}"
            )
        content = await self._content(place.tenant, found)
        return Contents(_listed(found), [_block(found, content, params.encoding)])

    async def ingest(self, caller: Caller, params: FileIngest) -> Any:
        row, _ = await self._of(caller, params.task_id)
        content = _given(params)
        kind = params.content_type or ("text/plain" if params.text is not None else "application/octet-stream")
        if caller.agent_id is None:
            acted = await self._room.uploads.hand_in(
                row.id,
                _once(content),
                filename=params.filename,
                content_type=kind,
                scope=caller.scope,
                source=params.source,
            )
            return {"task_id": acted.task.id, "filename": params.filename, "size_bytes": len(content)}
        if params.source is not None:
            raise InvalidRequest("source: an agent's documents name the agent as their source; leave it out")
        kept = await self._room.uploads.keep(
            row.id, _once(content), filename=params.filename, content_type=kind, source=_source(caller)
        )
        return {
            "document_ref": kept.id, "task_id": kept.task_id, "filename": kept.filename, "source": kept.source,
            "content_type": kept.content_type, "size_bytes": kept.size,
        }  # fmt: skip

    async def ingest_record(self, caller: Caller, params: DataIngest) -> Any:
        row, place = await self._of(caller, params.task_id)
        data = msgspec.json.encode(params.data, order="sorted")
        if len(data) > LARGEST_RECORD:
            raise RequestTooLarge(f"data: {len(data)} bytes are more than the {LARGEST_RECORD} that a record may have")
        root = reach.root_of(row.id)
        source = {**(params.source_ref or {}), "submitted_by": _source(caller)}
        ref = msgspec.json.encode(source, order="sorted").decode()
        record_id = str(uuid.uuid5(_RECORDS, f"{root}/{params.kind}/{ref}/{data.decode()}"))
        values = (record_id, place.entity, root, params.kind, ref, data.decode())
        status = await self._room.data.execute(place.tenant, _RECORD, *values)
        return {"id": record_id, "task_id": root, "kind": params.kind, "created": status.endswith(" 1")}

    async def _of(self, caller: Caller, task_id: str | None) -> tuple[TaskRow, Place]:
        def tx() -> Tx[tuple[TaskRow, Place]]:
            row = yield from reach.task_tx(caller, task_id)
            return row, (yield from place_tx(row.id))

        return await self._room.store.read(tx)

    async def _content(self, tenant: str, found: StoredDocument) -> bytes:
        """No more than was announced."""
        parts = bytearray()
        async with aclosing(self._room.data.content(tenant, found.id)) as chunks:
            async for chunk in chunks:
                parts += chunk
                if len(parts) > found.size:
                    raise NotFound(f"The content of {found.filename} has changed; read it again.")
        return bytes(parts)


def _source(caller: Caller) -> str:
    return f"agent_output:{caller.agent_id}" if caller.agent_id is not None else f"key:{caller.key_id}"


def _listed(found: StoredDocument) -> dict[str, Any]:
    shown = {
        "document_ref": found.id, "filename": found.filename, "source": found.source,
        "content_type": found.content_type, "size_bytes": found.size, "uploaded_at": found.uploaded_at.isoformat(),
        "entity_slug": found.entity_slug, "period": found.period, "task_id": found.task_id,
    }  # fmt: skip
    return {name: value for name, value in shown.items() if value is not None}


def _is_text(found: StoredDocument) -> bool:
    kind = found.content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+json", "+xml"))


def _block(found: StoredDocument, content: bytes, encoding: str) -> dict[str, Any]:
    """A document as one of MCP's content blocks."""
    coded = base64.b64encode(content).decode()
    if encoding == "base64":
        return {"type": "text", "text": coded}
    if _is_text(found):
        return {"type": "text", "text": content.decode("utf-8-sig", "replace")}
    if found.content_type in SHOWN_IMAGES:
        return {"type": "image", "data": coded, "mimeType": found.content_type}
    uri = f"ntro://documents/{found.id}"
    return {"type": "resource", "resource": {"uri": uri, "mimeType": found.content_type, "blob": coded}}


def _given(params: FileIngest) -> bytes:
    """Raises InvalidRequest."""
    if (params.text is None) == (params.content_base64 is None):
        raise InvalidRequest("text, content_base64: give one of the two")
    if params.text is not None:
        content = params.text.encode()
    else:
        try:
            content = base64.b64decode(params.content_base64 or "", validate=True)
        except (binascii.Error, ValueError) as problem:
            raise InvalidRequest("content_base64: valid base64 is expected") from problem
    if not content:
        raise InvalidRequest("The file is empty.")
    return content


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
