"""Reading sessions: one by its id, or pages of those that a caller asks for. It must not change any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, false, or_, select

from hostler.errors import InvalidRequest
from hostler.services import resources
from hostler.services.paging import Between, Cursor, Slice, page_of, slice_of
from hostler.services.reading import first, rows
from hostler.services.snapshots import COLUMNS, SessionRow, session
from hostler.services.thread_rows import active_seconds_tx
from hostler.store.sql import Tx
from hostler.store.tables import sessions as table
from hostler.wire.sessions import Session

_ONE = select(*COLUMNS).where(table.c.id == bindparam("id"))


class Filter(NamedTuple):
    agent_id: str | None = None
    agent_version: int | None = None
    deployment_id: str | None = None
    memory_store_id: str | None = None
    statuses: Sequence[str] = ()
    between: Between = Between()
    archived: bool = False


def find_tx(session_id: str) -> Tx[SessionRow]:
    """Read a session's row. Raises NotFound."""
    row = yield from first(_ONE, {"id": session_id})
    if row is None:
        raise resources.missing_session(session_id)
    return SessionRow.of(row)


def read_tx(session_id: str) -> Tx[Session]:
    """Read a session as it goes over the wire. Raises NotFound."""
    row = yield from find_tx(session_id)
    return (yield from shown_tx(row))


def shown_tx(row: SessionRow) -> Tx[Session]:
    """A session's row as it goes over the wire, with what stands beside it."""
    mounted = yield from resources.list_tx(row.id)
    active = yield from active_seconds_tx(row.id, row.agent)
    return session(row, mounted, active)


def list_tx(wanted: Filter, *, order: str, limit: int, cursor: Cursor | None) -> Tx[Slice]:
    """One page, its rows as sessions on the wire. Raises InvalidRequest."""
    statement = select(*COLUMNS).where(*_conditions(wanted))
    paged = page_of(statement, table.c.created_at, table.c.id, order=order, limit=limit, cursor=cursor)
    cut = slice_of((yield from rows(paged)), order=order, limit=limit, cursor=cursor)
    shown = []
    for row in cut.rows:
        shown.append((yield from shown_tx(SessionRow.of(row))))
    return cut._replace(rows=shown)


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions = wanted.between.on(table.c.created_at)
    if wanted.deployment_id or wanted.memory_store_id:
        conditions.append(false())  # no session here has either
    if wanted.agent_id:
        conditions.append(table.c.agent_id == wanted.agent_id)
    if wanted.agent_version is not None:
        if not wanted.agent_id:
            raise InvalidRequest("agent_version: needs agent_id")
        conditions.append(table.c.agent_version == wanted.agent_version)
    if not wanted.archived:
        conditions.append(table.c.archived_at.is_(None))
    if wanted.statuses:
        conditions.append(or_(*(_has_status(status) for status in wanted.statuses)))
    return conditions


def _has_status(status: str) -> ColumnElement[bool]:
    """`SessionRow.shown_status`, in SQL."""
    idle = table.c.status == "idle"
    if status == "idle":
        return and_(idle, table.c.wake_at.is_(None))
    if status == "running":
        return or_(table.c.status == "running", and_(idle, table.c.wake_at.is_not(None)))
    return table.c.status == status
