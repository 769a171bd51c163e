"""The stored threads of sessions with several agents: reads them and shows them on the wire. It must not write."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from hostler import clock
from hostler.harness.ledger import read_ledger
from hostler.services.reading import rows
from hostler.services.rosters import thread_agent
from hostler.services.snapshots import SessionRow
from hostler.store.sql import Tx
from hostler.store.tables import threads
from hostler.wire.agents import InlineAgent, SessionThreadAgent
from hostler.wire.base import timestamp
from hostler.wire.multiagent import Advisor
from hostler.wire.threads import SessionThread
from hostler.wire.usage import ThreadStats

_c = threads.c
_OF_SESSION = (
    select(
        _c.id, _c.parent_id, _c.name, _c.agent, _c.status, _c.usage, _c.active_us, _c.running_since, _c.created_at,
        _c.updated_at, _c.archived_at,
    )
    .where(_c.session_id == bindparam("s"))
    .order_by(_c.created_at, _c.id)
)  # fmt: skip
_OPEN = select(_c.id).where(
    _c.session_id == bindparam("s"), _c.parent_id.is_not(None), _c.archived_at.is_(None), _c.status != "terminated"
)
_agent = msgspec.json.Decoder(SessionThreadAgent | Advisor | InlineAgent).decode
_ROSTER = b'"multiagent":{'


class StoredThread(msgspec.Struct, frozen=True):
    """One row."""

    id: str
    parent_id: str | None
    name: str
    agent: bytes
    status: str
    usage: bytes
    active_us: int
    running_since: int | None
    created_at: int
    updated_at: int
    archived_at: int | None

    @property
    def ended(self) -> bool:
        return self.archived_at is not None or self.status == "terminated"

    def active_seconds(self, now: int) -> float:
        open_us = max(0, now - self.running_since) if self.running_since is not None else 0
        return (self.active_us + open_us) / 1e6


def threads_tx(session_id: str, agent: bytes) -> Tx[list[StoredThread]]:
    """The threads of a session, the primary one first; none for one that can have only that. `agent` is the session's
    snapshot."""
    if _ROSTER not in agent:
        return []
    found = yield from rows(_OF_SESSION, {"s": session_id})
    return [StoredThread(*row) for row in found]


def children_tx(session_id: str, agent: bytes) -> Tx[tuple[str, ...]]:
    """The ids of the child threads that have not ended."""
    if _ROSTER not in agent:
        return ()
    found = yield from rows(_OPEN, {"s": session_id})
    return tuple(row[0] for row in found)


def active_seconds_tx(session_id: str, agent: bytes) -> Tx[float | None]:
    """The running time of all threads added up, for a session that has several."""
    stored = yield from threads_tx(session_id, agent)
    now = clock.now()
    return sum(thread.active_seconds(now) for thread in stored) if stored else None


def shown(session: SessionRow, thread: StoredThread, now: int) -> SessionThread:
    """The thread on the wire."""
    usage = read_ledger(thread.usage).wire(int(thread.active_seconds(now) * 1e6), runtime=False)
    archived_at = thread.archived_at or session.archived_at
    lived = ((archived_at or now) - thread.created_at) / 1e6
    stats = ThreadStats(active_seconds=thread.active_seconds(now), duration_seconds=max(0.0, lived))
    started = bool(thread.active_us or thread.running_since) or thread.status == "terminated"
    return SessionThread(
        id=thread.id,
        session_id=session.id,
        # A session may have been given other tools: its primary thread works with the session's own agent.
        agent=_agent(thread.agent) if thread.parent_id else thread_agent(session.read_agent()),
        status=_status(session, thread),
        parent_thread_id=thread.parent_id,
        stats=stats if started else None,
        usage=usage if thread.active_us else None,
        created_at=timestamp(thread.created_at),
        updated_at=timestamp(thread.updated_at),
        archived_at=timestamp(archived_at) if archived_at is not None else None,
    )


def _status(session: SessionRow, thread: StoredThread) -> Any:
    return "terminated" if session.archived_at is not None else thread.status
