"""A tenant's data in a PostgreSQL database of its own. It must not know another tenant.

Each statement is a transaction of its own. Where the connection is lost while one commits, the database is asked
whether it did: nothing is done twice, and nothing is told as done that was not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import asyncpg

from hostler.errors import HostlerError, NotFound, Unavailable
from hostler.runbooks.cells import JsonText
from hostler.runbooks.dataplane import contents
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.dialect import verb_of
from hostler.runbooks.dataplane.lexing import parse
from hostler.runbooks.dataplane.ownership import prepare
from hostler.runbooks.dataplane.problems import InDoubt, NotOpened, SqlFailed, TooMuch
from hostler.runbooks.dataplane.records import CHUNK, Document, Result, StoredDocument, Wanted

T = TypeVar("T")
CONNECT_SECONDS = 10.0
_DOUBT_SECONDS = 30.0
_ROLLBACK_SECONDS = 5.0
_BATCH = 1000
_CELL = 64
# Classes 08 (connection), 53 (resources), 57P (shutdown), 58 (system), and conflicts between transactions.
_LOST_STATES = ("08", "53", "57P", "58", "40001", "40P01")


class PostgresPlace:
    """See `records.Place`. Open it with `await PostgresPlace.open(url, tenant, config, make=...)`."""

    def __init__(self, pool: asyncpg.Pool, config: DataPlaneConfig) -> None:
        self._pool = pool
        self._config = config

    @classmethod
    async def open(cls, url: str, tenant: str, config: DataPlaneConfig, *, make: bool) -> PostgresPlace:
        """Connect, make the database where it is missing and may be made, and the tables that it lacks."""
        try:
            pool = await _connect(url, config, make)
            try:
                async with pool.acquire() as connection:
                    await prepare(connection, tenant)
            except BaseException:
                pool.terminate()
                raise
        except Exception as error:
            raise told(error) from error
        return cls(pool, config)

    async def insert(self, document: Document, content: Path) -> StoredDocument:
        return await self._transaction(lambda connection: contents.insert(connection, document, content))

    async def document(self, document_id: str) -> StoredDocument | None:
        return await self._transaction(lambda connection: contents.find(connection, document_id))

    async def documents(self, wanted: Wanted) -> list[StoredDocument]:
        return await self._transaction(lambda connection: contents.listed(connection, wanted))

    async def content(self, document_id: str) -> AsyncGenerator[bytes, None]:
        """In a statement for each chunk: no connection is held while somebody reads slowly."""
        at = 0
        while True:
            data = await self._transaction(partial(contents.piece, document_id=document_id, at=at, size=CHUNK))
            if data is None:
                raise NotFound(f"There is no document {document_id}.")
            if not data:
                return
            yield data
            at += len(data)

    async def run(self, sql: str, args: list[Any], limit: int | None = None) -> Result:
        verb_of(parse(sql))

        async def work(connection: asyncpg.Connection) -> Result:
            statement = await connection.prepare(sql)
            if (wanted := len(statement.get_parameters())) != len(args):
                raise SqlFailed(f"the statement has {wanted} parameters, and {len(args)} arguments came", "08P01")
            columns = [attribute.name for attribute in statement.get_attributes()]
            if not columns:
                await statement.fetch(*args)
                return Result([], [], statement.get_statusmsg())
            rows = await self._rows(statement, args, limit)
            return Result(columns, rows, statement.get_statusmsg() or "")

        return await self._transaction(work)

    async def _rows(self, statement: Any, args: list[Any], limit: int | None) -> list[list[Any]]:
        """A few at a time: what is too much is found out before all of it is here."""
        most = self._config.result_mb * 1024 * 1024
        cursor = await statement.cursor(*args)
        rows: list[list[Any]] = []
        size, count = 0, 4
        while limit is None or len(rows) < limit:
            batch = await cursor.fetch(count if limit is None else limit - len(rows))
            if not batch:
                break
            rows += [list(row.values()) for row in batch]
            size += sum(len(v) + _CELL if isinstance(v, str | bytes) else _CELL for row in batch for v in row.values())
            if size > most:
                raise TooMuch(f"The statement gives more than {self._config.result_mb} MiB; ask for less at a time.")
            count = max(1, min(2 * count, _BATCH, 4 * CHUNK * len(rows) // size))
        return rows

    async def aclose(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._pool.close()
                return
        self._pool.terminate()

    async def _transaction(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Raises Unavailable where nothing was done, InDoubt where nobody can tell."""
        seconds = self._config.statement_seconds
        committing: str | None = None
        try:
            async with asyncio.timeout(seconds + CONNECT_SECONDS), self._pool.acquire() as connection:
                await connection.execute(f"BEGIN; SET LOCAL statement_timeout = {int(seconds * 1000)}")
                try:
                    value = await work(connection)
                    written = await connection.fetchval("SELECT pg_current_xact_id_if_assigned()::text")
                    committing = str(written or "")
                    await connection.execute("COMMIT")
                    return value
                except BaseException:
                    await _rolled_back(connection)
                    raise
        except Exception as error:
            problem = told(error)
            if not committing or not isinstance(problem, Unavailable):
                raise problem from error
        if await self._committed(committing):
            return value
        raise Unavailable("The database was lost before it had committed.")

    async def _committed(self, transaction: str) -> bool:
        """Ask until the database is there again. Raises InDoubt."""
        deadline = asyncio.get_running_loop().time() + max(self._config.wait_seconds, _DOUBT_SECONDS)
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with asyncio.timeout(CONNECT_SECONDS), self._pool.acquire() as connection:
                    status = await connection.fetchval("SELECT pg_xact_status($1::text::xid8)", transaction)
            except Exception as error:
                if not isinstance(told(error), Unavailable):
                    break
                status = "in progress"
            if status in ("committed", "aborted"):
                return bool(status == "committed")
            if status is None:
                break
            await asyncio.sleep(0.5)
        raise InDoubt


