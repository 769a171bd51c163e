"""The items of the work queue as rows, and the transactions that several verbs share. It must not decide who may do
what.

States: `queued` until somebody has acknowledged it (`polled_at` says that it was handed out), `starting` until the
first heartbeat, `active`, `stopping` once asked to stop, `stopped` for ever. What was lost is `queued` again.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from sqlalchemy import bindparam, case, select, update

from hostler.errors import NotFound
from hostler.services.reading import first, rows
from hostler.store.sql import Row, Tx
from hostler.store.tables import work, work_tokens
from hostler.wire.base import encode, timestamp
from hostler.wire.work import SessionWorkData, Work

_w = work.c
TOKEN_PREFIX = "sk-hostler-work-"
STOP_SECONDS = 60  # that a worker has to notice that it is to stop
LOST = "hostler.lost"  # the metadata key that says why an item was taken from its worker, or stopped without one


class Item(msgspec.Struct, frozen=True):
    """The columns of `COLUMNS`."""

    id: str
    created_at: int
    environment_id: str
    session_id: str
    state: Any
    metadata: bytes
    queued_at: int
    polled_at: int | None
    worker: str | None
    acknowledged_at: int | None
    started_at: int | None
    heartbeat_at: int | None
    ttl_seconds: int
    lease_until: int | None
    stop_requested_at: int | None
    stopped_at: int | None
    attempts: int

    def read_metadata(self) -> dict[str, str]:
        found: dict[str, str] = msgspec.json.decode(self.metadata)
        return found

    def noted(self, why: str) -> bytes:
        """Its metadata with the reason of a loss."""
        return encode({**self.read_metadata(), LOST: why[:512]})


COLUMNS = tuple(_w[name] for name in Item.__struct_fields__)
ALL = select(*COLUMNS)
_ONE = ALL.where(_w.id == bindparam("id"))
_LIVE = ALL.where(_w.session_id == bindparam("s"), _w.state != "stopped")
_CHANGEABLE = tuple(name for name in Item.__struct_fields__ if name not in ("id", "created_at", "environment_id"))
_REVOKE = (
    update(work_tokens)
    .where(work_tokens.c.work_id == bindparam("w"), work_tokens.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)
_END = (
    update(work)
    .where(_w.session_id == bindparam("s"), _w.state != "stopping", _w.state != "stopped")
    .values(
        state=case((_w.state == "queued", "stopped"), else_="stopping"),
        stop_requested_at=bindparam("at"),
        stopped_at=case((_w.state == "queued", bindparam("at", type_=_w.stopped_at.type)), else_=None),
        lease_until=case((_w.state == "queued", None), else_=bindparam("until", type_=_w.lease_until.type)),
    )
    .returning(_w.id, _w.state)
)
_SET = (
    update(work)
    .where(_w.id == bindparam("key"))
    .values({name: bindparam(f"set_{name}", type_=_w[name].type) for name in _CHANGEABLE})
)

HELD = ("starting", "active", "stopping")  # states in which an item is somebody's


def item_of(row: Row) -> Item:
    return Item(*row)


def find_tx(environment_id: str, work_id: str) -> Tx[Item]:
    """Read an item of an environment. Raises NotFound."""
    row = yield from first(_ONE, {"id": work_id})
    if row is None or (item := item_of(row)).environment_id != environment_id:
        raise NotFound(f"Work item {work_id} was not found.")
    return item


def live_tx(session_id: str) -> Tx[Item | None]:
    """The session's item that is not stopped."""
    row = yield from first(_LIVE, {"s": session_id})
    return None if row is None else item_of(row)


def change_tx(item: Item, **columns: Any) -> Tx[Item]:
    changed = msgspec.structs.replace(item, **columns)
    values = {f"set_{name}": getattr(changed, name) for name in _CHANGEABLE}
    yield _SET, {"key": item.id, **values}
    return changed


def revoke_tx(work_id: str, now: int) -> Tx[None]:
    """The item's tokens open nothing any more."""
    yield _REVOKE, {"w": work_id, "now": now}


def stopped_tx(item: Item, now: int, **columns: Any) -> Tx[Item]:
    """The end of an item."""
    yield from revoke_tx(item.id, now)
    requested = item.stop_requested_at or now
    ended = {"state": "stopped", "stop_requested_at": requested, "stopped_at": now, "lease_until": None}
    return (yield from change_tx(item, **ended, **columns))


def end_of_session_tx(session_id: str, now: int) -> Tx[None]:
    """A session was archived or deleted: nobody is to work on it any more. Who does is told at its next heartbeat."""
    ended = yield from rows(_END, {"s": session_id, "at": now, "until": now + STOP_SECONDS * 1_000_000})
    for work_id, state in ended:
        if state == "stopped":
            yield from revoke_tx(work_id, now)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def shown(item: Item, secret: str | None = None) -> Work:
    """The item on the wire."""
    return Work(
        id=item.id,
        environment_id=item.environment_id,
        data=SessionWorkData(id=item.session_id),
        state=item.state,
        metadata=item.read_metadata(),
        secret=secret,
        created_at=timestamp(item.created_at),
        acknowledged_at=_time(item.acknowledged_at),
        started_at=_time(item.started_at),
        latest_heartbeat_at=_time(item.heartbeat_at),
        stop_requested_at=_time(item.stop_requested_at),
        stopped_at=_time(item.stopped_at),
    )


def _time(moment: int | None) -> str | None:
    return None if moment is None else timestamp(moment)
