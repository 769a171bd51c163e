"""Documents in PostgreSQL, a piece at a time: no content is ever whole in this process. It must not commit.

A content longer than one piece is put together by the database in a large object, which goes again in the same
transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any

import asyncpg

from hostler.runbooks.dataplane.records import CHUNK, Document, StoredDocument, Wanted, changed, unreadable

_COLUMNS = """id, entity_slug, source, filename, content_type, octet_length(data_bytes) AS size, uploaded_at, sha256,
    period, task_id"""
_INSERT = """INSERT INTO ingest.submitted_documents
    (id, entity_slug, period, source, filename, content_type, data_bytes, task_id, sha256)
    VALUES ($1, $2, $3, $4, $5, $6, {content}, $7, $8)"""


async def insert(connection: asyncpg.Connection, document: Document, content: Path) -> StoredDocument:
    """Store it, or return what is there. Two at once wait for each other: the table may be one without a key."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", document.id)
    known = await find(connection, document.id)
    if known is not None:
        return known
    row = (
        uuid.UUID(document.id),
        document.entity_slug,
        document.period,
        document.source,
        document.filename,
        document.content_type,
        document.task_id,
        document.sha256,
    )
    try:
        if document.size <= CHUNK:
            data = await asyncio.to_thread(_whole, content, document)
            await connection.execute(_INSERT.format(content="$9"), *row, data)
        else:
            large = await _large_object(connection, document, content)
            await connection.execute(_INSERT.format(content="lo_get($9)"), *row, large)
            await connection.execute("SELECT lo_unlink($1)", large)
    except FileNotFoundError as error:
        raise unreadable(document, error) from error
    stored = await find(connection, document.id)
    assert stored is not None
    return stored


def _whole(content: Path, document: Document) -> bytes:
    with content.open("rb") as file:
        data = file.read(document.size + 1)
    _check(document, len(data), hashlib.sha256(data).hexdigest())
    return data


async def _large_object(connection: asyncpg.Connection, document: Document, content: Path) -> int:
    large: int = await connection.fetchval("SELECT lo_create(0)")
    digest, at = hashlib.sha256(), 0
    file = await asyncio.to_thread(content.open, "rb")
    try:
        while data := await asyncio.to_thread(file.read, CHUNK):
            digest.update(data)
            if at + len(data) > document.size:
                break
            await connection.execute("SELECT lo_put($1, $2, $3)", large, at, data)
            at += len(data)
    finally:
        file.close()
    _check(document, at, digest.hexdigest())
    return large


def _check(document: Document, size: int, sha256: str) -> None:
    if size != document.size or sha256 != document.sha256:
        raise changed(document)


async def find(connection: asyncpg.Connection, document_id: str) -> StoredDocument | None:
    sql = f"SELECT {_COLUMNS} FROM ingest.submitted_documents WHERE id = $1"
    row = await connection.fetchrow(sql, uuid.UUID(document_id))
    return None if row is None else _stored(row)


async def listed(connection: asyncpg.Connection, wanted: Wanted) -> list[StoredDocument]:
    clauses, args = ["true"], []
    for column in ("task_id", "entity_slug", "period"):
        if (value := getattr(wanted, column)) is not None:
            args.append(value)
            clauses.append(f"{column} = ${len(args)}")
    if wanted.source_prefix is not None:
        args.append(wanted.source_prefix)
        clauses.append(f"starts_with(source, ${len(args)})")
    sql = (
        f"SELECT {_COLUMNS} FROM ingest.submitted_documents WHERE {' AND '.join(clauses)} "
        f"ORDER BY uploaded_at DESC, id LIMIT ${len(args) + 1}"
    )
    return [_stored(row) for row in await connection.fetch(sql, *args, wanted.limit)]


async def piece(connection: asyncpg.Connection, document_id: str, at: int, size: int) -> bytes | None:
    sql = "SELECT substring(data_bytes FROM $2 FOR $3) FROM ingest.submitted_documents WHERE id = $1"
    found: bytes | None = await connection.fetchval(sql, uuid.UUID(document_id), at + 1, size)
    return found


def _stored(row: Any) -> StoredDocument:
    return StoredDocument(**{**dict(row), "id": str(row["id"])})
