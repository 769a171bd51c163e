"""Where an interrupt goes: to every thread of a session, or to the one it names. It must not commit anything.

The client's event waits on the thread it is for, the primary one when it is for all; each child then gets a private
note of its own, so that every thread applies its interrupt by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import bindparam, select

from hostler.harness.state import INTERRUPT
from hostler.log.entries import Draft
from hostler.services.reading import first
from hostler.store.sql import Tx
from hostler.store.tables import entries

_THREAD = (
    select(entries.c.thread_id)
    .where(entries.c.session_id == bindparam("s"), entries.c.id == bindparam("id"))
    .order_by(entries.c.private.desc())
)


class _State(Protocol):
    @property
    def session_id(self) -> str: ...
    @property
    def thread_id(self) -> str: ...
    @property
    def children(self) -> tuple[str, ...]: ...


def drafted(target: str | None, state: _State, *, queued: bool) -> Draft:
    """The client's event. Of a session at rest there is nothing to interrupt: it is noted, and nobody is woken."""
    fields = {"session_thread_id": target} if target is not None else {}
    return Draft(
        type="user.interrupt",
        fields=fields,
        queued=queued,
        thread_id=target if queued and target in state.children else None,
    )


def spread(event: Draft, target: str | None, children: Sequence[str]) -> list[Draft]:
    """The notes for child threads."""
    if target is not None or not event.queued:
        return []
    return [Draft(type=INTERRUPT, queued=True, thread_id=child) for child in children]


def still_pending_tx(state: _State, pending: list[str], target: str | None) -> Tx[list[str]]:
    """The tool uses that clients must answer after all: those of threads that are not interrupted."""
    if target is None or not state.children:
        return []
    left = []
    for event_id in pending:
        row = yield from first(_THREAD, {"s": state.session_id, "id": event_id})
        if row is None or row[0] != target:
            left.append(event_id)
    return left
