"""Files: uploads, and what sessions hand back. The bytes lie in the blob folder; rows that name equal bytes share them.

It must not parse HTTP, and it never has a whole file in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, delete, insert, or_, select, union

from hostler import clock
from hostler.errors import InvalidRequest, NotFound, Unavailable
from hostler.ids import new_id
from hostler.services.paging import Cursor, Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.store.blobs import Blob, Blobs
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import files, resources, skill_files
from hostler.wire.base import UNSET, timestamp
from hostler.wire.files import File, FileDeleted, FileScope

MAX_BYTES = 500 * 1024 * 1024  # unless the server's settings say otherwise
MAX_IDS = 100
MIN_LIFE, MAX_LIFE = 3600, 7_776_000
GRACE_SECONDS = 3600
SWEPT_AT_ONCE = 500

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_MIME = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}")
_COLUMNS = (
    files.c.id,
    files.c.created_at,
    files.c.filename,
    files.c.mime_type,
    files.c.size_bytes,
    files.c.downloadable,
    files.c.session_id,
    files.c.expires_at,
    files.c.blob,
)
_ALL = select(*_COLUMNS)
_ONE = _ALL.where(files.c.id == bindparam("id"))
_INSERT = insert(files)
_DELETE = delete(files).where(files.c.id == bindparam("id"))
_MOUNTED = select(resources.c.session_id).where(resources.c.file_id == bindparam("id")).limit(1)


class Upload(NamedTuple):
    """What a client says of the bytes it uploads."""

    filename: str | None
    mime_type: str | None
    expires_in_seconds: int | None = None


class Download(NamedTuple):
    path: Path
    filename: str
    mime_type: str


class Files:
    def __init__(self, store: Store, blobs: Blobs, *, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._blobs = blobs
        self.max_bytes = max_bytes

    async def store(self, chunks: AsyncIterator[bytes]) -> Blob:
        """Put an upload's bytes on disk. They are kept once `create` names them."""
        return await self._blobs.write(chunks, limit=self.max_bytes)

    async def create(self, blob: Blob, upload: Upload) -> File:
        life = upload.expires_in_seconds
        if life is not None and not MIN_LIFE <= life <= MAX_LIFE:
            raise InvalidRequest(f"expires_in_seconds: Input should be between {MIN_LIFE} and {MAX_LIFE}")
        now = clock.now()
        mime_type = _mime_type(upload)
        row = {
            "id": new_id("file"),
            "filename": _filename(upload.filename, mime_type),
            "mime_type": mime_type,
            "size_bytes": blob.size,
            "downloadable": 0,
            "session_id": None,
            "blob": blob.name,
            "output_path": None,
            "output_tag": None,
            "created_at": now,
            "expires_at": now + life * 1_000_000 if life is not None else None,
        }
        await self._store.write(lambda: rows(_INSERT, row))
        return _file([row[column.name] for column in _COLUMNS])

    async def retrieve(self, file_id: str) -> File:
        return _file(await self._store.read(lambda: _find_tx(file_id)))

    async def download(self, file_id: str) -> Download:
        row = await self._store.read(lambda: _find_tx(file_id))
        if not row[5]:
            raise InvalidRequest(
                f"File {file_id} is not downloadable: only files made by a session are.",
                error_code="file_not_downloadable",
            )
        path = self._blobs.path(row[8])
        if not await asyncio.to_thread(path.is_file):
            raise Unavailable(f"The content of file {file_id} is missing on the server's disk.")
        return Download(path, row[2], row[3])

    async def delete(self, file_id: str) -> FileDeleted:
        def tx() -> Tx[str]:
            row = yield from first(_ONE, {"id": file_id})
            if row is None:
                raise _missing(file_id)
            mounted = yield from first(_MOUNTED, {"id": file_id})
            if mounted is not None:
                raise InvalidRequest(
                    f"File {file_id} is a resource of session {mounted[0]}; delete the resource instead."
                )
            yield _DELETE, {"id": file_id}
            blob: str = row[8]
            return blob

        await self._forget([await self._store.write(tx)])
        return FileDeleted(id=file_id)

    async def some(self, ids: Sequence[str]) -> list[File]:
        """The files of these ids, newest first; unknown ones are left out."""
        wanted = list(dict.fromkeys(ids))
        if len(wanted) > MAX_IDS:
            raise InvalidRequest(f"ids: List should have at most {MAX_IDS} items")
        statement = _living(_ALL, clock.now()).where(files.c.id.in_(wanted))
        found = await self._store.read(lambda: rows(statement.order_by(files.c.created_at.desc(), files.c.id.desc())))
        return [_file(row) for row in found]

    async def sweep(self) -> int:
        """Remove bytes that no file names any more and that are not fresh; returns how many."""
        names = await asyncio.to_thread(self._blobs.names)
        return sum([await self._forget(names[at : at + SWEPT_AT_ONCE]) for at in range(0, len(names), SWEPT_AT_ONCE)])

    async def _forget(self, names: list[str]) -> int:
        """Remove those of these blobs that no living file and no skill names, unless so fresh that one may be about to.

        The row of an expired file stays, to say so.
        """
        living = _living(select(files.c.blob), clock.now()).where(files.c.blob.in_(names))
        of_skills = select(skill_files.c.blob).where(skill_files.c.blob.in_(names))
        named = await self._store.read(lambda: rows(union(living, of_skills)))
        loose = set(names) - {row[0] for row in named}
        return await asyncio.to_thread(self._remove, loose)

    def _remove(self, loose: set[str]) -> int:
        before, removed = time.time() - GRACE_SECONDS, 0
        for name in loose:
            with contextlib.suppress(FileNotFoundError):
                if self._blobs.path(name).stat().st_mtime < before:
                    self._blobs.forget(name)
                    removed += 1
        return removed

    async def list(
        self, *, limit: int, page: str | None, scope_id: str | None, after: str | None, before: str | None
    ) -> Slice:
        """Newest first. `after` and `before` are ids, for older SDKs."""
        if sum(cursor is not None for cursor in (page, after, before)) > 1:
            raise InvalidRequest("page, after_id and before_id can't be used together")
        statement = _living(_ALL, clock.now())
        if scope_id is not None:
            statement = statement.where(files.c.session_id == scope_id)

        def tx() -> Tx[Slice]:
            cursor = read_cursor(page, "desc")
            if after or before:
                row = yield from _find_tx(after or before or "")
                cursor = Cursor("desc", row[1], row[0], back=before is not None)
            at, key = files.c.created_at, files.c.id
            found = yield page_of(statement, at, key, order="desc", limit=limit, cursor=cursor)
            cut = slice_of(found, order="desc", limit=limit, cursor=cursor)
            more = cut.prev_page if before else cut.next_page
            return Slice([_file(row) for row in cut.rows], more)

        return await self._store.read(tx)


