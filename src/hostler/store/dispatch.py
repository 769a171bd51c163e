"""The dispatcher port: who works on which session, and when. It must not know what the work is.

A wake-up is a hint and may be lost: `wake_at` on the session's row is the truth, and a sweep finds every session whose
time has come and that nobody holds. A lease carries a fencing token; each append of its holder must show it, so a
holder that froze and was replaced can write nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
from sqlalchemy import Table, and_, bindparam, or_, select, update

from hostler import clock
from hostler.errors import Unavailable
from hostler.ids import new_id
from hostler.store.sql import Many, Tx
from hostler.store.store import Store
from hostler.store.tables import sessions

log = logging.getLogger(__name__)

LEASE_SECONDS = 30
SWEEP_SECONDS = 5.0
SWEEP_LIMIT = 1000
MORE_SECONDS = 0.2


class Lease(msgspec.Struct, frozen=True):
    """The right to write to one session, or task, until somebody with a higher token comes."""

    session_id: str
    token: int


class Dispatcher(Protocol):
    """Hands sessions that need work to workers. At scale another implementation stands behind the same verbs."""

    def wake(self, session_id: str) -> None:
        """Hint that a session needs a worker now. Call it after the commit that set `wake_at`."""
        ...

    def wakes(self) -> AsyncIterator[str]:
        """The sessions that may need work, as hints come in and sweeps find them. A session may come more than once."""
        ...

    async def claim(self, session_id: str, *, again: bool = False) -> Lease | None:
        """Take a session. None when it needs no work now, or somebody holds it. `again` also takes what this process
        itself holds and works on no more, for it could not write that it let go."""
        ...

    async def heartbeat(self, leases: list[Lease]) -> None:
        """Keep these leases alive. One that is not kept ends by itself, and the next sweep finds its session. Called
        with none, too: it writes, and so finds out when the database is no longer this process's own."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give a session back. What still waits in it is found again by the next sweep, or by a hint."""
        ...

    async def schedule(self, lease: Lease, at: int) -> None:
        """Give a session back, to be worked on again from `at` (microseconds) on."""
        ...


class _Statements:
    """What is asked of a table whose rows are worked on: it has `id`, `wake_at`, `fence`, the lease's two columns."""

    def __init__(self, table: Table) -> None:
        c = table.c
        now = bindparam("now", type_=c.wake_at.type)
        free = or_(c.lease_owner.is_(None), c.lease_until < now)
        mine = and_(c.id == bindparam("s"), c.fence == bindparam("token"))
        let_go: dict[str, Any] = {"lease_owner": None, "lease_until": None}
        self.claim = (
            update(table)
            .where(c.id == bindparam("s"), c.wake_at <= now, or_(free, c.lease_owner == bindparam("mine")))
            .values(fence=c.fence + 1, lease_owner=bindparam("owner"), lease_until=bindparam("until"))
            .returning(c.fence)
        )
        self.due = select(c.id).where(c.wake_at <= now, free).order_by(c.wake_at).limit(SWEEP_LIMIT)
        self.next = select(c.wake_at).where(c.wake_at > bindparam("now")).order_by(c.wake_at).limit(1)
        self.extend = update(table).where(mine).values(lease_until=bindparam("until"))
        self.release = update(table).where(mine).values(let_go)
        self.schedule = update(table).where(mine).values(wake_at=bindparam("at"), **let_go)
        self.void = update(table).where(c.lease_owner.is_not(None)).values(let_go)


class EmbeddedDispatcher:
    """The dispatcher of one process that owns its database: a queue of hints, and a sweep for all that was missed."""

    def __init__(self, store: Store, table: Table = sessions) -> None:
        self._store = store
        self._sql = _Statements(table)
        self._owner = new_id("wrkr")
        self._hints: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._owned = False

    def wake(self, session_id: str) -> None:
        if session_id not in self._waiting:
            self._waiting.add(session_id)
            self._hints.put_nowait(session_id)

    async def wakes(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        sweep_at = loop.time()
        while True:
            if loop.time() >= sweep_at:
                sweep_at = loop.time() + await self._sweep()
            try:
                async with asyncio.timeout_at(sweep_at):
                    session_id = await self._hints.get()
            except TimeoutError:
                continue
            self._waiting.discard(session_id)
            yield session_id

    async def claim(self, session_id: str, *, again: bool = False) -> Lease | None:
        now = clock.now()
        mine = self._owner if again else None
        params = {"s": session_id, "now": now, "owner": self._owner, "mine": mine, "until": _until(now)}
        rows = await self._store.write(lambda: _run(self._sql.claim, params))
        return Lease(session_id, rows[0][0]) if rows else None

    async def heartbeat(self, leases: list[Lease]) -> None:
        until = _until(clock.now())

        def tx() -> Tx[None]:
            yield Many(self._sql.extend, [_mine(lease, until=until) for lease in leases])

        await self._store.write(tx)

    async def release(self, lease: Lease) -> None:
        await self._store.write(lambda: _run(self._sql.release, _mine(lease)))

    async def schedule(self, lease: Lease, at: int) -> None:
        await self._store.write(lambda: _run(self._sql.schedule, _mine(lease, at=at)))

    async def _sweep(self) -> float:
        """Wake every session that is due and free; return the seconds until the next sweep."""
        now = clock.now()
        try:
            if not self._owned:
                # Whoever held a lease is dead: this process owns the database.
                await self._store.write(lambda: _run(self._sql.void))
                self._owned = True
            due = await self._store.read(lambda: _run(self._sql.due, {"now": now}))
            rows = await self._store.read(lambda: _run(self._sql.next, {"now": now}))
        except Unavailable as problem:
            log.warning("sessions that are due could not be looked for: %s", problem)
            return SWEEP_SECONDS
        for (session_id,) in due:
            self.wake(session_id)
        if len(due) == SWEEP_LIMIT:
            return MORE_SECONDS  # there may be more of them, as after a crash with many running
        return min(SWEEP_SECONDS, (rows[0][0] - now) / 1e6) if rows else SWEEP_SECONDS


def _mine(lease: Lease, **more: int) -> dict[str, Any]:
    return {"s": lease.session_id, "token": lease.token, **more}


def _until(now: int) -> int:
    return now + LEASE_SECONDS * 1_000_000


def _run(statement: object, params: dict[str, object] | None = None) -> Tx[list[Any]]:
    rows = yield statement, params or {}  # type: ignore[misc]
    return list(rows)
