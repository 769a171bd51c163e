"""What is written down of an agent's call while it goes on: rows of the store where the server makes it.

It must not make a call.
"""

from __future__ import annotations

from typing import Protocol

from hostler.runbooks.invoking import rows
from hostler.store.store import Store


class Notes(Protocol):
    async def begun(self, run: rows.AgentRun, session_id: str) -> None:
        """The session is there; it has no message yet."""
        ...

    async def told(self, run: rows.AgentRun, session_id: str, told: list[rows.Told]) -> None:
        """What the agent did. The same may be told again after a crash."""
        ...

    async def replies(self, run: rows.AgentRun) -> dict[str, rows.Reply]:
        """What people have said to this call's questions so far, by the event that asked."""
        ...


class Stored:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def begun(self, run: rows.AgentRun, session_id: str) -> None:
        await self._store.write(lambda: rows.session_tx(run, session_id))

    async def told(self, run: rows.AgentRun, session_id: str, told: list[rows.Told]) -> None:
        await self._store.write(lambda: rows.tell_tx(run, session_id, told))

    async def replies(self, run: rows.AgentRun) -> dict[str, rows.Reply]:
        runs = await self._store.read(lambda: rows.of_task_tx(run.task_id))
        return {each.event_id: each for other in runs if other.key == run.key for each in other.replies}
