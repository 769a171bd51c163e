"""Threads of a session: so far the primary one, which every session has."""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import InvalidRequest
from hostler.services.events import missing_thread
from hostler.services.sessions import find_tx
from hostler.services.snapshots import primary_thread
from hostler.store.store import Store
from hostler.wire.threads import SessionThread


class Threads:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, session_id: str, statuses: Sequence[str]) -> list[SessionThread]:
        thread = primary_thread(await self._store.read(lambda: find_tx(session_id)))
        return [thread] if not statuses or thread.status in statuses else []

    async def retrieve(self, session_id: str, thread_id: str) -> SessionThread:
        thread = primary_thread(await self._store.read(lambda: find_tx(session_id)))
        if thread.id != thread_id:
            raise missing_thread(thread_id)
        return thread

    async def archive(self, session_id: str, thread_id: str) -> SessionThread:
        await self.retrieve(session_id, thread_id)
        raise InvalidRequest(f"Session thread {thread_id} is the primary thread and can't be archived.")
