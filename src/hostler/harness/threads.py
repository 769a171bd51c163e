"""The threads of a session as rows: read with a wake, written with the events that change them. It must not decide
anything.

Only sessions with several agents have rows; the one thread of any other session is the session itself.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update

from hostler.harness.ledger import EMPTY_LEDGER, Ledger, read_ledger
from hostler.store.sql import Request, Tx
from hostler.store.tables import threads
from hostler.wire.agents import SessionAgent

MAX_CHILDREN = 25

_OF_SESSION = (
    select(
        threads.c.id,
        threads.c.parent_id,
        threads.c.name,
        threads.c.agent,
        threads.c.usage,
        threads.c.active_us,
        threads.c.running_since,
    )
    .where(threads.c.session_id == bindparam("s"), threads.c.archived_at.is_(None))
    .order_by(threads.c.created_at, threads.c.id)
)
_INSERT = insert(threads)


class ThreadRow(msgspec.Struct, kw_only=True):
    """One thread. `agent` is what it works with; `ledger` and the times are None where the session's own count."""

    id: str
    parent_id: str | None
    name: str
    agent: SessionAgent
    ledger: Ledger
    active_us: int = 0
    running_since: int | None = None
    archived: bool = False
    stored: bool = False  # has a row
    shown: bytes = b""  # its `agent` on the wire, to be stored


def threads_tx(session_id: str) -> Tx[list[ThreadRow]]:
    """The stored threads of a session that have not ended, the primary one first. Those of advisors end as they are
    written."""
    rows = yield _OF_SESSION, {"s": session_id}
    return [
        ThreadRow(
            id=thread_id,
            parent_id=parent_id,
            name=name,
            agent=read_agent(agent),
            ledger=read_ledger(usage),
            active_us=active_us,
            running_since=running_since,
            stored=True,
        )
        for thread_id, parent_id, name, agent, usage, active_us, running_since in rows
    ]


def read_agent(body: bytes) -> SessionAgent:
    """A thread's agent as the harness works with it: an inline one is an agent without id and version."""
    value = msgspec.json.decode(body)
    if value["type"] == "inline":
        value |= {"type": "agent", "id": "", "version": 0}
    return msgspec.convert(value, SessionAgent)


def stored_row(session_id: str, row: ThreadRow, now: int) -> Request:
    """The statement that adds a thread which has just been opened."""
    ended: dict[str, Any] = {"status": "terminated", "archived_at": now} if row.archived else {}
    usage = {"usage": msgspec.json.encode(row.ledger), "active_us": row.active_us}
    return insertion(session_id, row.id, row.parent_id, row.name, row.shown, now, **usage, **ended)


def insertion(
    session_id: str, thread_id: str, parent_id: str | None, name: str, agent: bytes, now: int, **more: Any
) -> Request:
    """The statement that adds a thread."""
    row = {
        "session_id": session_id,
        "id": thread_id,
        "parent_id": parent_id,
        "name": name,
        "agent": agent,
        "status": "idle",
        "usage": EMPTY_LEDGER,
        "active_us": 0,
        "running_since": None,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
    }
    return _INSERT, {**row, **more}


def change(session_id: str, thread_id: str, **columns: Any) -> Request:
    """The statement that changes a thread."""
    values = {f"set_{name}": value for name, value in columns.items()}
    return _change(tuple(sorted(columns))), {"s": session_id, "t": thread_id, **values}


_changes: dict[tuple[str, ...], Any] = {}


def _change(columns: tuple[str, ...]) -> Any:
    if columns not in _changes:
        _changes[columns] = (
            update(threads)
            .where(threads.c.session_id == bindparam("s"), threads.c.id == bindparam("t"))
            .values(**{name: bindparam(f"set_{name}", type_=threads.c[name].type) for name in columns})
        )
    return _changes[columns]
