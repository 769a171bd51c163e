"""A task with its worker: what the worker asks is answered here, and what comes in for the task is handed on to it.

It must not start a worker, nor decide when one is to be started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Protocol

import msgspec

from hostler import clock
from hostler.errors import NotFound, Unavailable
from hostler.runbooks import messages as m
from hostler.runbooks import tasks as rows
from hostler.runbooks.contract import Data
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.journal import Taken, read_tx
from hostler.runbooks.workers import Worker
from hostler.store.dispatch import Lease
from hostler.store.store import Store, StoreClosed

log = logging.getLogger(__name__)

STORE_DOWN_SECONDS = 2.0
MAX_VIEW = 20 * 1024 * 1024  # of its four parts, each has at most 4 MiB (worker/run.py)
_OWN = frozenset({"step", "activity", "attempt", "waiting", "waited", "moment", "log", "ended"})


class Slot:
    """One of the places for tasks that are at work."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._taken = False

    async def take(self) -> None:
        await self._places.acquire()
        self._taken = True

    def give_back(self) -> None:
        """Once is enough."""
        if self._taken:
            self._taken = False
            self._places.release()


class Host(Protocol):
    """What the runner does for a task: each writes to its journal under the lease. Raises Taken, Unavailable."""

    store: Store
    data: Data

    async def append(self, lease: Lease, drafts: list[Draft], patch: dict[str, Any]) -> list[Entry]: ...

    async def start_child(self, lease: Lease, asked: m.StartChild) -> Entry: ...

    async def child_end(self, lease: Lease, child_id: str) -> Entry: ...

    async def agent(self, lease: Lease, asked: m.RunAgent) -> Entry: ...

    async def forget_agent(self, lease: Lease, key: str) -> None: ...

    def asks(self, task_id: str) -> bool: ...


class Running:
    """A task with its worker."""

    def __init__(self, host: Host, lease: Lease, worker: Worker, entries: list[Entry], slot: Slot) -> None:
        self.lease = lease
        self.worker = worker
        self.over = False
        self._slot = slot
        self.resting = False
        self.progress = False
        self._host = host
        self._seen = entries[-1].position if entries else 0
        self._calls: dict[int, str] = {}  # agents that were asked for, by the message
        self._poking: set[asyncio.Task[None]] = set()

    def poke(self) -> None:
        """Something may have come in for it."""
        task = asyncio.create_task(self._looked())
        self._poking.add(task)
        task.add_done_callback(self._poking.discard)

    async def _looked(self) -> None:
        """While the database is gone it waits: a signal that was accepted is not lost for that."""
        while not self.over and not self.resting:
            try:
                await self._look()
                return
            except (NotFound, StoreClosed):
                return
            except Unavailable as problem:
                log.warning("task %s: what came in waits: %s", self.lease.session_id, problem)
                await asyncio.sleep(STORE_DOWN_SECONDS)

    async def _look(self) -> None:
        task_id, after = self.lease.session_id, self._seen
        store = self._host.store
        for entry in await store.read(lambda: read_tx(task_id, after)):
            self._seen = max(self._seen, entry.position)
            if entry.kind == "signal":
                await self.worker.send(m.Signal(entry=entry))
        if (await store.read(lambda: rows.find_tx(task_id))).cancelled_at is not None:
            await self.worker.send(m.Cancel())

    async def serve(self, message: m.OfWorker) -> m.Reply | None:
        """Answer what the worker asks. While the database is gone it waits: what it did is not lost for that."""
        while True:
            try:
                return await self._answer(message)
            except Unavailable as problem:
                log.warning("task %s: waits: %s", self.lease.session_id, problem)
                await asyncio.sleep(STORE_DOWN_SECONDS)

    async def _answer(self, message: m.OfWorker) -> m.Reply | None:
        try:
            match message:
                case m.Append():
                    return m.Reply(id=message.id, entries=await self._append(message))
                case m.StartChild():
                    entry = await self._host.start_child(self.lease, message)
                case m.AwaitChild():
                    self._slot.give_back()
                    entry = await self._host.child_end(self.lease, message.task_id)
                case m.RunAgent():
                    self._slot.give_back()  # the agent is at work, not the task
                    self._calls[message.id] = message.key
                    entry = await self._host.agent(self.lease, message)
                case m.Show():
                    await self._show(message.view)
                    return None
                case m.Rest():
                    await self._rest(message)
                    return None
                case m.Sql():
                    data = await self._host.data.answer(self.lease.session_id, message)
                    return m.Reply(id=message.id, data=data)
                case m.Forget():
                    if (key := self._calls.pop(message.asked, None)) is not None:
                        await self._host.forget_agent(self.lease, key)
                    return None
                case _:
                    return None
        except NotFound as problem:
            assert not isinstance(message, m.Forget | m.Rest | m.Show)
            return m.Reply(id=message.id, refused=str(problem))
        self.progress = True
        return m.Reply(id=message.id, entries=[entry])

    async def _rest(self, message: m.Rest) -> None:
        """End the worker, unless something has come in that it does not know."""
        at = None if message.until is None else int(message.until * 1_000_000)
        lease = self.lease
        rests = await self._host.store.write(lambda: rows.rest_tx(lease.session_id, lease.token, message.position, at))
        if rests:
            self.resting = True
            self.worker.kill()

    def _looks(self, view: dict[str, Any] | None) -> dict[str, Any]:
        """The columns in which a task's looks are."""
        if view is None:
            return {}
        status = rows.status_of(view, asks=self._host.asks(self.lease.session_id))
        if status == rows.BLOCKED:  # it may take days: others are to have its place
            self._slot.give_back()
        data = msgspec.json.encode(view)
        if len(data) > MAX_VIEW:
            raise m.BadMessage(f"a view of {len(data)} bytes")
        return {"view": data, "status": status}

    async def _show(self, view: dict[str, Any]) -> None:
        with contextlib.suppress(Taken):  # it may have ended since
            await self._host.append(self.lease, [], self._looks(view))

    async def _append(self, message: m.Append) -> list[Entry]:
        """What others have done is not the worker's to write: who sent a signal, how an agent or a child ended."""
        if forged := {draft.kind for draft in message.drafts} - _OWN:
            raise m.BadMessage(f"an entry of the server's: {min(forged)}")
        patch = self._looks(message.view)
        ended = next((draft for draft in message.drafts if draft.kind == "ended"), None)
        if ended is not None:
            patch |= rows.ending(ended, clock.now())
        if not message.drafts and not patch:
            return []
        if message.drafts:
            patch["crashes"] = 0
            self.progress = True
        entries = await self._host.append(self.lease, message.drafts, patch)
        if ended is not None:
            self.over = True
            self.worker.kill()  # nothing is left to do, whatever its code still does
        return entries
