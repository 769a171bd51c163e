"""The session log: append, read, tail. It is the only channel between the API, the harness and everyone who watches.

A service that needs more in the same commit builds a transaction of its own from `append_tx` and gives `publish` to
`Store.write` as `then`. It must not interpret events: what they mean is decided by those who write and read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import ge, gt, le, lt
from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from hostler import clock
from hostler.errors import NotFound
from hostler.log.append import Appended, append_tx
from hostler.log.entries import COLUMNS, Entry, Item
from hostler.log.hub import Hub
from hostler.log.tail import Tail, shown_on
from hostler.store.sql import Request, Tx
from hostler.store.store import Store
from hostler.store.tables import QUEUED, entries, sessions

_OF_SESSION = entries.c.session_id == bindparam("s")
_FROM = select(*COLUMNS).where(_OF_SESSION, entries.c.seq >= bindparam("q")).order_by(entries.c.position)
_HEAD = select(sessions.c.last_at, sessions.c.next_seq).where(sessions.c.id == bindparam("s"))


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which public entries to list: bounds are on `processed_at` in microseconds, `after` is the last position seen."""

    session_id: str
    limit: int
    descending: bool = False
    after: int | None = None
    thread_id: str | None = None
    types: tuple[str, ...] = ()
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


class Log:
    """The logs of all sessions of one store, and their followers in this process."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self.store = store
        self.hub = hub

    async def append(
        self,
        session_id: str,
        thread_id: str,
        items: Sequence[Item],
        *,
        token: int | None = None,
        seen: int | None = None,
        patch: dict[str, Any] | None = None,
        also: Sequence[Request] = (),
    ) -> Appended:
        """Append entries durably and tell the followers; see `append_tx` for the arguments and what it raises. `also`
        are statements for the same commit."""

        def tx() -> Tx[Appended]:
            now = clock.now()
            appended = yield from append_tx(session_id, thread_id, items, now=now, token=token, seen=seen, patch=patch)
            for statement in also:  # noqa: UP028 (a list can't be sent the rows, as `yield from` would)
                yield statement
            return appended

        return await self.store.write(tx, self.publisher(session_id))

    def publisher(self, session_id: str) -> Callable[[Appended], None]:
        """What to do once an append is committed: give it to `Store.write` as `then`."""
        return lambda appended: self.hub.publish(session_id, appended.entries)

    async def read(self, session_id: str, from_seq: int = 0) -> list[Entry]:
        """All entries received from `from_seq` on, private ones included, in list order."""

        return await self.store.read(lambda: read_tx(session_id, from_seq))

    async def page(self, page: Page) -> list[Entry]:
        """At most `limit` public entries in list order: consumed ones first, then those that wait."""

        def tx() -> Tx[list[Entry]]:
            rows = yield _listing(page)
            return [Entry(*row) for row in rows]

        return await self.store.read(tx)

    async def tail(
        self, session_id: str, *, thread_id: str | None = None, previews: frozenset[str] = frozenset()
    ) -> Tail:
        """Follow a session from now on. Raises NotFound. The tail is listening when this returns."""

        def tx() -> Tx[tuple[int, int]]:
            rows = yield _HEAD, {"s": session_id}
            if not rows:
                raise NotFound(f"Session {session_id} was not found.")
            return rows[0][0], rows[0][1]

        last_at, next_seq = await self.store.read(tx)
        follower = self.hub.follow(session_id, thread_id, previews)
        return Tail(self.store, self.hub, session_id, follower, last_at, next_seq)


def read_tx(session_id: str, from_seq: int) -> Tx[list[Entry]]:
    """All entries received from `from_seq` on, private ones included, in list order."""
    rows = yield _FROM, {"s": session_id, "q": from_seq}
    return [Entry(*row) for row in rows]


def _listing(page: Page) -> Any:
    place = entries.c.position
    statement = select(*COLUMNS).where(entries.c.session_id == page.session_id, shown_on(page.thread_id))
    if page.types:
        statement = statement.where(entries.c.type.in_(page.types))
    if page.after is not None:
        statement = statement.where(place < page.after if page.descending else place > page.after)
    for bound, compare in ((page.gt, gt), (page.gte, ge), (page.lt, lt), (page.lte, le)):
        if bound is not None:
            statement = statement.where(compare(place, bound), place < QUEUED)
    return statement.order_by(place.desc() if page.descending else place).limit(page.limit)
