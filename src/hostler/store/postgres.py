"""The store on PostgreSQL through asyncpg: one writing connection that commits in groups, a pool to read. It must not
know any table.

One server process owns the database: the writing connection holds an advisory lock for as long as it lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from hostler.errors import Unavailable
from hostler.store.migrations import MIGRATIONS, SCHEMA_TABLE
from hostler.store.sql import Many, Request, Row, Tx, compiled, split
from hostler.store.store import GROUP_LIMIT, AlreadyOpen, Duplicate, Pending, Spoilt, StoreClosed

log = logging.getLogger(__name__)

T = TypeVar("T")
POSTGRES = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
READERS = 8
SNAPSHOT: dict[str, Any] = {"isolation": "repeatable_read", "readonly": True}  # as SQLite reads: all as of one moment
OWNER_LOCK = 0x686F73746C6572  # "hostler"
RECONNECT_SECONDS = 0.5
CONNECT_SECONDS = 10.0
# A connection that is cut may also show as InternalClientError, which is of no family.
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class PostgresStore:
    """See `store.Store`. Open it with `await PostgresStore.open(url)`."""

    def __init__(self, url: str, owner: bool, writer: asyncpg.Connection, readers: asyncpg.Pool) -> None:
        self._url = url
        self._owner = owner
        self._connection = writer
        self._readers = readers
        self._queue: asyncio.Queue[Pending[Any] | None] = asyncio.Queue()
        self._closed = False
        self._writer = asyncio.create_task(self._write_loop(), name="store-write")

    @classmethod
    async def open(cls, url: str, *, now: int, owner: bool = True) -> PostgresStore:
        """Connect, take the owner's lock and bring the schema up to date; `now` (microseconds) stamps the
        migrations."""
        try:
            writer = await _connect(url, owner)
            await _migrate(writer, now)
            return cls(url, owner, writer, await asyncpg.create_pool(url, min_size=1, max_size=READERS, reset=_leave))
        except LOST as error:
            raise _translate(error) from error
        except ValueError as error:  # without its words, which may quote the password
            raise Unavailable("The --database URL is not a valid postgresql:// URL.") from error

    async def write(self, tx: Callable[[], Tx[T]], then: Callable[[T], None] | None = None) -> T:
        if self._closed:
            raise StoreClosed
        pending: Pending[T] = Pending(tx, then, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(pending)
        return await pending.future

    async def read(self, tx: Callable[[], Tx[T]]) -> T:
        if self._closed:
            raise StoreClosed
        try:
            async with self._readers.acquire() as connection, connection.transaction(**SNAPSHOT):
                return await _drive(tx, _Runner(connection))
        except LOST as error:
            raise _translate(error) from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)
            await self._writer
            await self._readers.close()
            await self._connection.close()

    async def _write_loop(self) -> None:
        while (first := await self._queue.get()) is not None:
            group = [first]
            while len(group) < GROUP_LIMIT and not self._queue.empty():
                if (more := self._queue.get_nowait()) is None:
                    self._queue.put_nowait(None)
                    break
                group.append(more)
            await self._commit(group)
            for pending in group:
                pending.settle()

    async def _commit(self, group: list[Pending[Any]]) -> None:
        try:
            await self._run_together(group)
        except Spoilt:
            for pending in group:
                with contextlib.suppress(Spoilt):
                    await self._run_together([pending])
        except Exception as error:  # a fault of ours; the writer must outlive it, and nobody may wait for ever
            log.exception("a group of %d writes failed", len(group))
            for pending in group:
                pending.error = error

    async def _run_together(self, group: list[Pending[Any]]) -> None:
        """Run a group in one transaction; each member ends with a value or an error. Raises Spoilt after a rollback."""
        try:
            await self._revive()
            async with self._connection.transaction():
                for pending in group:
                    await self._run(pending)
        except Spoilt:
            raise
        except (*LOST, AlreadyOpen) as error:
            if isinstance(error, asyncpg.InternalClientError):
                self._connection.terminate()  # it may not know that it is lost
            for pending in group:
                pending.error = _translate(error)

    async def _run(self, pending: Pending[Any]) -> None:
        runner = _Runner(self._connection)
        pending.error = None
        try:
            pending.value = await _drive(pending.tx, runner)
        except Exception as error:
            if self._connection.is_closed():
                raise
            pending.error = _translate(error)
            # PostgreSQL ends the whole transaction at an error of its own.
            if runner.wrote or isinstance(error, asyncpg.PostgresError):
                raise Spoilt from error

    async def _revive(self) -> None:
        """Replace a lost writing connection. Its lock is gone with it, so another owner may have come: then refuse."""
        if self._connection.is_closed():
            await asyncio.sleep(RECONNECT_SECONDS)
            self._connection = await _connect(self._url, self._owner)


class _Runner:
    """Executes the statements of one transaction and remembers whether any of them may have written."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.wrote = False

    async def __call__(self, request: Request) -> list[Row]:
        if isinstance(request, Many):
            many = compiled(request.statement, POSTGRES)
            self.wrote = True
            await self._connection.executemany(many.sql, [many.args(params) for params in request.params])
            return []
        statement, params = split(request)
        one = compiled(statement, POSTGRES)
        self.wrote = self.wrote or one.writes
        rows: list[Row] = await self._connection.fetch(one.sql, *one.args(params))
        return rows


async def _drive(tx: Callable[[], Tx[T]], run: _Runner) -> T:
    steps = tx()
    try:
        request = next(steps)
        while True:
            request = steps.send(await run(request))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


async def _leave(connection: asyncpg.Connection) -> None:
    """A reader has nothing to be reset, for it sets nothing: that saves a round trip for each read."""


async def _connect(url: str, owner: bool) -> asyncpg.Connection:
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    if owner and not await connection.fetchval("SELECT pg_try_advisory_lock($1)", OWNER_LOCK):
        await connection.close()
        raise AlreadyOpen
    return connection


async def _migrate(connection: asyncpg.Connection, now: int) -> None:
    await connection.execute(SCHEMA_TABLE)
    if not await _pending(connection):
        return
    async with connection.transaction():  # one for all: an upgrade is whole
        await connection.execute("LOCK TABLE schema_migrations IN EXCLUSIVE MODE")
        for name in await _pending(connection):  # again: another process may have been first
            for statement in MIGRATIONS[name]:
                await connection.execute(statement.replace("BYTES", "BYTEA"))
            await connection.execute("INSERT INTO schema_migrations (id, applied_at) VALUES ($1, $2)", name, now)


async def _pending(connection: asyncpg.Connection) -> list[str]:
    done = {row[0] for row in await connection.fetch("SELECT id FROM schema_migrations")}
    return [name for name in MIGRATIONS if name not in done]


def _translate(error: Exception) -> Exception:
    if isinstance(error, asyncpg.UniqueViolationError):
        return Duplicate(str(error))
    if isinstance(error, LOST):
        return Unavailable(f"The PostgreSQL database can't be used: {error}. Check that it runs and has free space.")
    return error
