"""What happens when nobody works on an item any more: its lease ran out, or it was stopped with calls unanswered.

The reason is written where people look: into the item's metadata, into the session's log as `session.error` when the
agent waits, and into the server's log. It must not hand items out.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, func, select

from hostler.harness.drafts import session_error
from hostler.harness.workqueue import enqueued
from hostler.log.append import append_tx
from hostler.log.entries import Entry
from hostler.services.reading import first, rows
from hostler.services.work_rows import ALL, Item, change_tx, item_of, revoke_tx, stopped_tx
from hostler.store.sql import Tx
from hostler.store.tables import sessions, work, work_tokens

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3  # items of a session in a row that were stopped with its calls unanswered
EXPIRED_AT_ONCE = 200
KEPT_SECONDS = 30 * 24 * 3600  # of a stopped item
PURGED_AT_ONCE = 500

_w = work.c
_EXPIRED = (
    ALL.where(_w.lease_until <= bindparam("now", type_=_w.lease_until.type))
    .order_by(_w.lease_until)
    .limit(EXPIRED_AT_ONCE)
)
NEXT = select(func.min(_w.lease_until))
_OLD = select(_w.id).where(_w.stopped_at < bindparam("before", type_=_w.stopped_at.type)).limit(PURGED_AT_ONCE)
_SESSION = select(
    sessions.c.thread_id, sessions.c.status, sessions.c.wake_at, sessions.c.pending, sessions.c.archived_at
).where(sessions.c.id == bindparam("s"))
_ids = msgspec.json.Decoder(list[str]).decode


class Waiting(NamedTuple):
    """What a session is doing while its item is lost: `pending` are the calls that it waits for."""

    thread_id: str
    running: bool
    pending: list[str]
    over: bool


class Told(NamedTuple):
    """What a commit says to a session's readers."""

    item: Item
    entries: list[Entry]
    why: str


def waiting_tx(session_id: str) -> Tx[Waiting]:
    row = yield from first(_SESSION, {"s": session_id})
    if row is None:
        return Waiting("", False, [], True)
    thread_id, status, wake_at, pending, archived_at = row
    over = archived_at is not None or status == "terminated"
    running = status in ("running", "rescheduling") or wake_at is not None
    return Waiting(thread_id, running, _ids(pending), over)


def expire_tx(now: int) -> Tx[tuple[list[Told], int | None]]:
    """Take items from workers that have let their leases run out; return them, and when the next lease will."""
    told = []
    for row in (yield from rows(_EXPIRED, {"now": now})):
        item = item_of(row)
        told.append((yield from _lost_tx(item, now)))
    after = yield from first(NEXT)
    return told, after[0] if after is not None else None


def _lost_tx(item: Item, now: int) -> Tx[Told]:
    session = yield from waiting_tx(item.session_id)
    seconds = (now - (item.heartbeat_at or item.acknowledged_at or item.polled_at or now)) // 1_000_000
    who = f"The worker {item.worker}" if item.worker else "The worker"
    did = (
        "sent no heartbeat"
        if item.heartbeat_at
        else "did not begin"
        if item.acknowledged_at
        else "did not acknowledge it"
    )
    why = f"{who} of {item.id} was lost: it {did} for {seconds} seconds."
    if item.state == "stopping" or session.over:
        ended = yield from stopped_tx(item, now, metadata=item.noted(why))
        return (yield from followed_tx(ended, session, now, why, retry=True))
    yield from revoke_tx(item.id, now)
    queued = yield from change_tx(
        item, state="queued", queued_at=now, polled_at=None, worker=None, acknowledged_at=None, started_at=None,
        heartbeat_at=None, lease_until=None, metadata=item.noted(why),
    )  # fmt: skip
    entries: list[Entry] = []
    if session.running or session.pending:
        entries = yield from _say_tx(
            item.session_id, session, f"{why} The work waits for another worker.", "retrying", now
        )
    return Told(queued, entries, why)


def followed_tx(ended: Item, session: Waiting, now: int, why: str, *, retry: bool) -> Tx[Told]:
    """After an item has stopped: a session whose calls still wait gets another one, unless this was to no avail
    before. What still runs gets one as soon as a call waits."""
    if session.over or session.running or not session.pending:
        return Told(ended, [], why)
    attempts = ended.attempts + 1
    again = retry and attempts < MAX_ATTEMPTS
    if again:
        yield enqueued(ended.environment_id, ended.session_id, now, attempts=attempts)
    rest = "They wait for another worker." if again else "Send user.interrupt to go on."
    message = f"{why} Tool calls that were not answered: {len(session.pending)}. {rest}"
    entries = yield from _say_tx(ended.session_id, session, message, "retrying" if again else "exhausted", now)
    return Told(ended, entries, why)


def _say_tx(session_id: str, session: Waiting, message: str, retry: str, now: int) -> Tx[list[Entry]]:
    draft = session_error("unknown_error", message, retry)
    written = yield from append_tx(session_id, session.thread_id, [draft], now=now)
    return written.entries


def purge_tx(now: int) -> Tx[int]:
    """Forget items that were stopped long ago."""
    old = [row[0] for row in (yield from rows(_OLD, {"before": now - KEPT_SECONDS * 1_000_000}))]
    if old:
        yield delete(work_tokens).where(work_tokens.c.work_id.in_(old))
        yield delete(work).where(work.c.id.in_(old))
    return len(old)
