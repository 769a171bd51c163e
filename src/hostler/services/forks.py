"""Forks: a new session with the history of another one up to an event, and its files as they were then.

What the old session has spent is not the new one's, and neither knows of the other afterwards. It must not decide where
a history may end (`forking`), or how it is copied (`copying`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.harness import checkpoints as checkpoint_rows
from hostler.harness.checkpoints import HERE, NONE, SNAPSHOT, Checkpoint
from hostler.harness.ledger import EMPTY_LEDGER
from hostler.harness.life import Life
from hostler.ids import new_id
from hostler.services import copying, forking
from hostler.services.checkpoints import answered, shown
from hostler.services.forking import Cut, cut_tx
from hostler.services.session_rows import find_tx, read_tx
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import sessions
from hostler.vault.sealing import NotOpened, Sealer
from hostler.wire.base import encode
from hostler.wire.checkpoints import ForkedSession, ForkParams, Origin
from hostler.wire.sessions import Session

_ROW = select(sessions).where(sessions.c.id == bindparam("s"))
_ENVIRONMENT = select(sessions.c.environment).where(sessions.c.id == bindparam("s"))
_INSERT = insert(sessions)


class Forks:
    def __init__(self, store: Store, life: Life, sealer: Sealer) -> None:
        self._store = store
        self._life = life
        self._sealer = sealer

    async def fork(self, session_id: str, params: ForkParams) -> ForkedSession:
        """Make the new session; it rests until somebody sends it something. Raises NotFound, InvalidRequest and
        Unavailable, and then there is none."""
        cut = await self._store.read(lambda: _checked_tx(session_id, params.event_id))
        await self._write_down_present(session_id, cut)
        new = new_id("sesn")
        async with self._life.alone(new), self._life.alone(session_id):
            source = await self._store.read(lambda: _nearest_tx(session_id, cut))
            idle = (cut.idle.position, cut.idle.id) if cut.idle is not None else (0, None)
            copy = await answered(self._life.lend(source, new, *idle)) if source is not None else None
            try:
                made = await self._store.write(lambda: self._fork_tx(session_id, new, cut, (source, copy), params))
            except NotFound:
                if copy is not None:
                    self._life.take_back(copy)
                raise
        taken = shown(source, None) if source is not None else None
        origin = Origin(session_id=session_id, event_id=cut.event_id, checkpoint=taken)
        fields = {name: getattr(made, name) for name in made.__struct_fields__}
        return ForkedSession(**fields, forked_from=origin)

    async def _write_down_present(self, session_id: str, cut: Cut) -> None:
        """Where the fork is of the present, its files are to be those of now, not of some seconds ago."""

        def tx() -> Tx[bool]:
            state = yield from checkpoint_rows.state_tx(session_id)
            last, _ = yield from checkpoint_rows.last_idle_tx(session_id)
            return state is not None and state.resting and state.sandbox == HERE and cut.position >= last

        if await self._store.read(tx):
            try:
                await answered(self._life.checkpoint(session_id))
            except InvalidRequest:
                if await self._store.read(tx):  # not because somebody has woken it meanwhile
                    raise

    def _fork_tx(
        self,
        old: str,
        new: str,
        cut: Cut,
        files: tuple[Checkpoint | None, Checkpoint | None],
        params: ForkParams,
    ) -> Tx[Session]:
        """`files` are the checkpoint that the files are from, and what the new session has of it."""
        now, (source, copy) = clock.now(), files
        yield from find_tx(old)
        (row,) = yield from copying.all_tx(sessions, _ROW, {"s": old})
        at = now if cut.present or cut.idle is None else cut.position
        taken = yield from copying.copy_resources_tx(old, new, at, self._resealed)
        files_from = source.position if source is not None else -1
        next_seq, queued = yield from copying.copy_entries_tx(old, new, cut, files_from, taken)
        counted = {"next_seq": next_seq, "queued": queued, "last_at": max(cut.position, row["created_at"])}
        begun = {"sandbox": SNAPSHOT, "sandbox_at": now, "checkpoint_id": copy.id} if copy is not None else {}
        then = yield from _then_tx(row, cut, params)
        yield _INSERT, {**row, **_new_row(new, now), **counted, **then, **begun}
        if copy is not None:
            yield from checkpoint_rows.add_tx(copy)
        yield from copying.copy_rest_tx(old, new, at)
        return (yield from read_tx(new))

    def _resealed(self, old: str, new: str, secret: bytes | None) -> bytes | None:
        """A repository's token, sealed for the row that holds it now."""
        if secret is None:
            return None
        try:
            return self._sealer.seal(new, self._sealer.open(old, secret))
        except NotOpened:
            return None  # the checkout will say that it has no access


def _checked_tx(session_id: str, event_id: str | None) -> Tx[Cut]:
    yield from find_tx(session_id)
    cut = yield from cut_tx(session_id, event_id)
    if forking.stop_of(cut).get("event_ids") and (yield from is_self_hosted_tx(session_id)):
        raise InvalidRequest(
            "event_id: a tool call of this self-hosted session waits for a worker there; fork where none does"
        )
    return cut


def is_self_hosted_tx(session_id: str) -> Tx[bool]:
    """Whether a session's tools run at workers."""
    found = yield _ENVIRONMENT, {"s": session_id}
    return bool(found) and msgspec.json.decode(found[0][0], type=_Typed).type == "self_hosted"


class _Typed(msgspec.Struct):
    type: str = ""


def _nearest_tx(session_id: str, cut: Cut) -> Tx[Checkpoint | None]:
    """The newest checkpoint of the files at or before the cut."""
    found = yield from checkpoint_rows.all_tx(session_id)
    return next((each for each in found if each.position <= cut.position), None)


def _then_tx(row: dict[str, Any], cut: Cut, params: ForkParams) -> Tx[dict[str, Any]]:
    """The columns that are as they were at the cut, or as the request says."""
    stop = forking.stop_of(cut)
    agent = yield from forking.agent_tx(row["id"], cut, row["agent"], row["first_agent"])
    outcomes = yield from forking.outcomes_tx(row["id"], cut, row["thread_id"], row["outcomes"])
    return {
        "agent": agent,
        "first_agent": row["first_agent"],
        "outcomes": outcomes,
        "pending": encode(stop.get("event_ids", [])),
        "paused": int(stop["type"] == "budget_reached"),
        **({"title": params.title} if params.title is not None else {}),
        **({"metadata": encode(params.metadata)} if params.metadata is not None else {}),
    }


def _new_row(session_id: str, now: int) -> dict[str, Any]:
    """The columns of a session at rest that has spent nothing."""
    return {
        "id": session_id,
        "status": "idle",
        "usage": EMPTY_LEDGER,
        "active_us": 0,
        "running_since": None,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
        "fence": 0,
        "lease_owner": None,
        "lease_until": None,
        "wake_at": None,
        "sandbox": NONE,
        "sandbox_at": None,
        "checkpoint_id": None,
    }
