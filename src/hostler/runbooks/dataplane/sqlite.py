"""A tenant's data in SQLite files of a folder of its own, one for each schema. It must not know another tenant.

Statements run in threads. Writing ones take turns; all are transactions of their own, and a commit is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from hostler.errors import NotFound, Unavailable
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.dialect import Translated, translate
from hostler.runbooks.dataplane.functions import Functions, bound, guessed, register_types
from hostler.runbooks.dataplane.guarding import Guard
from hostler.runbooks.dataplane.names import column_name
from hostler.runbooks.dataplane.problems import SqlFailed, TooMuch
from hostler.runbooks.dataplane.records import CHUNK, Document, Result, StoredDocument, Wanted, changed, unreadable
from hostler.runbooks.dataplane.schema import INDEXES, SCHEMAS, TABLES

T = TypeVar("T")
_PAGE = 16384  # documents are long: fewer, larger pages
_LOG_BYTES = 64 * 1024 * 1024  # what a long document leaves of the write-ahead log
_BATCH = 64
_READERS = 16  # of contents: each has a connection of its own for as long as it is read
_CELL = 64  # bytes that a value is counted with, however small
_COLUMNS = "id, entity_slug, source, filename, content_type, length(data_bytes), uploaded_at, sha256, period, task_id"
_INSERT = """INSERT INTO ingest.submitted_documents
    (id, entity_slug, period, source, filename, content_type, data_bytes, uploaded_at, task_id, sha256)
    VALUES (?, ?, ?, ?, ?, ?, zeroblob(?), ?, ?, ?)"""
_STATES = {
    "SQLITE_CONSTRAINT_UNIQUE": "23505",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "23505",
    "SQLITE_CONSTRAINT_NOTNULL": "23502",
    "SQLITE_CONSTRAINT_CHECK": "23514",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "23503",
    "SQLITE_AUTH": "42501",
}
_LOST = (
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_NOMEM",
)


class SqlitePlace:
    """See `records.Place`. Open it with `await SqlitePlace.open(folder, config)`."""

    def __init__(self, folder: Path, config: DataPlaneConfig) -> None:
        self._folder = folder
        self._config = config
        self._idle: list[_Session] = []
        self._turns = asyncio.Semaphore(config.tenant_connections)
        self._closed = False
        self._readers = asyncio.Semaphore(_READERS)
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, folder: Path, config: DataPlaneConfig) -> SqlitePlace:
        register_types()
        place = cls(folder, config)
        await place._work(_set_up, writes=True)
        return place

    async def insert(self, document: Document, content: Path) -> StoredDocument:
        return await self._work(lambda session: _insert(session, document, content), writes=True)

    async def document(self, document_id: str) -> StoredDocument | None:
        return await self._work(lambda session: _find(session, document_id))

    async def documents(self, wanted: Wanted) -> list[StoredDocument]:
        return await self._work(lambda session: _list(session, wanted))

    async def content(self, document_id: str) -> AsyncGenerator[bytes, None]:
        """Of one state of the database, whatever happens meanwhile."""
        async with self._readers:
            session = await self._opened()
            try:
                blob = await asyncio.to_thread(_blob, session, document_id)
                while data := await asyncio.to_thread(blob.read, CHUNK):
                    yield data
            except sqlite3.Error as error:
                raise session.told(error) from error
            finally:
                await asyncio.shield(asyncio.to_thread(session.close))

    async def run(self, sql: str, args: list[Any], limit: int | None = None) -> Result:
        statement = translate(sql)
        try:
            given = [bound(value) for value in args]
        except TypeError as error:
            raise SqlFailed(str(error), "22023") from None
        if len(given) != statement.params:
            raise SqlFailed(
                f"the statement has {statement.params} parameters, and {len(given)} arguments came", "08P01"
            )
        return await self._work(lambda session: session.run(statement, given, limit), writes=statement.writes)

    async def aclose(self) -> None:
        self._closed = True
        while self._idle:
            await asyncio.to_thread(self._idle.pop().close)

    async def _work(self, work: Callable[[_Session], T], *, writes: bool = False) -> T:
        """Do it in a thread with a connection of its own. Cancelled, it waits for the statement to give up."""
        async with self._writing if writes else contextlib.nullcontext(), self._turns:
            session = self._idle.pop() if self._idle else await self._opened()
            done = asyncio.ensure_future(asyncio.to_thread(session.do, work, writes))
            try:
                return await asyncio.shield(done)
            finally:
                while not done.done():
                    session.guard.stop()
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait([done])
                done.exception()  # whoever was cancelled has no use for it
                if self._closed:
                    await asyncio.to_thread(session.close)
                else:
                    self._idle.append(session)

    async def _opened(self) -> _Session:
        try:
            return await asyncio.to_thread(_Session, self._folder, self._config)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"The data of this tenant can't be opened: {error}.") from error


class _Session:
    """One connection. It is used by one thread at a time."""

    def __init__(self, folder: Path, config: DataPlaneConfig) -> None:
        self._config = config
        self.guard = Guard()
        self.functions = Functions()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = {"main": folder / "public.db", **{name: folder / f"{name}.db" for name in SCHEMAS}}
        for file in files.values():  # SQLite gives its other files the mode of these
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.db = sqlite3.connect(
            files["main"], isolation_level=None, check_same_thread=False, detect_types=sqlite3.PARSE_DECLTYPES
        )
        try:
            self._prepare(files)
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, files: dict[str, Path]) -> None:
        self.db.execute("PRAGMA busy_timeout = 5000")
        for name, file in files.items():
            if name != "main":
                self.db.execute(f"ATTACH ? AS {name}", (str(file),))
            self.db.execute(f"PRAGMA {name}.page_size = {_PAGE}")
            self.db.execute(f"PRAGMA {name}.journal_mode = WAL")
            self.db.execute(f"PRAGMA {name}.synchronous = FULL")
            self.db.execute(f"PRAGMA {name}.cache_size = -4000")
            self.db.execute(f"PRAGMA {name}.journal_size_limit = {_LOG_BYTES}")
        self.db.text_factory = guessed
        self.functions.register(self.db)
        self.guard.install(self.db)

    def do(self, work: Callable[[_Session], T], writes: bool) -> T:
        """Run it in one transaction."""
        self.guard.trust(True)
        self.guard.begin(self._config.statement_seconds)
        self.functions.begin()
        try:
            self.db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            value = work(self)
            self.guard.trust(True)
            self.db.execute("COMMIT")
            return value
        except sqlite3.Error as error:
            raise self.told(error) from error
        finally:
            self.guard.trust(True)
            self.guard.begin(self._config.statement_seconds)
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def run(self, statement: Translated, args: list[Any], limit: int | None) -> Result:
        self.guard.trust(False)
        most = self._config.result_mb * 1024 * 1024
        self.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)
        try:
            before = self.db.total_changes
            cursor = self.db.execute(statement.sql, args)
            columns = [column_name(each[0]) for each in cursor.description or ()]
            rows = list(islice(self._rows(cursor, most), limit))
            cursor.close()  # nothing is committed under an open one
            return Result(columns, rows, _status(statement, self.db.total_changes - before, len(rows)))
        except (ValueError, OverflowError) as error:
            raise SqlFailed(f"an argument can't be stored: {error}", "22021") from None
        finally:
            self.guard.trust(True)
            self.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2**31 - 1)

    def _rows(self, cursor: sqlite3.Cursor, most: int) -> Iterator[list[Any]]:
        size = 0
        while batch := cursor.fetchmany(_BATCH):
            for row in batch:
                size += sum(len(value) + _CELL if isinstance(value, str | bytes) else _CELL for value in row)
                yield list(row)
            if size > most:
                raise TooMuch(f"The statement gives more than {self._config.result_mb} MiB; ask for less at a time.")

    def told(self, error: sqlite3.Error) -> Exception:
        """The error, in PostgreSQL's terms."""
        name = str(getattr(error, "sqlite_errorname", ""))
        text = str(error)
        if name == "SQLITE_INTERRUPT":
            seconds = self._config.statement_seconds
            return SqlFailed(f"The statement has taken longer than {seconds:g} seconds.", "57014")
        if "string or blob too big" in text or name == "SQLITE_TOOBIG":
            return TooMuch(f"A value has more than {self._config.result_mb} MiB.")
        if name.startswith(_LOST):
            return Unavailable(f"The data of this tenant can't be used: {text}. Check free space and permissions.")
        if self.functions.problem is not None:
            return SqlFailed(self.functions.problem, "22P02")
        state = _STATES.get(
            name, "42P01" if "no such table" in text else "42703" if "no such column" in text else "42601"
        )
        return SqlFailed(f"{text} (on SQLite, which knows a part of PostgreSQL's SQL)", state)

    def close(self) -> None:
        self.db.close()


