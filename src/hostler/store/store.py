"""What the house knows of its database: durable writes, reads, and nothing else. It must not know any table.

Writes are committed in groups: all transactions that wait are put into one commit, which is what makes durable appends
cheap. A write has happened, and is on disk, when `write` returns; until then it has not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from hostler.errors import HostlerError
from hostler.store.sql import Tx

log = logging.getLogger(__name__)
T = TypeVar("T")


class StoreClosed(Exception):
    """The store is closed; the process is ending."""


class AlreadyOpen(HostlerError):
    """Another server uses this database. Stop it, or give this one a data folder or database of its own."""


class Duplicate(Exception):
    """A unique index refused a row. Transactions that expect this use ON CONFLICT instead of catching it."""


class Store(Protocol):
    """One database. `tx` is a function that makes a transaction (see `sql.Tx`); what it raises is raised to the caller,
    and then nothing of it was written."""

    async def write(self, tx: Callable[[], Tx[T]], then: Callable[[T], None] | None = None) -> T:
        """Run a transaction and return its value once it is committed and on disk.

        `then` is called with the value, on the event loop, in the order of the commits and before any `write` of the
        group returns, even when the caller has been cancelled meanwhile. Raises `Unavailable` when the database can't
        be written (disk full, read-only, connection lost).
        """
        ...

    async def read(self, tx: Callable[[], Tx[T]]) -> T:
        """Run a transaction that only reads, beside the writer, on what was committed before. All of its statements see
        the same moment."""
        ...

    async def close(self) -> None:
        """Finish what waits, then close."""
        ...


class Pending(Generic[T]):
    """A write that waits for its group, and then its outcome."""

    def __init__(self, tx: Callable[[], Tx[T]], then: Callable[[T], None] | None, future: asyncio.Future[T]) -> None:
        self.tx = tx
        self.then = then
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Hand the outcome over; runs on the event loop."""
        if self.error is None and self.then is not None:
            try:
                self.then(self.value)
            except Exception:  # it is written all the same, and others wait for theirs
                log.exception("what was written could not be told of")
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class Spoilt(Exception):
    """A transaction failed after it had written: its group must be rolled back and each be run alone."""


GROUP_LIMIT = 512
