"""The journals of tasks on the server's side: the one way to append to them, and to read them.

Everything is a transaction of the store's kind, so that what an entry causes is committed with it. It must not know
workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.sql.base import Executable

from hostler.errors import NotFound
from hostler.runbooks.entries import Draft, Entry
from hostler.store.sql import Many, Tx
from hostler.store.tables import task_entries, tasks

ANSWERS = frozenset({"step", "activity", "waiting", "waited", "child", "child_ended", "agent", "ended"})
_e, _t = task_entries.c, tasks.c
_INSERT = insert(task_entries)
_READ = (
    select(_e.position, _e.kind, _e.key, _e.at, _e.body, _e.value)
    .where(_e.task_id == bindparam("t"), _e.position > bindparam("after"))
    .order_by(_e.position)
)
_ANSWER = select(_e.position, _e.kind, _e.key, _e.at, _e.body, _e.value).where(
    _e.task_id == bindparam("t"), _e.kind == bindparam("kind"), _e.key == bindparam("key")
)
_HEAD = select(_t.fence, _t.closed_at).where(_t.id == bindparam("t"))


class Taken(Exception):
    """Another worker has this task now, or it is over. Whoever gets this must stop at once."""


def append_tx(
    task_id: str, drafts: Sequence[Draft], *, now: int, token: int | None = None, patch: dict[str, Any] | None = None
) -> Tx[list[Entry]]:
    """Append entries, and set the task's columns in `patch`. An answer that is there is not written twice: what is
    there is returned in its place. `token` is the fencing token of the writer's lease. Raises Taken, NotFound."""
    fresh, known = [], {}
    for draft in drafts:
        found = (yield from answer_tx(task_id, draft.kind, draft.key)) if draft.kind in ANSWERS else None
        if found is None:
            fresh.append(draft)
        else:
            known[draft.kind, draft.key] = found
    params = {"t": task_id, "n": len(fresh), "now": now, "token": token}
    patch = patch or {}
    params |= {f"set_{name}": value for name, value in patch.items()}
    rows = yield _advance(token is not None, tuple(sorted(patch))), params
    if not rows:
        head = yield _HEAD, {"t": task_id}
        raise Taken(task_id) if head else NotFound(f"Task {task_id} was not found.")
    position = rows[0][0] - len(fresh)
    written = []
    for draft in drafts:
        if (found := known.get((draft.kind, draft.key))) is not None:
            written.append(found)
            continue
        fields = {name: getattr(draft, name) for name in Draft.__struct_fields__}
        written.append(Entry(**fields, position=position, at=now))
        position += 1
    yield Many(_INSERT, [_row(task_id, entry) for entry in written if entry not in known.values()])
    return written


@lru_cache(maxsize=64)
def _advance(fenced: bool, patched: tuple[str, ...]) -> Executable:
    statement = update(tasks).where(_t.id == bindparam("t"), _t.closed_at.is_(None))
    if fenced:
        statement = statement.where(_t.fence == bindparam("token"))
    return statement.values(
        next_position=_t.next_position + bindparam("n", type_=_t.next_position.type),
        updated_at=bindparam("now"),
        **{name: bindparam(f"set_{name}", type_=_t[name].type) for name in patched},
    ).returning(_t.next_position)


def read_tx(task_id: str, after: int = 0) -> Tx[list[Entry]]:
    rows = yield _READ, {"t": task_id, "after": after}
    return [_entry(row) for row in rows]


def answer_tx(task_id: str, kind: str, key: str) -> Tx[Entry | None]:
    """The one answer that a call can have."""
    rows = yield _ANSWER, {"t": task_id, "kind": kind, "key": key}
    return _entry(rows[0]) if rows else None


def _entry(row: Sequence[Any]) -> Entry:
    position, kind, key, at, body, value = row
    return Entry(position=position, kind=kind, key=key, at=at, body=msgspec.json.decode(body), value=value)


def _row(task_id: str, entry: Entry) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "position": entry.position,
        "kind": entry.kind,
        "key": entry.key,
        "at": entry.at,
        "body": msgspec.json.encode(entry.body),
        "value": entry.value,
    }
