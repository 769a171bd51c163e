"""The rows of checkpoints, and what a session's row says of its sandbox. It must not touch files or sandboxes.

`sandbox` is `none` (there was never one), `here` (the backend has it, live or stopped), `snapshot` (it is made from
`checkpoint_id` before its next use) or `expired`. Whatever a backend still has in another state than `here` is a
leftover. So each change is one commit, and a crash beside it leaves one truth.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, delete, insert, select, update

from hostler.store.sql import Many, Tx
from hostler.store.tables import checkpoints, entries, sessions

NONE, HERE, SNAPSHOT, EXPIRED = "none", "here", "snapshot", "expired"
_s, _c = sessions.c, checkpoints.c
_COLUMNS = (_c.id, _c.session_id, _c.position, _c.event_id, _c.size_bytes, _c.sha256, _c.created_at)

_STATE = select(
    _s.sandbox, _s.sandbox_at, _s.checkpoint_id, _s.status, _s.wake_at, _s.lease_owner, _s.archived_at, _s.fence
).where(_s.id == bindparam("s"))
_THREAD = select(_s.thread_id).where(_s.id == bindparam("s"))
# Nobody works on it, and nobody has begun to since its state was read.
_RESTING = and_(_s.id == bindparam("s"), _s.wake_at.is_(None), _s.lease_owner.is_(None), _s.fence == bindparam("f"))
_KEEP = update(sessions).where(_RESTING).values(sandbox=bindparam("to"), checkpoint_id=bindparam("c")).returning(_s.id)
_TOUCH = update(sessions).where(_RESTING).values(fence=_s.fence).returning(_s.id)
_BEGIN = (
    update(sessions)
    .where(_s.id == bindparam("s"), _s.fence == bindparam("f"))
    .values(sandbox=HERE, sandbox_at=bindparam("at"), checkpoint_id=None)
    .returning(_s.id)
)
_END = update(sessions).where(_s.id == bindparam("s")).values(sandbox=NONE, sandbox_at=None, checkpoint_id=None)
_VANISHED = update(sessions).where(_RESTING).values(sandbox=NONE, sandbox_at=None)
_COUNT_FROM = update(sessions).where(_s.sandbox_at == 0).values(sandbox_at=bindparam("now"))
_INSERT = insert(checkpoints)
_OF_SESSION = (
    select(*_COLUMNS).where(_c.session_id == bindparam("s")).order_by(_c.position.desc(), _c.created_at.desc(), _c.id)
)
_ONE = select(*_COLUMNS).where(_c.session_id == bindparam("s"), _c.id == bindparam("c"))
_DELETE = delete(checkpoints).where(_c.id == bindparam("c"))
_DELETE_ALL = delete(checkpoints).where(_c.session_id == bindparam("s"))
_LAST_IDLE = (
    select(entries.c.position, entries.c.id)
    .where(entries.c.session_id == bindparam("s"), entries.c.type == "session.status_idle")
    .order_by(entries.c.position.desc())
    .limit(1)
)
_IDLE = (_s.status == "idle", _s.wake_at.is_(None), _s.lease_owner.is_(None), _s.archived_at.is_(None))
_EXPIRED = (
    select(_s.id)
    .where(*_IDLE, _s.sandbox_at.is_not(None), _s.sandbox_at > 0, _s.sandbox_at <= bindparam("before"))
    .order_by(_s.sandbox_at)
    .limit(bindparam("n"))
)
_RESTED = (
    select(_s.id)
    .where(*_IDLE, _s.sandbox == HERE, _s.sandbox_at.is_not(None), _s.last_at <= bindparam("before"))
    .order_by(_s.last_at)
    .limit(bindparam("n"))
)
_HERE = select(_s.id).where(_s.sandbox == HERE, _s.archived_at.is_(None))


class Checkpoint(msgspec.Struct, frozen=True):
    """One row."""

    id: str
    session_id: str
    position: int
    event_id: str | None
    size_bytes: int
    sha256: str
    created_at: int


class State(msgspec.Struct, frozen=True):
    """What a session's row says of its sandbox, and whether anybody works on it."""

    sandbox: str
    sandbox_at: int | None
    checkpoint_id: str | None
    status: str
    wake_at: int | None
    lease_owner: str | None
    archived_at: int | None
    fence: int

    @property
    def resting(self) -> bool:
        idle = self.status == "idle" and self.wake_at is None and self.lease_owner is None
        return idle and self.archived_at is None

    def undisturbed(self, before: State) -> bool:
        """Whether nobody works on the session, nor has since `before`. What became of its sandbox meanwhile is no
        matter: it may have been hibernated, or swept away once the session was archived."""
        same = (self.fence, self.archived_at) == (before.fence, before.archived_at)
        return same and (self.resting or self.archived_at is not None)

    def expired(self, now: int, retention_us: int) -> bool:
        return bool(self.sandbox_at) and (self.sandbox_at or 0) + retention_us <= now


