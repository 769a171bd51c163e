"""The work queue of self-hosted environments: who polls gets an item with a token, and keeps it by heartbeats.

It must not know who may call what; that is `callers`'. Every verb is one transaction, and the database has the truth:
a lease is a time in a row, so a restart of the server loses none.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections import OrderedDict
from typing import Any, NoReturn

import msgspec
from sqlalchemy import and_, bindparam, case, func, insert, or_, select

from hostler import clock
from hostler.errors import Conflict, InvalidRequest, PreconditionFailed
from hostler.harness.workqueue import WorkHints
from hostler.log.log import Log
from hostler.services import environments, work_losses
from hostler.services.callers import Caller
from hostler.services.metadata import merge
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.services.work_losses import Told
from hostler.services.work_rows import (
    ALL,
    HELD,
    LOST,
    STOP_SECONDS,
    TOKEN_PREFIX,
    Item,
    change_tx,
    digest,
    find_tx,
    item_of,
    revoke_tx,
    shown,
    stopped_tx,
)
from hostler.store.rounds import survived
from hostler.store.sql import Tx
from hostler.store.tables import work, work_tokens
from hostler.wire.base import encode, timestamp
from hostler.wire.environments import SelfHostedConfig
from hostler.wire.work import Work, WorkHeartbeat, WorkQueueStats

log = logging.getLogger(__name__)

NO_HEARTBEAT = "NO_HEARTBEAT"
RECLAIM_MS = 5000
MAX_TTL_SECONDS = 3600
SEEN_SECONDS = 30.0  # that a worker counts as polling
MAX_SEEN = 10_000
SWEEP_SECONDS = 5.0
PURGE_SECONDS = 3600.0

_w = work.c
_claimable = and_(
    _w.environment_id == bindparam("e"),
    _w.state == "queued",
    or_(_w.polled_at.is_(None), _w.polled_at <= bindparam("older", type_=_w.polled_at.type)),
)
_CLAIMABLE = ALL.where(_claimable).order_by(_w.queued_at, _w.id).limit(1)
_LIST = ALL.where(_w.environment_id == bindparam("e"))
_STATS = select(func.sum(case((_w.polled_at.is_(None), 1), else_=0)), func.count(), func.min(_w.queued_at)).where(
    _w.environment_id == bindparam("e"), _w.state == "queued"
)
_TOKEN = insert(work_tokens)


class WorkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[work]` table: how long a worker may be silent before its item goes to another, unless it asks for other."""

    lease_seconds: int = 300

    def __post_init__(self) -> None:
        if not 1 <= self.lease_seconds <= MAX_TTL_SECONDS:
            raise ValueError(f"lease_seconds must be from 1 to {MAX_TTL_SECONDS}")


