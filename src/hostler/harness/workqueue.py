"""Puts a session into the work queue of its self-hosted environment, and tells those who wait for work.

A session has one item that is not stopped, or none: putting it in twice changes nothing. It must not hand items out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Executable, bindparam, exists, insert, select

from hostler.ids import new_id
from hostler.store.tables import work

DEFAULT_TTL_SECONDS = 300

_NAMES = (
    "id",
    "environment_id",
    "session_id",
    "state",
    "metadata",
    "created_at",
    "queued_at",
    "ttl_seconds",
    "attempts",
)
_ENQUEUE = insert(work).from_select(
    list(_NAMES),
    select(*(bindparam(f"new_{name}", type_=work.c[name].type) for name in _NAMES)).where(
        ~exists(
            select(work.c.id).where(
                work.c.session_id == bindparam("s", type_=work.c.session_id.type), work.c.state != "stopped"
            )
        )
    ),
)


def enqueued(environment_id: str, session_id: str, now: int, *, attempts: int = 0) -> tuple[Executable, dict[str, Any]]:
    """The statement that gives a session an item, unless it has one."""
    row = {
        "id": new_id("work"),
        "environment_id": environment_id,
        "session_id": session_id,
        "state": "queued",
        "metadata": b"{}",
        "created_at": now,
        "queued_at": now,
        "ttl_seconds": DEFAULT_TTL_SECONDS,
        "attempts": attempts,
    }
    return _ENQUEUE, {"s": session_id, **{f"new_{name}": value for name, value in row.items()}}


class WorkHints:
    """Who waits for the work of which environment. A hint may be lost, for a poll ends within a second anyway."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, environment_id: str) -> None:
        """There may be work now: call it after the commit."""
        for event in self._waiting.get(environment_id, ()):
            event.set()

    def listen(self, environment_id: str) -> asyncio.Event:
        """An event that is set from now on when there may be work. Give it back to `leave`."""
        event = asyncio.Event()
        self._waiting.setdefault(environment_id, set()).add(event)
        return event

    def leave(self, environment_id: str, event: asyncio.Event) -> None:
        waiting = self._waiting.get(environment_id, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(environment_id, None)