async def _rolled_back(connection: asyncpg.Connection) -> None:
    """So, or without the connection."""
    try:
        await connection.execute("ROLLBACK", timeout=_ROLLBACK_SECONDS)
    except (Exception, asyncio.CancelledError):
        connection.terminate()


async def _connect(url: str, config: DataPlaneConfig, make: bool) -> asyncpg.Pool:
    try:
        return await _pool(url, config)
    except asyncpg.InvalidCatalogNameError:
        if not make:
            raise
    name = unquote(urlsplit(url).path.lstrip("/"))
    connection = await asyncpg.connect(url, database="postgres", timeout=CONNECT_SECONDS)
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            quoted = name.replace('"', '""')
            await connection.execute(f'CREATE DATABASE "{quoted}"')
    finally:
        await connection.close()
    return await _pool(url, config)


async def _pool(url: str, config: DataPlaneConfig) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=config.tenant_connections,
        timeout=CONNECT_SECONDS,
        statement_cache_size=0,  # tables may change under a cached plan, and poolers don't keep one
        init=_types,
        server_settings={"application_name": "hostler-data-plane", "timezone": "UTC"},
    )


async def _types(connection: asyncpg.Connection) -> None:
    """JSON stays text, as the driver has it, and is marked as such; a runbook may give it as values as well."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=_json, decoder=JsonText, schema="pg_catalog")


def _json(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, default=str)


def told(error: Exception) -> Exception:
    """The error, as one of ours."""
    if isinstance(error, HostlerError):
        return error
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return NotOpened("There is no such database; make it, or name it with {tenant} in the URL to have it made.")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return NotOpened("The database refuses the name or the password of the data plane's URL.")
    if type(error) is asyncpg.DataError or isinstance(error, ValueError):  # the driver's own, of an argument
        return SqlFailed(str(error), "22P02")
    if isinstance(error, asyncpg.QueryCanceledError):
        return SqlFailed("The statement has taken longer than it may.", "57014")
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", "") or "XX000")
        if not state.startswith(_LOST_STATES) or state == "08P01":
            return SqlFailed(str(error), state)
    lost = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
    if isinstance(error, lost):
        return Unavailable(f"The database of this tenant can't be reached: {type(error).__name__}.")
    return error
