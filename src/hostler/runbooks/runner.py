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
from hostler.runbooks.journal import Taken, answer_tx, append_tx, read_tx
from hostler.runbooks.running import STORE_DOWN_SECONDS, Running, Slot
from hostler.runbooks.spares import Spares
from hostler.runbooks.workers import Gone, Stalled, Worker, last_words
from hostler.store.dispatch import Dispatcher, Lease
from hostler.store.rounds import survived
from hostler.store.sql import Tx
from hostler.store.store import Store, StoreClosed

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
QUERY_SECONDS = 20.0
WAKE_SECONDS = 0.1
MAX_CRASHES = 3  # in a row, without anything written down in between
_CRASH_PAUSE = 1.0
MAX_ID = 400  # characters of an id, in which the ids of all ancestors are
MAX_CHILDREN = 1000


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
        self.store = store
        self._dispatcher = dispatcher
        self._library = library
        self._agents = agents
        self.data = data
        self._settings = settings
        self._confine = confine
        self._spares = Spares(self._start, settings.spare_seconds)
        self._slots = asyncio.Semaphore(settings.tasks_at_once)
        self._running: dict[str, Running | None] = {}
        self._woken: set[str] = set()
        self._ends: dict[str, set[asyncio.Future[None]]] = {}  # who waits here for the end of a task

    async def run(self) -> NoReturn:
        """Work until cancelled: workers end with it, and the next start goes on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeat(), name="runbooks-heartbeat")
            group.create_task(self._tidy_up(), name="runbooks-left-over")
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
            if running is not None and not running.over and not running.resting:
                with contextlib.suppress(Gone):
                    return await running.worker.query(name, QUERY_SECONDS)
            await self.store.write(lambda: rows.wake_tx(task_id))
            self.wake(task_id)
            await asyncio.sleep(WAKE_SECONDS)

    async def _tidy_up(self) -> None:
        await survived(self._agents.abandon_left(), log, "sessions of tasks that are over could not be ended")

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
        """Work on it when there is a place. A child needs none: the one that waits for it has one."""
        slot = Slot(self._slots)
        if ":" not in task_id:
            await slot.take()
        try:
            lease = await self._dispatcher.claim(task_id)
            if lease is not None:
                await self._advance(lease, slot)
        finally:
            slot.give_back()

    async def _advance(self, lease: Lease, slot: Slot) -> None:
        task_id = lease.session_id
        row = await self.store.read(lambda: rows.find_tx(task_id))
        try:
            bundle = await self._library.bundle(row.runbook, row.digest)
        except NotFound as problem:
            await self._end(lease, "BundleError", str(problem))
            return
        entries = await self.store.read(lambda: read_tx(task_id))
        slugs, tenant = await self._library.slugs(), await self.data.tenant(row.tenant_id)
        try:
            worker = await self._spares.take()
        except NotConfined as problem:
            await self._end(lease, "NotConfined", problem.message)
            return
        running = Running(self, lease, worker, entries, slot)  # from here to its run nothing may fail: it would live on
        self._running[task_id] = running
        begin = m.Begin(
            task_id=task_id,
            folder=str(bundle.folder),
            slug=row.runbook,
            workflow_class=bundle.workflow_class,
            modules=bundle.modules,
            slugs=slugs,
            entries=entries,
            input=msgspec.json.decode(row.context),
            value=entries[0].value if entries else None,
            attempt=row.crashes + 1,
            rest_seconds=self._settings.rest_seconds,
            tenant=tenant,
        )
        await self._run(running, begin, row)

    async def _start(self) -> Worker:
        """A process that sees all bundles, so that it will do for any task. Raises NotConfined."""
        folder = self._library.folder
        return await Worker.start(self._settings.environ, confine=lambda command: self._confine(command, folder))

    async def _run(self, running: Running, begin: m.Begin, row: rows.TaskRow) -> None:
        try:
            running.poke()  # what came while the process was started
            status = await running.worker.run(begin, running.serve, stall_seconds=self._settings.stall_seconds)
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
        if not running.over and not running.resting:
            await self._crashed(running, row, why)
        if running.over:
            await self._over(row.id)

    async def _crashed(self, running: Running, row: rows.TaskRow, why: str) -> None:
        crashes = 1 if running.progress else row.crashes + 1
        log.warning("task %s: %s", row.id, why)
        if crashes >= MAX_CRASHES:
            said = last_words(running.worker)
            await self._end(running.lease, "WorkerCrashed", f"{why} That was attempt {crashes}.\n{said}".strip())
            running.over = True
            return
        again = clock.now() + int(_CRASH_PAUSE * 2**crashes * 1_000_000)
        patch = {"crashes": crashes, "wake_at": again, "lease_owner": None, "lease_until": None}
        note = Draft(kind="log", body={"level": "error", "message": why})
        await self.append(running.lease, [note], patch)

    async def _over(self, task_id: str) -> None:
        await survived(self._agents.abandon(task_id), log, f"task {task_id}: its agents' sessions could not be ended")

    def asks(self, task_id: str) -> bool:
        return self._agents.asks(task_id)

    async def _end(self, lease: Lease, kind: str, message: str) -> None:
        draft = Draft(kind="ended", body={"error": {"type": kind, "message": message}})
        await self.append(lease, [draft], rows.ending(draft, clock.now()))

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
        self._dispatcher.wake(asked.task_id)
        return entry

    async def child_end(self, lease: Lease, child_id: str) -> Entry:
        """Wait for a child's end, and write it into the parent's journal. Raises NotFound for who is no child of it."""
        if (await self.store.read(lambda: rows.find_tx(child_id))).parent_id != lease.session_id:
            raise NotFound(f"Task {child_id} is no child of task {lease.session_id}.")
        while (end := await self.store.read(lambda: answer_tx(child_id, "ended", ""))) is None:
            waiting = asyncio.get_running_loop().create_future()
            self._ends.setdefault(child_id, set()).add(waiting)
            try:
                async with asyncio.timeout(30):  # another process may have it
                    await waiting
            except TimeoutError:
                pass
            finally:
                self._ends.get(child_id, set()).discard(waiting)
        draft = Draft(kind="child_ended", key=f"child:{child_id}", body=end.body, value=end.value)
        return (await self.append(lease, [draft], {}))[0]

    async def agent(self, lease: Lease, asked: m.RunAgent) -> Entry:
        """Run an agent, and write down how it ended: one commit with the end of its run."""
        task_id = lease.session_id
        draft = await self._agents.run(task_id, asked.key, asked.call)

        def tx() -> Tx[Entry]:
            (entry,) = yield from append_tx(task_id, [draft], now=clock.now(), token=lease.token)
            yield from self._agents.ended_tx(task_id, asked.key)
            return entry

        return await self.store.write(tx)

    async def forget_agent(self, lease: Lease, key: str) -> None:
        await self._agents.abandon(lease.session_id, key)


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
