"""A document of a tenant, before and after it is stored, and what a statement gives. It must not read or write any."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from hostler.errors import InvalidRequest

CHUNK = 1024 * 1024


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is a UUID that a repeat has again. `size` and `sha256` (hexadecimal) are what the content must have."""

    id: str
    entity_slug: str
    source: str
    filename: str
    content_type: str
    size: int
    sha256: str
    period: str | None = None
    task_id: str | None = None


class StoredDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`sha256` is None where a runbook's own SQL has stored it."""

    id: str
    entity_slug: str
    source: str
    filename: str
    content_type: str
    size: int
    uploaded_at: datetime
    sha256: str | None = None
    period: str | None = None
    task_id: str | None = None


def changed(document: Document) -> InvalidRequest:
    return InvalidRequest(f"The content of {document.filename!r} is not what was said of it; nothing was stored.")


def unreadable(document: Document, error: OSError) -> InvalidRequest:
    return InvalidRequest(f"The content of {document.filename!r} can't be read: {error.strerror}. Nothing was stored.")


class Wanted(NamedTuple):
    """Which documents; None is any."""

    task_id: str | None = None
    entity_slug: str | None = None
    period: str | None = None
    source_prefix: str | None = None
    limit: int = 100


class Result(NamedTuple):
    """`status` is PostgreSQL's command tag, such as `UPDATE 5`."""

    columns: list[str]
    rows: list[list[Any]]
    status: str


class Place(Protocol):
    """Where one tenant's data lies. Everything raises Unavailable when that is out of reach: then nothing was done."""

    async def insert(self, document: Document, content: Path) -> StoredDocument:
        """Store it, or return what is there under its id. Raises InvalidRequest where the content is another one."""
        ...

    async def document(self, document_id: str) -> StoredDocument | None: ...

    def content(self, document_id: str) -> AsyncGenerator[bytes, None]:
        """The bytes, in chunks. Raises NotFound."""
        ...

    async def documents(self, wanted: Wanted) -> list[StoredDocument]:
        """The newest first."""
        ...

    async def run(self, sql: str, args: list[Any], limit: int | None = None) -> Result:
        """Run one statement in a transaction of its own; give the first `limit` of its rows. Raises SqlFailed,
        TooMuch."""
        ...

    async def aclose(self) -> None: ...
