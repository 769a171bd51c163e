"""Checkpoints of sessions as clients see them: list them, and turn a sandbox into one. It must not write any itself."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from hostler.errors import InvalidRequest, Unavailable
from hostler.harness import checkpoints as rows
from hostler.harness.life import Life
from hostler.sandbox.contract import SandboxUnavailable, SnapshotTooLarge
from hostler.services.resources import missing_session
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.wire import checkpoints as wire
from hostler.wire.base import timestamp

T = TypeVar("T")


class Checkpoints:
    def __init__(self, store: Store, life: Life) -> None:
        self._store = store
        self._life = life

    async def list(self, session_id: str) -> list[wire.Checkpoint]:
        """The newest first."""

        def tx() -> Tx[list[wire.Checkpoint]]:
            state = yield from rows.state_tx(session_id)
            if state is None:
                raise missing_session(session_id)
            found = yield from rows.all_tx(session_id)
            return [shown(each, state.checkpoint_id) for each in found]

        return await self._store.read(tx)

    async def hibernate(self, session_id: str) -> wire.Checkpoint:
        """Turn the session's sandbox into a snapshot, from which its next tool call makes it again."""
        made = await answered(self._life.hibernate(session_id))
        if made is None:
            raise InvalidRequest(f"Session {session_id} has no sandbox: none of its tools has needed one.")
        return shown(made, made.id)


def shown(checkpoint: rows.Checkpoint, current: str | None) -> wire.Checkpoint:
    """A checkpoint on the wire; `current` is the one that stands for its session's sandbox."""
    return wire.Checkpoint(
        id=checkpoint.id,
        session_id=checkpoint.session_id,
        event_id=checkpoint.event_id,
        size_bytes=checkpoint.size_bytes,
        hibernated=checkpoint.id == current,
        created_at=timestamp(checkpoint.created_at),
    )


async def answered(work: Awaitable[T]) -> T:
    """What came of it, with a sandbox's failure in words of the API."""
    try:
        return await work
    except SnapshotTooLarge as problem:
        raise InvalidRequest(str(problem)) from problem
    except SandboxUnavailable as problem:
        raise Unavailable(f"The sandbox could not be written down: {problem}.") from problem
