"""Tasks as rows: made, looked at, signalled, cancelled, ended. What a commit causes is one hint to the runner."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, func, insert, select, update

from hostler import clock
from hostler.errors import Conflict, NotFound
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.journal import append_tx
from hostler.store.sql import Tx
from hostler.store.tables import tasks as table

_c = table.c
PENDING, IN_PROGRESS, BLOCKED, COMPLETED, FAILED = "PENDING", "IN_PROGRESS", "BLOCKED", "COMPLETED", "FAILED"
CANCELLED = "Cancelled"  # a failure's type: clients know no such status


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """Times are microseconds; `context`, `view` and `outcome` are JSON."""

    id: str
    parent_id: str | None
    tenant_id: str
    entity_id: str | None
    workflow_id: str
    runbook: str
    version: str
    digest: str
    title: str
    status: str
    priority: str | None
    context: bytes
    view: bytes | None
    outcome: bytes | None
    created_at: int
    updated_at: int
    closed_at: int | None
    crashes: int
    cancelled_at: int | None


_NAMES = TaskRow.__struct_fields__
_ONE = select(*(_c[name] for name in _NAMES)).where(_c.id == bindparam("id"))
THERE = select(_c.id).where(_c.id == bindparam("id"))
CHILDREN = select(func.count()).where(_c.parent_id == bindparam("t"))
_INSERT = insert(table)
_WAKE = update(table).where(_c.id == bindparam("t"), _c.closed_at.is_(None)).values(wake_at=bindparam("now"))
_NOTHING_NEW = (
    update(table)
    .where(_c.id == bindparam("t"), _c.fence == bindparam("token"), _c.next_position == bindparam("next"))
    .where(_c.cancelled_at.is_(None), _c.closed_at.is_(None))
    .returning(_c.id)
)
_REST = _NOTHING_NEW.values(wake_at=bindparam("at"), lease_owner=None, lease_until=None)
_REST_HELD = _NOTHING_NEW.values(fence=_c.fence)  # changes nothing, but nobody else can until the commit
_CANCEL = (
    update(table)
    .where(_c.id == bindparam("t"), _c.closed_at.is_(None), _c.cancelled_at.is_(None))
    .values(
        cancelled_at=bindparam("now"), wake_at=bindparam("now"), updated_at=bindparam("now"), status=bindparam("s"),
        view=bindparam("view", type_=_c.view.type),
    )
)  # fmt: skip
_ASKING = (
    update(table)
    .where(_c.id == bindparam("t"), _c.closed_at.is_(None))
    .values(status=bindparam("s"), updated_at=bindparam("now"))
)


def find_tx(task_id: str) -> Tx[TaskRow]:
    """Raises NotFound."""
    rows = yield _ONE, {"id": task_id}
    if not rows:
        raise NotFound(f"Task {task_id} was not found.")
    return TaskRow(**dict(zip(_NAMES, rows[0], strict=True)))


def create_tx(
    task_id: str,
    *,
    tenant_id: str,
    workflow_id: str,
    runbook: str,
    version: str,
    digest: str,
    title: str,
    context: dict[str, Any],
    entity_id: str | None = None,
    parent_id: str | None = None,
    priority: str | None = None,
    value: bytes | None = None,
) -> Tx[TaskRow]:
    """Make a task that is due at once. `value` is the argument that a parent's runbook gives in place of a context."""
    now = clock.now()
    row: dict[str, Any] = dict.fromkeys(column.name for column in table.columns)
    row |= {
        "id": task_id, "tenant_id": tenant_id, "entity_id": entity_id, "workflow_id": workflow_id, "runbook": runbook,
        "version": version, "digest": digest,
        "title": title, "parent_id": parent_id, "priority": priority, "status": PENDING,
        "context": msgspec.json.encode(context), "created_at": now, "updated_at": now, "next_position": 1,
        "crashes": 0, "fence": 0, "wake_at": now,
    }  # fmt: skip
    yield _INSERT, row
    started = Draft(kind="started", body={"runbook": runbook, "version": version}, value=value)
    yield from append_tx(task_id, [started], now=now)
    return (yield from find_tx(task_id))


def signal_tx(task_id: str, name: str, *args: Any) -> Tx[Entry]:
    """Write down that somebody has sent something. Raises NotFound, Conflict."""
    row = yield from find_tx(task_id)
    if row.closed_at is not None:
        raise Conflict(f"Task {task_id} is over ({row.status}).")
    now = clock.now()
    draft = Draft(kind="signal", body={"name": name, "args": list(args)})
    (entry,) = yield from append_tx(task_id, [draft], now=now, patch={"wake_at": now})
    return entry


def wake_tx(task_id: str) -> Tx[None]:
    """Make a task due, for it is asked something. Raises NotFound, Conflict."""
    row = yield from find_tx(task_id)
    if row.closed_at is not None:
        raise Conflict(f"Task {task_id} is over ({row.status}).")
    yield _WAKE, {"t": task_id, "now": clock.now()}


def cancel_tx(task_id: str) -> Tx[None]:
    """End a task; its worker will hear of it. What it waited for is answered by nobody any more. Raises NotFound."""
    row = yield from find_tx(task_id)
    view = msgspec.json.decode(row.view) if row.view else None
    if view is not None and view.get("current_pending_action"):
        view["current_pending_action"] = None
    yield _CANCEL, {
        "t": task_id, "now": clock.now(), "view": row.view if view is None else msgspec.json.encode(view),
        "s": IN_PROGRESS if row.status == BLOCKED else row.status,
    }  # fmt: skip


def rest_tx(task_id: str, token: int, position: int, at: int | None, *, held: bool) -> Tx[bool]:
    """Let a task wait without a worker, until a time or until something comes in; not when that has happened after the
    entry at `position` already. The lease ends with it unless it is `held`: then whoever has it waits."""
    params = {"t": task_id, "token": token, "next": position + 1}
    rows = yield (_REST_HELD, params) if held else (_REST, params | {"at": at})
    return bool(rows)


def asking_tx(task_id: str, asks: bool) -> Tx[None]:
    """Show that an agent of it waits for a person, or that none does any more."""
    row = yield from find_tx(task_id)
    view = msgspec.json.decode(row.view) if row.view else {}
    yield _ASKING, {"t": task_id, "s": status_of(view, asks=asks), "now": clock.now()}


def ending(draft: Draft, now: int) -> dict[str, Any]:
    """The columns of a task whose last entry this is."""
    failed = "error" in draft.body
    return {
        "status": FAILED if failed else COMPLETED,
        "outcome": msgspec.json.encode(draft.body),
        "closed_at": now,
        "wake_at": None,
        "lease_owner": None,
        "lease_until": None,
    }


def status_of(view: dict[str, Any], *, asks: bool) -> str:
    """A task that waits for somebody, or whose agent does, is blocked. One that waits for its children is at work:
    they may be blocked."""
    action = view.get("current_pending_action")
    below = isinstance(action, dict) and action.get("kind") == "drill_down"
    return BLOCKED if asks or (action and not below) else IN_PROGRESS