def _find_tx(file_id: str) -> Tx[Row]:
    row = yield from first(_ONE, {"id": file_id})
    if row is None:
        raise _missing(file_id)
    if row[7] is not None and row[7] <= clock.now():
        raise NotFound(f"File {file_id} has expired.", error_code="file_expired")
    return row


def _missing(file_id: str) -> NotFound:
    return NotFound(f"File {file_id} was not found.")


def _living(statement: Select[Any], now: int) -> Select[Any]:
    return statement.where(or_(files.c.expires_at.is_(None), files.c.expires_at > now))


def _file(row: Sequence[Any]) -> File:
    return File(
        id=row[0],
        created_at=timestamp(row[1]),
        filename=row[2],
        mime_type=row[3],
        size_bytes=row[4],
        downloadable=bool(row[5]),
        scope=FileScope(id=row[6]) if row[6] is not None else UNSET,
        expires_at=timestamp(row[7]) if row[7] is not None else UNSET,
    )


def _mime_type(upload: Upload) -> str:
    sent = (upload.mime_type or "").split(";")[0].strip().lower()
    if _MIME.fullmatch(sent):
        return sent
    guessed, _ = mimetypes.guess_type(upload.filename or "")
    return guessed or "application/octet-stream"


def _filename(sent: str | None, mime_type: str) -> str:
    """The last path component of the name that was sent, or `unnamed` with an extension for the type."""
    name = re.split(r"[/\\]", sent or "")[-1]
    if name in ("", ".", ".."):
        return "unnamed" + (mimetypes.guess_extension(mime_type) or "")
    if len(name) > 255 or _FORBIDDEN.search(name):
        raise InvalidRequest('file: the filename must be 1 to 255 characters, without any of <>:"|?*\\/ or controls')
    return name
