"""A journal in memory that dies where it is told to, and lives of a runbook on it, as workers' processes have them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.journal import ANSWERS
from hostler.runbooks.worker.quiet import Loop, ours
from hostler.runbooks.worker.run import Run, current
from hostler.runbooks.worker.runtime import DurableRuntime

Human = Callable[[Any, "Memory", Run], None]


class Died(BaseException):
    """The process is gone: nothing of it runs any more."""


class Memory:
    """The worker's port. `die_at` is (number of the append, whether it was still written)."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.die_at: tuple[int, bool] | None = None
        self.appends = 0
        self.rest_seconds = math.inf
        self.rests: list[tuple[int, float | None]] = []
        self.views: list[dict[str, Any] | None] = []
        self.told: list[tuple[str, dict[str, Any]]] = []  # with each entry, what was seen to be waited for
        self.seen: dict[str, Any] | None = None  # since the process began
        self.children: dict[str, str] = {}
        self.agent_runs: list[dict[str, Any]] = []
        self.child_result: Callable[[str], Draft] | None = None
        self.died = asyncio.Event()

    async def append(self, drafts: list[Draft], view: dict[str, Any] | None) -> list[Entry]:
        if self.died.is_set():
            await asyncio.Event().wait()  # a dead process gets no further
        self.appends += 1
        at, written = self.die_at or (0, False)
        if at == self.appends and not written:
            await self._die()
        self._tell(view)
        self.told += [(draft.kind, self.pending()) for draft in drafts]
        made = [self.add(draft) for draft in drafts]
        await asyncio.sleep(0)
        if at == self.appends:
            await self._die()
        return made

    def show(self, view: dict[str, Any]) -> None:
        if not self.died.is_set():
            self._tell(view)

    def _tell(self, view: dict[str, Any] | None) -> None:
        self.views.append(view)
        self.seen = view or self.seen

    def pending(self) -> dict[str, Any]:
        """What people see that the task waits for."""
        return (self.seen or {}).get("current_pending_action") or {}

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()

    def add(self, draft: Draft) -> Entry:
        for known in self.entries:
            if draft.kind in ANSWERS and (known.kind, known.key) == (draft.kind, draft.key):
                return known
        fields = {name: getattr(draft, name) for name in Draft.__struct_fields__}
        entry = Entry(**fields, position=len(self.entries) + 1, at=int(time.time() * 1e6))
        self.entries.append(entry)
        return entry

    async def start_child(self, key: str, task_id: str, slug: str, value: bytes) -> Entry:
        self.children.setdefault(task_id, slug)
        return self.add(Draft(kind="child", key=key, body={"task_id": task_id}))

    def rest(self, position: int, heard: int, until: float | None) -> None:
        self.rests.append((position, until))

    async def ended(self, task_id: str) -> Entry:
        assert self.child_result is not None
        draft = self.child_result(task_id)
        return self.add(Draft(kind="child_ended", key=f"child:{task_id}", body=draft.body, value=draft.value))

    async def agent(self, key: str, call: dict[str, Any]) -> Entry:
        self.agent_runs.append(call)
        body = {"agent_id": call["agent_id"], "session_id": "sesn_1", "status": "completed", "output_files": []}
        return self.add(Draft(kind="agent", key=key, body=body))


def set_runtime() -> DurableRuntime:
    """Ours, for the runbooks that a test module defines below this call."""
    from ntro.workflow import runtime

    ours = DurableRuntime(lambda cls: None)
    runtime.set_runtime(ours)
    return ours


async def life(make: Callable[[], Any], port: Memory, argument: Any, human: Human) -> Any:
    """One process's life: the runbook's result, or Died. `human` looks at the instance again and again."""
    before = asyncio.all_tasks()
    port.died, port.seen = asyncio.Event(), None
    instance = make()
    run = Run("task", instance, list(port.entries), port)

    async def work() -> Any:
        current.set(run)
        return await instance.run(argument)

    async def people() -> None:
        ours.set(True)  # they are no part of the process
        while True:
            await asyncio.sleep(0.002)
            human(instance, port, run)

    working = asyncio.create_task(work())
    people_ = asyncio.create_task(people())
    dying = asyncio.create_task(port.died.wait())
    watching = asyncio.create_task(run.resting.watch(_quiet, run.rest))
    run.resting.seconds, run.resting.own_tasks = port.rest_seconds, {people_, dying, watching, *before}
    try:
        await asyncio.wait({working, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Died
        return working.result()
    finally:
        people_.cancel()
        rest = asyncio.all_tasks() - before
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def _quiet() -> bool:
    loop = asyncio.get_running_loop()
    return isinstance(loop, Loop) and loop.quiet()


def approves(answer: dict[str, Any]) -> Human:
    """A person who says the same at every gate, once."""

    def human(instance: Any, port: Memory, run: Run) -> None:
        pending = port.pending()
        if pending.get("kind") != "interactive_review":
            return
        gates = sum(each.kind == "waited" and "wait" in each.key and not each.body.get("late") for each in port.entries)
        if sum(each.kind == "signal" for each in port.entries) <= gates:
            run.signal(port.add(Draft(kind="signal", body={"name": "user_action", "args": [answer]})))

    return human