def _status(statement: Translated, changed: int, rows: int) -> str:
    if statement.verb == "INSERT":
        return f"INSERT 0 {changed}"
    if statement.verb in ("UPDATE", "DELETE"):
        return f"{statement.verb} {changed}"
    return f"SELECT {rows}" if statement.tag in ("SELECT", "VALUES", "WITH") else statement.tag


def _set_up(session: _Session) -> None:
    for statement in (*TABLES.values(), *INDEXES.values()):
        session.db.execute(translate(statement).sql)


# -- documents --


def _stored(row: Any) -> StoredDocument:
    document_id, entity_slug, source, filename, content_type, size, uploaded_at, sha256, period, task_id = row
    assert isinstance(uploaded_at, datetime)
    return StoredDocument(
        id=str(document_id),
        entity_slug=entity_slug,
        source=source,
        filename=filename,
        content_type=content_type,
        size=size,
        uploaded_at=uploaded_at,
        sha256=sha256,
        period=period,
        task_id=task_id,
    )


def _find(session: _Session, document_id: str) -> StoredDocument | None:
    sql = f"SELECT {_COLUMNS} FROM ingest.submitted_documents WHERE id = ?"
    row = session.db.execute(sql, (str(uuid.UUID(document_id)),)).fetchone()
    return None if row is None else _stored(row)


