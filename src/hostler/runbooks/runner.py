"""Gives every task that is due a worker, writes down what it says, and starts it anew where it was left.

A task runs in one process at a time. It must not know what a runbook is for, nor how agents are run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, NoReturn

import msgspec

from hostler import clock
from hostler.errors import InvalidRequest, NotFound, Unavailable
from hostler.runbooks import messages as m
from hostler.runbooks import tasks as rows
from hostler.runbooks.confining import NotConfined
from hostler.runbooks.contract import Agents, Confine, Data, Library
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.hosting import Hosting
from hostler.runbooks.journal import Taken, read_tx
from hostler.runbooks.outstanding import Left
from hostler.runbooks.running import STORE_DOWN_SECONDS, Running, Slot
from hostler.runbooks.spares import Spares
from hostler.runbooks.workers import Gone, Stalled, Worker, last_words
from hostler.store.dispatch import Dispatcher
from hostler.store.store import Store, StoreClosed

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
QUERY_SECONDS = 20.0
WAKE_SECONDS = 0.1
MAX_CRASHES = 3  # in a row, without anything written down in between
_CRASH_PAUSE = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    stall_seconds: float = 60.0
    rest_seconds: float = 60.0
    spare_seconds: float = 60.0
    tasks_at_once: int = 32
    environ: dict[str, str] = {}


class Runner:
    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        library: Library,
        agents: Agents,
        data: Data,
        confine: Confine,
        settings: Settings,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._library = library
        self._data = data
        self._hosting = Hosting(store, library, agents, data, self.wake)
        self._settings = settings
        self._confine = confine
        self._spares = Spares(self._start, settings.spare_seconds)
        self._places = asyncio.Semaphore(settings.tasks_at_once)
        self._places_below = asyncio.Semaphore(settings.tasks_at_once)
        self._running: dict[str, Running | None] = {}
        self._woken: set[str] = set()

    async def run(self) -> NoReturn:
        """Work until cancelled: workers end with it, and the next start goes on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeat(), name="runbooks-heartbeat")
            group.create_task(self._hosting.tidy_up_all(), name="runbooks-left-over")
            group.create_task(self._spares.run(), name="runbooks-spares")
            async for task_id in self._dispatcher.wakes():
                if task_id in self._running:
                    self._woken.add(task_id)
                    if (running := self._running[task_id]) is not None:
                        running.poke()
                else:
                    self._running[task_id] = None
                    group.create_task(self._work(task_id), name=f"task-{task_id}")
        raise AssertionError("wakes() never ends")

    def wake(self, task_id: str) -> None:
        """Something was committed for it: a signal, or its cancellation."""
        self._dispatcher.wake(task_id)

    async def query(self, task_id: str, name: str) -> Any:
        """What a query of the task's runbook says; one that rests gets a process for that. Raises NotFound, Conflict
        for a task that is over, InvalidRequest with what the query raised, Unavailable."""
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                answer = await self._answer(task_id, name)
        except TimeoutError:
            raise Unavailable(f"Task {task_id} has not answered within {QUERY_SECONDS:g} seconds.") from None
        if answer.error is not None:
            raise InvalidRequest(f"{name}: {answer.error[:1000]}")
        return answer.value

    async def _answer(self, task_id: str, name: str) -> m.Answer:
        """Of the process that it has, or else of the next one."""
        while True:
            running = self._running.get(task_id)
            if running is not None and running.worker is not None and not running.over:
                with contextlib.suppress(Gone):
                    return await running.worker.query(name, QUERY_SECONDS)
            await self._store.write(lambda: rows.wake_tx(task_id))
            self.wake(task_id)
            await asyncio.sleep(WAKE_SECONDS)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self._dispatcher.heartbeat([each.lease for each in self._running.values() if each is not None])
            except Unavailable as problem:
                log.warning("the tasks' leases could not be kept: %s", problem)

    async def _work(self, task_id: str) -> None:
        self._woken.discard(task_id)
        try:
            await self._in_turn(task_id)
        except Taken:
            log.warning("task %s was taken over", task_id)
        except StoreClosed:
            pass
        except Unavailable as problem:
            log.warning("task %s: waits: %s", task_id, problem)
            await asyncio.sleep(STORE_DOWN_SECONDS)
            self._woken.add(task_id)
        except Exception:
            log.exception("task %s: could not be worked on", task_id)
        finally:
            del self._running[task_id]
            if task_id in self._woken:
                self._dispatcher.wake(task_id)

    async def _in_turn(self, task_id: str) -> None:
        """Work on it when there is a place. Children have places of their own: who has started one waits for it, and
        has given its place back."""
        slot = Slot(self._places_below if ":" in task_id else self._places)
        await slot.take()
        try:
            if (lease := await self._dispatcher.claim(task_id)) is not None:
                await self._hold(Running(self._hosting, lease, slot))
        finally:
            slot.give_back()

    async def _hold(self, running: Running) -> None:
        """Work on it until it ends, or nothing is left to do for now."""
        task_id = running.lease.session_id
        self._running[task_id] = running
        try:
            while await self._survives(running):
                pass
        finally:
            await running.aclose()

    async def _survives(self, running: Running) -> bool:
        """The same as `_advance`, but where the database is gone: then again in a while, under the same lease."""
        try:
            return await self._advance(running)
        except Unavailable as problem:
            log.warning("task %s: waits: %s", running.lease.session_id, problem)
            await asyncio.sleep(STORE_DOWN_SECONDS)
            return True

    async def _advance(self, running: Running) -> bool:
        """One life of a process, after what is left to wait for; says whether the task is at rest after that."""
        row, entries = await self._read(running)
        left = Left.of(entries)
        if left is not None and row.cancelled_at is None:
            running.slot.give_back()
            await running.rest(left)
            await running.slot.take()
            row, entries = await self._read(running)
        try:
            begin = await self._begin(row, entries)
            worker = await self._spares.take()
        except NotFound as problem:
            await self._hosting.end(running.lease, "BundleError", str(problem))
            return False
        except NotConfined as problem:
            await self._hosting.end(running.lease, "NotConfined", problem.message)
            return False
        running.has(worker, entries)  # from here to its run nothing may fail: it would live on
        await self._run(running, worker, begin, row)
        return running.worker is None and not running.released

    async def _read(self, running: Running) -> tuple[rows.TaskRow, list[Entry]]:
        running.heard()
        task_id = running.lease.session_id
        row = await self._store.read(lambda: rows.find_tx(task_id))
        return row, await self._store.read(lambda: read_tx(task_id))

    async def _begin(self, row: rows.TaskRow, entries: list[Entry]) -> m.Begin:
        """Raises NotFound."""
        bundle = await self._library.bundle(row.runbook, row.digest)
        return m.Begin(
            task_id=row.id,
            folder=str(bundle.folder),
            slug=row.runbook,
            workflow_class=bundle.workflow_class,
            modules=bundle.modules,
            slugs=await self._library.slugs(),
            entries=entries,
            input=msgspec.json.decode(row.context),
            value=entries[0].value if entries else None,
            attempt=row.crashes + 1,
            rest_seconds=self._settings.rest_seconds,
            tenant=await self._data.tenant(row.tenant_id),
        )

    async def _start(self) -> Worker:
        """A process that sees all bundles, so that it will do for any task. Raises NotConfined."""
        folder = self._library.folder
        return await Worker.start(self._settings.environ, confine=lambda command: self._confine(command, folder))

    async def _run(self, running: Running, worker: Worker, begin: m.Begin, row: rows.TaskRow) -> None:
        try:
            running.poke()  # what came while the process was started
            status = await worker.run(begin, running.serve, stall_seconds=self._settings.stall_seconds)
            why = f"The runbook's process ended with status {status}."
        except Stalled as problem:
            why = str(problem)
        except m.BadMessage as problem:
            why = f"The runbook's process does not keep to the protocol: {problem}."
        except (Taken, StoreClosed, Unavailable):
            raise
        except Exception:
            log.exception("task %s: what its worker asked for could not be done", row.id)
            why = "What the runbook's process asked for could not be done; the server's log says more."
        if not running.over and running.worker is not None:
            await self._crashed(running, worker, row, why)
        if running.over:
            await self._hosting.tidy_up(row.id)

    async def _crashed(self, running: Running, worker: Worker, row: rows.TaskRow, why: str) -> None:
        crashes = 1 if running.progress else row.crashes + 1
        log.warning("task %s: %s", row.id, why)
        if crashes >= MAX_CRASHES:
            said = last_words(worker)
            await self._hosting.end(
                running.lease, "WorkerCrashed", f"{why} That was attempt {crashes}.\n{said}".strip()
            )
            running.over = True
            return
        again = clock.now() + int(_CRASH_PAUSE * 2**crashes * 1_000_000)
        patch = {"crashes": crashes, "wake_at": again, "lease_owner": None, "lease_until": None}
        note = Draft(kind="log", body={"level": "error", "message": why})
        await self._hosting.append(running.lease, [note], patch)
