"""The runner on a real database with real workers, where what comes in between has to be put in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hostler import clock
from hostler.runbooks import tasks as rows
from hostler.runbooks.contract import Bundle
from hostler.runbooks.runner import Runner, Settings
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.sqlite import SqliteStore
from hostler.store.tables import tasks
from running import SOURCE

WORKFLOW = """
from ntro.workflow import NtroWorkflow, runbook


@runbook.defn
class NoteWorkflow(NtroWorkflow):
    noted = False

    @runbook.signal
    async def note(self, text: str) -> None:
        self.noted = text

    @runbook.run
    async def run(self, given: dict):
        await runbook.wait_condition(lambda: self.noted)
        return self.noted
"""


class Library:
    """One bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "templates").mkdir(parents=True)
        (folder / "templates" / "__init__.py").touch()
        (folder / "templates" / "workflow.py").write_text(WORKFLOW)

    async def bundle(self, slug: str, digest: str) -> Bundle:
        return Bundle(folder=self.folder, workflow_class="NoteWorkflow", modules=[])

    async def slugs(self) -> list[str]:
        return ["note"]


class Nothing:
    """No agents and no data, for a runbook that wants none."""

    def asks(self, task_id: str) -> bool:
        return False

    async def abandon(self, task_id: str, key: str | None = None) -> None:
        pass

    async def abandon_left(self) -> None:
        pass

    async def tenant(self, tenant_id: str) -> str:
        return "byng"


def test_what_comes_while_a_worker_is_started_is_heard(tmp_path: Path) -> None:
    async def whole() -> rows.TaskRow:
        store = await SqliteStore.open(tmp_path / "t.db", now=clock.now())
        library, nothing, dispatcher = Library(tmp_path / "note"), Nothing(), EmbeddedDispatcher(store, tasks)
        settings = Settings(environ={"PYTHONPATH": str(SOURCE)}, spare_seconds=0)

        async def meanwhile(command: list[str], _: Path) -> list[str]:
            """The task's journal has been read, and its worker is about to be started."""
            await store.write(lambda: rows.signal_tx("t", "note", "heard"))
            runner.wake("t")
            while "t" not in runner._woken:  # noqa: ASYNC110 - until the runner has looked who has it: nobody yet
                await asyncio.sleep(0)
            return command

        runner = Runner(store, dispatcher, library, nothing, nothing, meanwhile, settings)  # type: ignore[arg-type]
        names = {"tenant_id": "x", "workflow_id": "w", "runbook": "note", "version": "1", "digest": "d", "title": "T"}
        await store.write(lambda: rows.create_tx("t", **names, context={}))
        work = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(20):
                while (row := await store.read(lambda: rows.find_tx("t"))).closed_at is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                return row
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await store.close()

    row = asyncio.run(whole())
    assert (row.status, row.outcome) == (rows.COMPLETED, b'{"name":"note","result":"heard"}')
