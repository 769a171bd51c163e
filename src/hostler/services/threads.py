"""Threads of a session: the primary one, which every session has, and those that its coordinator opened.

It must not run them: a thread is opened by the harness, and here only shown and archived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, select, update

from hostler import clock
from hostler.errors import InvalidRequest
from hostler.harness.crossposts import crossposted
from hostler.log.append import append_tx
from hostler.log.entries import COLUMNS, Consume, Draft, Entry, Item
from hostler.log.log import Log
from hostler.services.events import missing_thread
from hostler.services.paging import BAD_CURSOR, Cursor, read_cursor
from hostler.services.reading import first, rows
from hostler.services.session_rows import find_tx
from hostler.services.snapshots import SessionRow, primary_thread
from hostler.services.thread_rows import StoredThread, shown, threads_tx
from hostler.store.sql import Tx
from hostler.store.tables import QUEUED, entries, sessions, threads
from hostler.wire.threads import SessionThread

_ARCHIVE = (
    update(threads)
    .where(threads.c.session_id == bindparam("s"), threads.c.id == bindparam("t"))
    .values(archived_at=bindparam("now"), updated_at=bindparam("now"), status="terminated")
)
_WAITING = (
    select(*COLUMNS)
    .where(
        entries.c.session_id == bindparam("s"),
        entries.c.thread_id == bindparam("t"),
        entries.c.position >= bindparam("q"),
    )
    .order_by(entries.c.position)
)
_PENDING = select(sessions.c.pending).where(sessions.c.id == bindparam("s"))
_LAST_IDLE = (
    select(entries.c.body)
    .where(
        entries.c.session_id == bindparam("s"),
        entries.c.thread_id == bindparam("t"),
        entries.c.type == "session.thread_status_idle",
    )
    .order_by(entries.c.seq.desc())
    .limit(1)
)


class Threaded(NamedTuple):
    data: list[SessionThread]
    next_page: str | None


class Threads:
    def __init__(self, log: Log, wake: Callable[[str], None]) -> None:
        self._log = log
        self._store = log.store
        self._wake = wake

    async def list(self, session_id: str, statuses: Sequence[str], *, limit: int, page: str | None) -> Threaded:
        """One page of the threads in order of creation, the primary one first."""
        cursor = read_cursor(page, "asc")
        found = await self._store.read(lambda: _all_tx(session_id))
        if cursor is not None:
            place = next((at for at, thread in enumerate(found) if thread.id == cursor.id), None)
            if place is None:
                raise InvalidRequest(BAD_CURSOR)
            found = found[place + 1 :]
        wanted = [thread for thread in found if not statuses or thread.status in statuses]
        shown = wanted[:limit]
        return Threaded(shown, Cursor("asc", 0, shown[-1].id).encode() if len(wanted) > limit else None)

    async def retrieve(self, session_id: str, thread_id: str) -> SessionThread:
        return _find(await self._store.read(lambda: _all_tx(session_id)), thread_id)

    async def archive(self, session_id: str, thread_id: str) -> SessionThread:
        """End a child thread that is idle, for good; what it waited for, and what waits for it, is dropped. Archiving
        again changes nothing."""
        now = clock.now()

        def tx() -> Tx[list[Entry]]:
            row = yield from find_tx(session_id)
            stored = yield from threads_tx(session_id, row.agent)
            thread = _archivable(row, stored, thread_id)
            if thread.ended:
                return []
            yield _ARCHIVE, {"s": session_id, "t": thread_id, "now": now}
            pending = yield from _pending_tx(session_id, thread_id)
            end = Draft(
                type="session.thread_status_terminated",
                fields={"agent_name": thread.name, "session_thread_id": thread_id},
                thread_id=thread_id,
            )
            waiting = yield from rows(_WAITING, {"s": session_id, "t": thread_id, "q": QUEUED})
            items: list[Item] = [*(Consume(Entry(*entry)) for entry in waiting), end]
            placed = crossposted(items, thread_id, row.thread_id)
            written = yield from append_tx(session_id, row.thread_id, placed, now=now, patch={"pending": pending})
            return written.entries

        def then(written: list[Entry]) -> None:
            self._log.hub.publish(session_id, written)
            self._wake(session_id)

        await self._store.write(tx, then)
        return await self.retrieve(session_id, thread_id)


def _all_tx(session_id: str) -> Tx[list[SessionThread]]:
    row = yield from find_tx(session_id)
    stored = yield from threads_tx(session_id, row.agent)
    now = clock.now()
    return [shown(row, thread, now) for thread in stored] or [primary_thread(row)]


def _find(found: list[SessionThread], thread_id: str) -> SessionThread:
    for thread in found:
        if thread.id == thread_id:
            return thread
    raise missing_thread(thread_id)


def _archivable(session: SessionRow, stored: Sequence[StoredThread], thread_id: str) -> StoredThread:
    if thread_id == session.thread_id:
        raise InvalidRequest(f"Session thread {thread_id} is the primary thread and can't be archived.")
    thread = next((thread for thread in stored if thread.id == thread_id), None)
    if thread is None:
        raise missing_thread(thread_id)
    if thread.status in ("running", "rescheduling"):
        raise InvalidRequest(
            f"Session thread {thread_id} can't be archived while it is {thread.status}. "
            "Send it an interrupt or wait until it is idle."
        )
    return thread


def _pending_tx(session_id: str, thread_id: str) -> Tx[bytes]:
    """The tool uses that clients must still answer once this thread is gone."""
    idle = yield from first(_LAST_IDLE, {"s": session_id, "t": thread_id})
    gone = msgspec.json.decode(idle[0])["stop_reason"].get("event_ids", []) if idle else []
    row = yield from first(_PENDING, {"s": session_id})
    pending = msgspec.json.decode(row[0]) if row else []
    return msgspec.json.encode([event_id for event_id in pending if event_id not in gone])
