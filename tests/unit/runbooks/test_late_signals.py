"""A signal that was written before what the task itself wrote meanwhile, and reaches its worker after that."""

from __future__ import annotations

import asyncio
from typing import Any

from replaying import Memory, set_runtime

from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.worker.run import Run, current

set_runtime()

from ntro.workflow import NtroWorkflow, activity, runbook  # noqa: E402


@activity.defn
async def work() -> str:
    return "done"


@runbook.defn
class Waiting(NtroWorkflow):  # type: ignore[misc]
    @runbook.run  # type: ignore[untyped-decorator]
    async def run(self, _: Any) -> str:
        await runbook.execute_activity(work)
        return str((await self.wait_for_action(payload={}))["type"])


class Late(Memory):
    """Somebody answers before the activity's entry is written; the word of it comes after."""

    late: Entry | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()

    async def append(self, drafts: list[Draft], view: dict[str, Any] | None) -> list[Entry]:
        if self.late is None:
            self.late = self.add(Draft(kind="signal", body={"name": "user_action", "args": [{"type": "approved"}]}))
        if not drafts:
            self.waits.set()
        return await super().append(drafts, view)


def test_it_is_heard_and_once() -> None:
    async def both() -> Any:
        port, instance = Late(), Waiting()
        run = Run("task", instance, [], port)

        async def task() -> Any:
            current.set(run)
            return await instance.run(None)

        working = asyncio.create_task(task())
        await port.waits.wait()
        assert port.late is not None
        assert port.late.position < port.entries[-1].position
        run.signal(port.late)
        run.signal(port.late)
        return await asyncio.wait_for(working, 10)

    assert asyncio.run(both()) == "approved"
