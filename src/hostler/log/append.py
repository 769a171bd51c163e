"""The one way into a session's log: a transaction that orders, fences and writes entries together with what they cause.

Everything runs inside a store transaction (see `store.sql.Tx`), so that a service or the harness can add statements of
its own to the same commit. It must not publish: that comes after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import bindparam, case, insert, select, update
from sqlalchemy.sql.base import Executable

from hostler.errors import NotFound
from hostler.log.entries import Draft, Entry, Item
from hostler.store.sql import Many, Tx
from hostler.store.tables import QUEUED, entries, sessions


class StaleLease(Exception):
    """Another writer holds this session now. Whoever gets this must stop at once and write nothing more."""


class NewInput(Exception):
    """The log has grown since the writer last read it: read again, then decide again."""


class Appended(msgspec.Struct, frozen=True):
    """What an append wrote, in list order, and the sequence number that the next entry will get."""

    entries: list[Entry]
    next_seq: int


_INSERT = insert(entries)
_PLACE = (
    update(entries)
    .where(entries.c.session_id == bindparam("s"), entries.c.seq == bindparam("q"))
    .values(position=bindparam("p"))
)
_HEAD = select(sessions.c.fence, sessions.c.next_seq).where(sessions.c.id == bindparam("s"))


def append_tx(
    session_id: str,
    thread_id: str,
    items: Sequence[Item],
    *,
    now: int,
    token: int | None = None,
    seen: int | None = None,
    patch: dict[str, Any] | None = None,
) -> Tx[Appended]:
    """Append `items` in this order and set the session columns in `patch`, all or nothing. `thread_id` is the primary
    thread's.

    `token` is the fencing token of the writer's lease: the harness must give it; the API appends what a client sent
    without one. `seen` is the `next_seq` that the writer's decision stands on. Raises StaleLease, NewInput or NotFound.
    """
    placed = sum(1 for item in items if not (isinstance(item, Draft) and item.queued))
    drafts = sum(1 for item in items if isinstance(item, Draft))
    queued = sum(1 for item in items if isinstance(item, Draft) and item.queued) - (len(items) - drafts)
    patch = patch or {}
    params = {"s": session_id, "n": drafts, "k": placed, "now": now, "dq": queued, "token": token, "seen": seen}
    statement = _advance(token is not None, seen is not None, tuple(sorted(patch)))
    head = yield statement, {**params, **{f"set_{name}": value for name, value in patch.items()}}
    if not head:
        yield from _explain(session_id, token)
    next_seq, last_at = head[0]
    written = _place(items, thread_id, next_seq - drafts, last_at - placed + 1)
    yield from _write(session_id, items, written)
    return Appended(written, next_seq)


@lru_cache(maxsize=256)
def _advance(fenced: bool, guarded: bool, patched: tuple[str, ...]) -> Executable:
    """Count entries and places up on the session's row. `last_at` never goes back, whatever the clock does."""
    columns = sessions.c
    statement = update(sessions).where(columns.id == bindparam("s"))
    if fenced:
        statement = statement.where(columns.fence == bindparam("token"))
    if guarded:
        statement = statement.where(columns.next_seq == bindparam("seen"))
    count = bindparam("k", type_=columns.last_at.type)
    clock = bindparam("now", type_=columns.last_at.type)
    return statement.values(
        next_seq=columns.next_seq + bindparam("n", type_=columns.next_seq.type),
        last_at=case((columns.last_at >= clock, columns.last_at + count), else_=clock + count - 1),
        queued=columns.queued + bindparam("dq", type_=columns.queued.type),
        updated_at=clock,
        **{name: bindparam(f"set_{name}", type_=columns[name].type) for name in patched},
    ).returning(columns.next_seq, columns.last_at)


def _explain(session_id: str, token: int | None) -> Tx[None]:
    rows = yield _HEAD, {"s": session_id}
    if not rows:
        raise NotFound(f"Session {session_id} was not found.")
    if token is not None and rows[0][0] != token:
        raise StaleLease(session_id)
    raise NewInput(session_id)


def _place(items: Sequence[Item], thread_id: str, seq: int, position: int) -> list[Entry]:
    """Give each item its sequence number (drafts) and its position (all but those that stay queued)."""
    written = []
    for item in items:
        if isinstance(item, Draft):
            at = QUEUED + seq if item.queued else position
            written.append(item.place(seq, at, thread_id))
            seq += 1
        else:
            at = position
            written.append(msgspec.structs.replace(item.entry, position=at))
        position += at < QUEUED
    return written


def _write(session_id: str, items: Sequence[Item], written: list[Entry]) -> Tx[None]:
    rows = [
        {
            "session_id": session_id,
            "seq": entry.seq,
            "position": entry.position,
            "id": entry.id,
            "thread_id": entry.thread_id,
            "type": entry.type,
            "private": entry.private,
            "answers": item.answers,
            "body": entry.body,
        }
        for item, entry in zip(items, written, strict=True)
        if isinstance(item, Draft)
    ]
    moves = [
        {"s": session_id, "q": entry.seq, "p": entry.position}
        for item, entry in zip(items, written, strict=True)
        if not isinstance(item, Draft)
    ]
    if rows:
        yield Many(_INSERT, rows)
    if moves:
        yield Many(_PLACE, moves)