def _list(session: _Session, wanted: Wanted) -> list[StoredDocument]:
    clauses, args = ["1"], []
    for column in ("task_id", "entity_slug", "period"):
        if (value := getattr(wanted, column)) is not None:
            clauses.append(f"{column} = ?")
            args.append(value)
    if wanted.source_prefix is not None:
        clauses.append("substr(source, 1, ?) = ?")
        args += [len(wanted.source_prefix), wanted.source_prefix]
    sql = (
        f"SELECT {_COLUMNS} FROM ingest.submitted_documents WHERE {' AND '.join(clauses)} "
        "ORDER BY uploaded_at DESC, rowid DESC LIMIT ?"
    )
    return [_stored(row) for row in session.db.execute(sql, (*args, wanted.limit))]


def _insert(session: _Session, document: Document, content: Path) -> StoredDocument:
    """A row with as many zeros as the content is long, and then the content over them, in one transaction."""
    known = _find(session, document.id)
    if known is not None:
        return known
    row = (
        str(uuid.UUID(document.id)),
        document.entity_slug,
        document.period,
        document.source,
        document.filename,
        document.content_type,
        document.size,
        session.functions.now,
        document.task_id,
        document.sha256,
    )
    rowid = session.db.execute(_INSERT, row).lastrowid
    assert rowid is not None
    with session.db.blobopen("submitted_documents", "data_bytes", rowid, name="ingest") as blob:
        copy(content, document, blob.write)
    stored = _find(session, document.id)
    assert stored is not None
    return stored


def copy(content: Path, document: Document, write: Callable[[bytes], Any]) -> None:
    """Write the content in chunks. Raises InvalidRequest where it isn't what the document says."""
    digest, size = hashlib.sha256(), 0
    try:
        file = content.open("rb")
    except OSError as error:
        raise unreadable(document, error) from error
    with file:
        while data := file.read(CHUNK):
            size += len(data)
            if size > document.size:
                break
            digest.update(data)
            write(data)
    if size != document.size or digest.hexdigest() != document.sha256:
        raise changed(document)


def _blob(session: _Session, document_id: str) -> sqlite3.Blob:
    session.guard.begin(float("inf"))
    session.db.execute("BEGIN")
    sql = "SELECT rowid FROM ingest.submitted_documents WHERE id = ?"
    row = session.db.execute(sql, (str(uuid.UUID(document_id)),)).fetchone()
    if row is None:
        raise NotFound(f"There is no document {document_id}.")
    return session.db.blobopen("submitted_documents", "data_bytes", row[0], readonly=True, name="ingest")