class WorkQueue:
    def __init__(self, log: Log, hints: WorkHints, config: WorkConfig) -> None:
        self._log = log
        self._store = log.store
        self.hints = hints
        self._ttl = config.lease_seconds
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()  # environment and worker -> when it polled last

    async def poll(self, environment_id: str, worker: str, block_ms: int | None, reclaim_ms: int | None) -> Work | None:
        """Hand out an item, waiting for one at most so long. What was handed out and not acknowledged for `reclaim_ms`
        counts as waiting again."""
        await self._store.read(lambda: _check_tx(environment_id))
        self._note(environment_id, worker)
        reclaim = (RECLAIM_MS if reclaim_ms is None else reclaim_ms) * 1000
        deadline = clock.now() + (block_ms or 0) * 1000
        event = self.hints.listen(environment_id)
        try:
            while True:
                event.clear()
                found = await self._claim(environment_id, worker, reclaim)
                left = (deadline - clock.now()) / 1e6
                if found is not None or left <= 0:
                    return found
                try:
                    async with asyncio.timeout(left):
                        await event.wait()
                except TimeoutError:
                    return None
        finally:
            self.hints.leave(environment_id, event)

    async def _claim(self, environment_id: str, worker: str, reclaim: int) -> Work | None:
        now = clock.now()
        where = {"e": environment_id, "older": now - reclaim}
        if await self._store.read(lambda: first(_CLAIMABLE, where)) is None:
            return None  # without a write: most polls find nothing
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)

        def tx() -> Tx[Item | None]:
            row = yield from first(_CLAIMABLE, where)
            if row is None:
                return None
            item = item_of(row)
            yield from revoke_tx(item.id, now)
            yield _TOKEN, {"hash": digest(token), "work_id": item.id, "created_at": now, "revoked_at": None}
            lease = {"ttl_seconds": self._ttl, "lease_until": now + self._ttl * 1_000_000}
            return (yield from change_tx(item, polled_at=now, worker=worker or None, **lease))

        item = await self._store.write(tx)
        return None if item is None else shown(item, _secret(token))

    async def ack(self, environment_id: str, work_id: str) -> Work:
        now = clock.now()

        def tx() -> Tx[Item]:
            item = yield from find_tx(environment_id, work_id)
            if item.state in ("starting", "active"):
                return item
            if item.state != "queued" or item.polled_at is None:
                # Not a 400: a worker answers that by stopping the item, which is not its own any more.
                state = "waits for a worker again" if item.state == "queued" else f"is {item.state}"
                raise Conflict(f"Work item {work_id} {state}; poll for another one.")
            lease_until = now + item.ttl_seconds * 1_000_000
            return (yield from change_tx(item, state="starting", acknowledged_at=now, lease_until=lease_until))

        return shown(await self._store.write(tx))

    async def heartbeat(
        self, caller: Caller, environment_id: str, work_id: str, expected: str | None, ttl: int | None
    ) -> WorkHeartbeat:
        """Keep an item. Raises PreconditionFailed when it is not, or no longer, the caller's."""
        now = clock.now()

        def tx() -> Tx[tuple[Item, bool]]:
            item = yield from find_tx(environment_id, work_id)
            if item.state in ("stopping", "stopped"):
                return item, False
            actual = NO_HEARTBEAT if item.heartbeat_at is None else timestamp(item.heartbeat_at)
            mine = item.state in HELD and caller.live and expected in (None, actual)
            if not mine:
                raise _not_held(item)
            seconds = min(ttl, MAX_TTL_SECONDS) if ttl is not None else self._ttl
            at = max(now, (item.heartbeat_at or 0) + 1)  # each beat is another value
            lease = {"heartbeat_at": at, "ttl_seconds": seconds, "lease_until": at + seconds * 1_000_000}
            started = {"state": "active", "started_at": item.started_at or now}
            return (yield from change_tx(item, **lease, **started)), True

        item, extended = await self._store.write(tx)
        return WorkHeartbeat(
            last_heartbeat=_heartbeat(item) or "",
            lease_extended=extended,
            state=item.state,
            ttl_seconds=item.ttl_seconds,
        )

    async def stop(self, caller: Caller, environment_id: str, work_id: str, *, force: bool) -> Work:
        """Ask for an item's end; with `force` it has ended. One that nobody beats for ends at once."""
        now = clock.now()

        def tx() -> Tx[Told]:
            item = yield from find_tx(environment_id, work_id)
            if item.state == "stopped":
                raise Conflict(f"Work item {work_id} is already stopped.")
            if not caller.live:
                raise _not_held(item)
            if not force and item.state in ("active", "stopping"):
                until = min(item.lease_until or now, now + STOP_SECONDS * 1_000_000)
                asked = {"state": "stopping", "stop_requested_at": item.stop_requested_at or now}
                return Told((yield from change_tx(item, lease_until=until, **asked)), [], "")
            session = yield from work_losses.waiting_tx(item.session_id)
            by_worker = caller.limited
            why = f"{'Its worker' if by_worker else 'A client'} stopped {item.id}."
            ended = yield from stopped_tx(item, now)
            return (yield from work_losses.followed_tx(ended, session, now, why, retry=by_worker))

        return shown((await self._store.write(tx, self._tell)).item)

    async def retrieve(self, environment_id: str, work_id: str) -> Work:
        return shown(await self._store.read(lambda: find_tx(environment_id, work_id)))

    async def update(self, environment_id: str, work_id: str, patch: dict[str, str | None]) -> Work:
        def tx() -> Tx[Item]:
            item = yield from find_tx(environment_id, work_id)
            before = item.read_metadata()
            ours = {LOST: before.pop(LOST)} if LOST in before and LOST not in patch else {}
            return (yield from change_tx(item, metadata=encode({**merge(before, patch), **ours})))

        return shown(await self._store.write(tx))

    async def stats(self, environment_id: str) -> WorkQueueStats:
        def tx() -> Tx[Any]:
            yield from _check_tx(environment_id)
            return (yield from first(_STATS, {"e": environment_id}))

        depth, queued, oldest = await self._store.read(tx)
        since = asyncio.get_running_loop().time() - SEEN_SECONDS
        polling = sum(at > since and key[0] == environment_id for key, at in self._seen.items())
        return WorkQueueStats(
            depth=depth or 0,
            pending=queued - (depth or 0),
            oldest_queued_at=timestamp(oldest) if oldest is not None else None,
            workers_polling=polling,
        )

    async def run(self) -> NoReturn:
        """Take items from workers that are gone, until cancelled."""
        purge_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            expiry = asyncio.ensure_future(self._expire())
            looked = await survived(expiry, log, "the leases of workers could not be looked at")
            if loop.time() >= purge_at:
                purge_at = loop.time() + PURGE_SECONDS
                purge = self._store.write(lambda: work_losses.purge_tx(clock.now()))
                await survived(purge, log, "old work items could not be forgotten")
            await asyncio.sleep(expiry.result() if looked else SWEEP_SECONDS)

    async def _expire(self) -> float:
        """Seconds until there is something to look at again."""
        now = clock.now()
        soonest = await self._store.read(lambda: first(work_losses.NEXT))
        if soonest is not None and soonest[0] is not None and soonest[0] <= now:
            lost, after = await self._store.write(lambda: work_losses.expire_tx(now), self._tell_all)
            soonest = (after,)
            for told in lost:
                log.warning("session %s: %s", told.item.session_id, told.why)
        if soonest is None or soonest[0] is None:
            return SWEEP_SECONDS
        wait: float = min(SWEEP_SECONDS, max(0.05, (soonest[0] - clock.now()) / 1e6))
        return wait

    def _tell_all(self, expired: tuple[list[Told], int | None]) -> None:
        for told in expired[0]:
            self._tell(told)

    def _tell(self, told: Told) -> None:
        if told.entries:
            self._log.hub.publish(told.item.session_id, told.entries)
        self.hints.wake(told.item.environment_id)

    def _note(self, environment_id: str, worker: str) -> None:
        if not worker:
            return
        now = asyncio.get_running_loop().time()
        self._seen[environment_id, worker] = now
        self._seen.move_to_end((environment_id, worker))
        while self._seen and (len(self._seen) > MAX_SEEN or next(iter(self._seen.values())) < now - SEEN_SECONDS):
            self._seen.popitem(last=False)

    async def list(self, environment_id: str, *, limit: int, page: str | None) -> Slice:
        """Newest first, stopped ones included."""
        cursor = read_cursor(page, "desc")
        paged = page_of(_LIST, _w.created_at, _w.id, order="desc", limit=limit, cursor=cursor)

        def tx() -> Tx[list[Any]]:
            yield from _check_tx(environment_id)
            return (yield from rows(paged, {"e": environment_id}))

        cut = slice_of(await self._store.read(tx), order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[shown(item_of(row)) for row in cut.rows])


def _check_tx(environment_id: str) -> Tx[None]:
    environment = yield from environments.find_tx(environment_id)
    if not isinstance(environment.config, SelfHostedConfig):
        raise InvalidRequest(f"Environment {environment_id} is not a self_hosted environment; it has no work queue.")


def _heartbeat(item: Item) -> str | None:
    return None if item.heartbeat_at is None else timestamp(item.heartbeat_at)


def _not_held(item: Item) -> PreconditionFailed:
    state = {
        "last_heartbeat": _heartbeat(item),
        "lease_extended": False,
        "state": item.state,
        "ttl_seconds": item.ttl_seconds,
    }
    return PreconditionFailed(
        f"The heartbeat of work item {item.id} does not match: it was queued again, or another worker holds it.",
        error_code="heartbeat_precondition_failed",
        details={"current_state": state},
    )


def _secret(token: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode({"sessions_token": token})).decode().rstrip("=")
