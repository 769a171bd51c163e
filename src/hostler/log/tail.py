"""Follows one session's log live: what the hub hands out, or, after lagging, what the log holds since the last one
seen.

Each entry comes once queued (when it waits) and once consumed; nothing that was committed before the tail was opened
comes at all. It must not frame anything for HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from sqlalchemy import ColumnElement, and_, bindparam, or_, select

from hostler.log.entries import COLUMNS, NOTE, PUBLIC, Entry
from hostler.log.hub import Follower, Hub
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import QUEUED, entries

CATCH_UP = 500

_SINCE = (
    select(*COLUMNS)
    .where(
        entries.c.session_id == bindparam("s"),
        or_(
            and_(entries.c.position > bindparam("p"), entries.c.position < QUEUED),
            and_(entries.c.position >= QUEUED, entries.c.seq > bindparam("q")),
        ),
    )
    .order_by(entries.c.position)
    .limit(CATCH_UP)
)


def shown_on(thread_id: str | None) -> ColumnElement[bool]:
    """`Entry.shown_on`, in SQL."""
    if thread_id is None:
        return entries.c.private == PUBLIC
    return and_(entries.c.thread_id == thread_id, entries.c.private != NOTE)


class Tail:
    """One reader's place in a session's log. Use it as an async context manager, then iterate `batches`."""

    def __init__(
        self, store: Store, hub: Hub, session_id: str, follower: Follower, last_at: int, next_seq: int
    ) -> None:
        self._store = store
        self._hub = hub
        self._session_id = session_id
        self._follower = follower
        self._position = last_at
        self._seq = next_seq - 1

    async def __aenter__(self) -> Tail:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hub.leave(self._session_id, self._follower)

    def end(self) -> None:
        """Make `batches` end once what came so far was read."""
        self._follower.close()

    async def batches(self, heartbeat: float) -> AsyncIterator[list[Entry | bytes]]:
        """Yield what came, in order: entries, and previews as frames; an empty list after `heartbeat` seconds of
        silence. Ends when the session is deleted or terminated and all was read."""
        while True:
            if self._follower.lagging:
                async for batch in self._catch_up():
                    yield batch
            ready = await self._follower.wait(heartbeat)
            batch = self._unseen(self._follower.take())
            if batch or not ready:
                yield batch
            if self._follower.closed and not self._follower.lagging:
                return

    async def _catch_up(self) -> AsyncIterator[list[Entry | bytes]]:
        self._follower.take()
        self._follower.lagging = False
        while True:
            rows = await self._store.read(self._since)
            batch = self._unseen([Entry(*row) for row in rows])
            if batch:
                yield batch
            if len(rows) < CATCH_UP:
                return

    def _since(self) -> Tx[list[tuple[int, int, str, str, str, int, bytes]]]:
        statement = _SINCE.where(shown_on(self._follower.thread_id))
        rows = yield statement, {"s": self._session_id, "p": self._position, "q": self._seq}
        return rows  # type: ignore[return-value]

    def _unseen(self, batch: list[Entry | bytes]) -> list[Entry | bytes]:
        return [item for item in batch if isinstance(item, bytes) or self._first_time(item)]

    def _first_time(self, entry: Entry) -> bool:
        if entry.queued:
            fresh, self._seq = entry.seq > self._seq, max(self._seq, entry.seq)
        else:
            fresh, self._position = entry.position > self._position, max(self._position, entry.position)
        return fresh and entry.shown_on(self._follower.thread_id)