def state_tx(session_id: str) -> Tx[State | None]:
    rows = yield _STATE, {"s": session_id}
    return State(*rows[0]) if rows else None


def thread_tx(session_id: str) -> Tx[str]:
    """The id of a session's primary thread."""
    rows = yield _THREAD, {"s": session_id}
    thread_id: str = rows[0][0]
    return thread_id


def all_tx(session_id: str) -> Tx[list[Checkpoint]]:
    """The checkpoints of a session, the newest first."""
    rows = yield _OF_SESSION, {"s": session_id}
    return [Checkpoint(*row) for row in rows]


def one_tx(session_id: str, checkpoint_id: str) -> Tx[Checkpoint | None]:
    rows = yield _ONE, {"s": session_id, "c": checkpoint_id}
    return Checkpoint(*rows[0]) if rows else None


def last_idle_tx(session_id: str) -> Tx[tuple[int, str | None]]:
    """Position and id of the end of the last turn; zero and None before the first."""
    rows = yield _LAST_IDLE, {"s": session_id}
    return (rows[0][0], rows[0][1]) if rows else (0, None)


def add_tx(checkpoint: Checkpoint) -> Tx[None]:
    yield _INSERT, msgspec.structs.asdict(checkpoint)


def keep_tx(checkpoint: Checkpoint, state: State, *, hibernated: bool) -> Tx[bool]:
    """Add a checkpoint that was made while nobody worked on the session; False when somebody has begun to."""
    params: dict[str, Any] = {"s": checkpoint.session_id, "f": state.fence}
    if hibernated:
        held = yield _KEEP, {**params, "to": SNAPSHOT, "c": checkpoint.id}
    else:
        held = yield _TOUCH, params
    if not held:
        return False
    yield from add_tx(checkpoint)
    return True


def begin_tx(session_id: str, fence: int, at: int) -> Tx[bool]:
    """A sandbox is there from `at` on; False when the writer's lease is gone."""
    return bool((yield _BEGIN, {"s": session_id, "f": fence, "at": at}))


def end_tx(session_id: str) -> Tx[None]:
    """There is no sandbox, and nothing to make one from."""
    yield _END, {"s": session_id}
    yield _DELETE_ALL, {"s": session_id}


def vanished_tx(session_id: str, state: State) -> Tx[None]:
    """The backend has nothing of the sandbox that was there, or was to be."""
    yield _VANISHED, {"s": session_id, "f": state.fence}


def delete_tx(ids: list[str]) -> Tx[None]:
    yield Many(_DELETE, [{"c": checkpoint_id} for checkpoint_id in ids])


def delete_all_tx(session_id: str) -> Tx[None]:
    yield _DELETE_ALL, {"s": session_id}


def count_from_tx(now: int) -> Tx[None]:
    """Those of which nobody knows when they were made count from now on."""
    yield _COUNT_FROM, {"now": now}


def due_tx(expired_before: int, rested_before: int | None, most: int) -> Tx[tuple[list[str], list[str]]]:
    """Sessions whose sandbox has expired, and those whose sandbox has rested long enough to be hibernated."""
    expired = yield _EXPIRED, {"before": expired_before, "n": most}
    rested = [] if rested_before is None else (yield _RESTED, {"before": rested_before, "n": most})
    return [row[0] for row in expired], [row[0] for row in rested]


def here_tx(ids: list[str]) -> Tx[set[str]]:
    """Those of these sessions whose sandbox the backend has."""
    rows = yield _HERE.where(_s.id.in_(ids))
    return {row[0] for row in rows}
