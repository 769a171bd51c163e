"""What is done for a task on the server: each thing is written to its journal, under the lease of who asks.

It must not know workers, nor when one is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hostler import clock
from hostler.errors import NotFound
from hostler.runbooks import messages as m
from hostler.runbooks import tasks as rows
from hostler.runbooks.contract import Agents, Data, Library
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.journal import answer_tx, append_tx
from hostler.store.dispatch import Lease
from hostler.store.rounds import survived
from hostler.store.sql import Tx
from hostler.store.store import Store

log = logging.getLogger(__name__)

MAX_ID = 400  # characters of an id, in which the ids of all ancestors are
MAX_CHILDREN = 1000
CHILD_SECONDS = 30.0  # between two looks at a child whose end nobody here has told


class Hosting:
    """Its calls raise Taken and Unavailable."""

    def __init__(self, store: Store, library: Library, agents: Agents, data: Data, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self.store = store
        self.data = data
        self._library = library
        self._agents = agents
        self._ends: dict[str, set[asyncio.Future[None]]] = {}  # who waits here for the end of a task

    async def append(self, lease: Lease, drafts: list[Draft], patch: dict[str, Any]) -> list[Entry]:
        now = clock.now()
        written = await self.store.write(
            lambda: append_tx(lease.session_id, drafts, now=now, token=lease.token, patch=patch)
        )
        if any(draft.kind == "ended" for draft in drafts):
            for waiting in self._ends.pop(lease.session_id, ()):
                if not waiting.done():
                    waiting.set_result(None)
        return written

    async def end(self, lease: Lease, kind: str, message: str) -> None:
        """End a task that can't go on."""
        draft = Draft(kind="ended", body={"error": {"type": kind, "message": message}})
        await self.append(lease, [draft], rows.ending(draft, clock.now()))

    async def tidy_up(self, task_id: str) -> None:
        """After a task's end."""
        await survived(self._agents.abandon(task_id), log, f"task {task_id}: its agents' sessions could not be ended")

    async def tidy_up_all(self) -> None:
        """What ends left behind on which a crash followed."""
        await survived(self._agents.abandon_left(), log, "sessions of tasks that are over could not be ended")

    # -- children --

    async def start_child(self, lease: Lease, asked: m.StartChild) -> Entry:
        """Make a task and write down in its parent's journal that it was made: one commit. Raises NotFound."""
        parent_id, now = lease.session_id, clock.now()

        def tx() -> Tx[Entry]:
            known = yield from answer_tx(parent_id, "child", asked.key)
            if known is not None:
                return known
            parent = yield from rows.find_tx(parent_id)
            yield from _fits_tx(parent_id, asked.task_id)
            revision = yield from self._library.deployed_tx(asked.slug)
            yield from rows.create_tx(
                asked.task_id,
                tenant_id=parent.tenant_id,
                entity_id=parent.entity_id,
                workflow_id=parent.workflow_id,
                runbook=asked.slug,
                version=revision.version,
                digest=revision.digest,
                title=asked.slug,
                context={},
                parent_id=parent_id,
                value=asked.value,
            )
            draft = Draft(kind="child", key=asked.key, body={"task_id": asked.task_id, "runbook": asked.slug})
            (entry,) = yield from append_tx(parent_id, [draft], now=now, token=lease.token)
            return entry

        entry = await self.store.write(tx)
        self._wake(asked.task_id)
        return entry

    async def child_end(self, lease: Lease, child_id: str) -> Entry:
        """Wait for a child's end, and write it into the parent's journal. Raises NotFound for who is no child of it."""
        if (await self.store.read(lambda: rows.find_tx(child_id))).parent_id != lease.session_id:
            raise NotFound(f"Task {child_id} is no child of task {lease.session_id}.")
        while (end := await self.store.read(lambda: answer_tx(child_id, "ended", ""))) is None:
            waiting = asyncio.get_running_loop().create_future()
            self._ends.setdefault(child_id, set()).add(waiting)
            try:
                async with asyncio.timeout(CHILD_SECONDS):
                    await waiting
            except TimeoutError:
                pass
            finally:
                self._ends.get(child_id, set()).discard(waiting)
        draft = Draft(kind="child_ended", key=f"child:{child_id}", body=end.body, value=end.value)
        return (await self.append(lease, [draft], {}))[0]

    # -- agents --

    async def agent(self, lease: Lease, key: str, asked: dict[str, Any] | None) -> Entry:
        """Run an agent, and write down how it ended: one commit with the end of its run. Raises NotFound."""
        task_id = lease.session_id
        draft = await self._agents.run(task_id, key, asked)

        def tx() -> Tx[Entry]:
            (entry,) = yield from append_tx(task_id, [draft], now=clock.now(), token=lease.token)
            yield from self._agents.ended_tx(task_id, key)
            return entry

        return await self.store.write(tx)

    async def forget_agent(self, lease: Lease, key: str) -> None:
        await self._agents.abandon(lease.session_id, key)

    def asks(self, task_id: str) -> bool:
        return self._agents.asks(task_id)


def _fits_tx(parent_id: str, child_id: str) -> Tx[None]:
    """A child is known by its id to belong to its root, and there are not more of them than can be looked at. Raises
    NotFound, which is an answer that the runbook gets."""
    if not child_id.startswith(f"{parent_id}:") or len(child_id) > MAX_ID:
        raise NotFound(f"A child of {parent_id[:90]} has that id before its own, {MAX_ID} characters at most.")
    if (yield rows.THERE, {"id": child_id}):
        raise NotFound(f"There is a task {child_id} already.")
    ((count,),) = yield rows.CHILDREN, {"t": parent_id}
    if count >= MAX_CHILDREN:
        raise NotFound(f"Task {parent_id} has {count} children, which is as many as there may be.")
