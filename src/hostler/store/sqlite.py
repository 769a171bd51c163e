"""The store on SQLite: one writer thread that commits in groups, a few reader threads beside it. It must not know any
table.

WAL lets readers go on while the writer commits; `synchronous=FULL` makes each commit an fsync, so a committed group
survives a power cut. SQLite 3.40 (Debian 12) is the oldest version to work with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from hostler.errors import Unavailable
from hostler.store.migrations import MIGRATIONS, SCHEMA_TABLE
from hostler.store.sql import Many, Request, Row, Tx, compiled, split
from hostler.store.store import GROUP_LIMIT, Duplicate, Pending, Spoilt, StoreClosed

log = logging.getLogger(__name__)

T = TypeVar("T")
SQLITE = SQLiteDialect_pysqlite(paramstyle="qmark")
READERS = 2


class SqliteStore:
    """See `store.Store`. Open it with `await SqliteStore.open(path)`."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._queue: queue.SimpleQueue[Pending[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, "store-read", initializer=self._open_reader)
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)

    @classmethod
    async def open(cls, path: Path, *, now: int) -> SqliteStore:
        """Open or make the database and bring its schema up to date; `now` (microseconds) stamps the migrations."""
        store = cls(path, asyncio.get_running_loop())
        try:
            await asyncio.to_thread(_migrate, path, now)
        except sqlite3.Error as error:
            raise _translate(error, path) from error
        store._writer.start()
        return store

    async def write(self, tx: Callable[[], Tx[T]], then: Callable[[T], None] | None = None) -> T:
        if self._closed:
            raise StoreClosed
        pending: Pending[T] = Pending(tx, then, self._loop.create_future())
        self._queue.put(pending)
        return await pending.future

    async def read(self, tx: Callable[[], Tx[T]]) -> T:
        if self._closed:
            raise StoreClosed
        return await self._loop.run_in_executor(self._readers, self._read, tx)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._writer.join)
            await asyncio.to_thread(self._readers.shutdown)

    # -- threads -------------------------------------------------------------------------------------------------

    def _open_reader(self) -> None:
        connection = _connect(self._path)
        connection.execute("PRAGMA query_only = 1")
        self._local.connection = connection

    def _read(self, tx: Callable[[], Tx[T]]) -> T:
        connection: sqlite3.Connection = self._local.connection
        connection.execute("BEGIN")
        try:
            return _drive(tx, _Runner(connection))
        except sqlite3.Error as error:
            raise _translate(error, self._path) from error
        finally:
            _roll_back(connection)  # nothing was written, and an error may have ended it already

    def _write_loop(self) -> None:
        connection = _connect(self._path)
        while (group := self._next_group()) is not None:
            self._commit(connection, group)
            # A closed loop is a process that ends: nobody waits for the outcome any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, group)
        connection.close()

    def _next_group(self) -> list[Pending[Any]] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP_LIMIT:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group.append(more)
        return group

    def _commit(self, connection: sqlite3.Connection, group: list[Pending[Any]]) -> None:
        try:
            self._run_together(connection, group)
        except Spoilt:
            for pending in group:
                with contextlib.suppress(Spoilt):
                    self._run_together(connection, [pending])
        except Exception as error:  # a fault of ours; the writer must outlive it, and nobody may wait for ever
            log.exception("a group of %d writes failed", len(group))
            for pending in group:
                pending.error = error

    def _run_together(self, connection: sqlite3.Connection, group: list[Pending[Any]]) -> None:
        """Run a group in one transaction; each member ends with a value or an error. Raises Spoilt after a rollback."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for pending in group:
                self._run(connection, pending)
            connection.execute("COMMIT")
        except Spoilt:
            _roll_back(connection)
            raise
        except sqlite3.Error as error:
            _roll_back(connection)
            for pending in group:
                pending.error = _translate(error, self._path)

    def _run(self, connection: sqlite3.Connection, pending: Pending[Any]) -> None:
        runner = _Runner(connection)
        pending.error = None
        try:
            pending.value = _drive(pending.tx, runner)
        except Exception as error:
            pending.error = _translate(error, self._path)
            # A full disk makes SQLite end the whole transaction by itself.
            if runner.wrote or not connection.in_transaction:
                raise Spoilt from error


class _Runner:
    """Executes the statements of one transaction and remembers whether any of them may have written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.wrote = False

    def __call__(self, request: Request) -> list[Row]:
        if isinstance(request, Many):
            many = compiled(request.statement, SQLITE)
            self.wrote = True
            self._connection.executemany(many.sql, [many.args(params) for params in request.params])
            return []
        statement, params = split(request)
        one = compiled(statement, SQLITE)
        before = self._connection.total_changes
        rows = self._connection.execute(one.sql, one.args(params)).fetchall()
        self.wrote = self.wrote or self._connection.total_changes != before
        return rows


def _drive(tx: Callable[[], Tx[T]], run: _Runner) -> T:
    steps = tx()
    try:
        request = next(steps)
        while True:
            request = steps.send(run(request))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


def _settle(group: Iterable[Pending[Any]]) -> None:
    for pending in group:
        pending.settle()


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA cache_size = -8000")
    return connection


def _migrate(path: Path, now: int) -> None:
    # SQLite gives its other files the mode of this one. The folder may be one that others can enter.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = _connect(path)
    try:
        connection.execute(SCHEMA_TABLE)
        if _pending(connection):
            connection.execute("BEGIN IMMEDIATE")  # one for all: an upgrade is whole, and waits for the disk once
            for name in _pending(connection):  # again: another process may have been first
                for statement in MIGRATIONS[name]:
                    connection.execute(statement.replace("BYTES", "BLOB"))
                connection.execute("INSERT INTO schema_migrations (id, applied_at) VALUES (?, ?)", (name, now))
            connection.execute("COMMIT")
    finally:
        connection.close()


def _pending(connection: sqlite3.Connection) -> list[str]:
    done = {row[0] for row in connection.execute("SELECT id FROM schema_migrations")}
    return [name for name in MIGRATIONS if name not in done]


def _translate(error: Exception, path: Path) -> Exception:
    if isinstance(error, sqlite3.IntegrityError):
        return Duplicate(str(error))
    if isinstance(error, sqlite3.Error):
        return Unavailable(f"The database {path.name} can't be used: {error}. Check free space and permissions.")
    return error
