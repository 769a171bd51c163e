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
from hostler.runbooks.outstanding import Ends, Left, Outstanding, rest_tx
from hostler.runbooks.workers import Worker
from hostler.store.dispatch import Lease
from hostler.store.store import Store, StoreClosed

log = logging.getLogger(__name__)

STORE_DOWN_SECONDS = 2.0
MAX_ENTRIES = 50_000  # of a journal, which every process of the task reads from its beginning
MAX_BYTES = 256 * 1024 * 1024
MAX_VIEW = 20 * 1024 * 1024  # of its four parts, each has at most 4 MiB (worker/run.py)
_FULL = (
    f"The task has written down {MAX_ENTRIES:,} entries or {MAX_BYTES >> 20} MiB, as much as a journal may have. "
    "Let children do parts of it, and keep large data in the data plane, not in results of steps and activities."
)
_OWN = frozenset({"step", "activity", "attempt", "waiting", "waited", "moment", "log", "ended"})


class Slot:
    """One of the places for tasks that are at work."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._taken = False

    async def take(self) -> None:
        if not self._taken:
            await self._places.acquire()
            self._taken = True

    def give_back(self) -> None:
        """Once is enough."""
        if self._taken:
            self._taken = False
            self._places.release()


class Host(Ends, Protocol):
    """What the runner does for a task: each writes to its journal under the lease. Raises Taken, Unavailable."""

    store: Store
    data: Data

    async def append(self, lease: Lease, drafts: list[Draft], patch: dict[str, Any]) -> list[Entry]: ...

    async def start_child(self, lease: Lease, asked: m.StartChild) -> Entry: ...

    async def end(self, lease: Lease, kind: str, message: str) -> None: ...

    def asks(self, task_id: str) -> bool: ...


class Running:
    """A task that somebody works on: with a worker, or while it rests, with none."""

    def __init__(self, host: Host, lease: Lease, slot: Slot) -> None:
        self.lease = lease
        self.worker: Worker | None = None
        self.over = False
        self.slot = slot
        self.released = False
        self.progress = False
        self._host = host
        self._seen = 0
        self._bytes = 0  # of its journal, without what others write meanwhile
        self._handed = 0  # the last signal that its worker was given
        self._left: Left | None = None
        self._came = asyncio.Event()
        self._outstanding = Outstanding(host, lease)
        self._calls: dict[int, m.RunAgent | m.AwaitChild] = {}
        self._poking: set[asyncio.Task[None]] = set()

    def has(self, worker: Worker, entries: list[Entry]) -> None:
        """It has a worker, which begins with these entries."""
        self.worker = worker
        self.progress = False
        self._calls.clear()  # their numbers are the worker's
        self._seen = self._handed = entries[-1].position if entries else 0
        self._left = Left.of(entries)
        self._bytes = sum(map(_size, entries))

    async def rest(self, left: Left) -> None:
        """Go on without a worker, until something has come for its code. Raises Taken, Unavailable."""
        came = asyncio.create_task(self._came.wait())
        ends = self._outstanding.resume(left)
        seconds = None if left.until is None else max(0.0, left.until - clock.now() / 1e6)
        try:
            done, _ = await asyncio.wait({came, *ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            came.cancel()
        for end in done & set(ends):
            with contextlib.suppress(NotFound):  # the code will ask again, and be told
                end.result()

    async def aclose(self) -> None:
        await self._outstanding.aclose()

    def heard(self) -> None:
        """What has come by now is about to be read."""
        self._came.clear()

    def poke(self) -> None:
        """Something may have come in for it, or its code is wanted."""
        self._came.set()
        task = asyncio.create_task(self._looked())
        self._poking.add(task)
        task.add_done_callback(self._poking.discard)

    async def _looked(self) -> None:
        """While the database is gone it waits: a signal that was accepted is not lost for that."""
        while not self.over and (worker := self.worker) is not None:
            try:
                await self._look(worker)
                return
            except (NotFound, StoreClosed):
                return
            except Unavailable as problem:
                log.warning("task %s: what came in waits: %s", self.lease.session_id, problem)
                await asyncio.sleep(STORE_DOWN_SECONDS)

    async def _look(self, worker: Worker) -> None:
        task_id, after = self.lease.session_id, self._seen
        store = self._host.store
        for entry in await store.read(lambda: read_tx(task_id, after)):
            self._seen = max(self._seen, entry.position)
            if entry.kind == "signal":
                self._handed = max(self._handed, entry.position)
                await worker.send(m.Signal(entry=entry))
        if (await store.read(lambda: rows.find_tx(task_id))).cancelled_at is not None:
            await worker.send(m.Cancel())

    async def serve(self, message: m.OfWorker) -> m.Reply | None:
        """Answer what the worker asks. While the database is gone it waits: what it did is not lost for that."""
        while True:
            try:
                return await self._answer(message)
            except Unavailable as problem:
                log.warning("task %s: waits: %s", self.lease.session_id, problem)
                await asyncio.sleep(STORE_DOWN_SECONDS)

    async def _answer(self, message: m.OfWorker) -> m.Reply | None:
        if self.worker is None or self.over:  # at rest, what that one still does, the next will do
            return None
        try:
            match message:
                case m.Append():
                    return m.Reply(id=message.id, entries=await self._append(message))
                case m.StartChild():
                    entry = await self._host.start_child(self.lease, message)
                case m.AwaitChild() | m.RunAgent():
                    entry = await self._end_of(message)
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
                    await self._forget(message.asked)
                    return None
                case _:
                    return None
        except NotFound as problem:
            assert not isinstance(message, m.Forget | m.Rest | m.Show)
            return m.Reply(id=message.id, refused=str(problem))
        self.progress = True
        return m.Reply(id=message.id, entries=[entry])

    async def _end_of(self, message: m.AwaitChild | m.RunAgent) -> Entry:
        """How an agent or a child ended. The task needs no place meanwhile: they are at work."""
        self.slot.give_back()
        self._calls[message.id] = message
        if isinstance(message, m.AwaitChild):
            end = self._outstanding.child(message.task_id)
        else:
            end = self._outstanding.agent(message.key, message.call)
        entry = await asyncio.shield(end)  # it goes on when this worker has gone
        self._calls.pop(message.id, None)
        return entry

    async def _forget(self, asked: int) -> None:
        match self._calls.pop(asked, None):
            case m.RunAgent(key=key):
                await self._outstanding.forget_agent(key)
            case m.AwaitChild(task_id=child) as forgotten:
                others = (each for each in self._calls.values() if isinstance(each, m.AwaitChild))
                if all(each.task_id != forgotten.task_id for each in others):
                    await self._outstanding.forget_child(child)

    async def _rest(self, message: m.Rest) -> None:
        """End the worker, unless something has come in that it does not know."""
        lease, worker = self.lease, self.worker
        assert worker is not None
        await self._look(worker)
        if self._handed > message.heard:
            return
        left, known = self._outstanding.left(message.until), self._left
        if await self._host.store.write(lambda: rest_tx(lease, message.position, left, known)):
            self.released = not left.waits
            self.worker = None
            worker.kill()

    def _looks(self, view: dict[str, Any] | None) -> dict[str, Any]:
        """The columns in which a task's looks are."""
        if view is None:
            return {}
        status = rows.status_of(view, asks=self._host.asks(self.lease.session_id))
        if status == rows.BLOCKED:  # it may take days: others are to have its place
            self.slot.give_back()
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
        self._bytes += sum(map(_size, message.drafts))
        if ended is None and entries and (entries[-1].position > MAX_ENTRIES or self._bytes > MAX_BYTES):
            await self._host.end(self.lease, "JournalFull", _FULL)
        elif ended is None:
            return entries
        self.over = True
        if self.worker is not None:
            self.worker.kill()  # nothing is left to do, whatever its code still does
        return entries


def _size(entry: Draft) -> int:
    """What it takes in a journal, but for its columns."""
    return len(entry.value or b"") + len(msgspec.json.encode(entry.body))
