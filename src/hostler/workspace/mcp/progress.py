"""Tools with which an agent says how far it is: lines of its task, which people read on the task's page.

A line that is sent again is written once. They change nothing about what the task does.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hostler import clock
from hostler.errors import RequestTooLarge
from hostler.runbooks.invoking.rows import Told, tell_tx
from hostler.runbooks.room import Runbooks
from hostler.store.sql import Tx
from hostler.wire.base import Params
from hostler.wire.workspace import Config, Key, Title
from hostler.workspace.mcp import reach
from hostler.workspace.mcp.callers import Caller
from hostler.workspace.mcp.tool import Tool
from hostler.workspace.mcp.words import OfTask

KIND = "step"
LARGEST_LINE = 4000


class OwnStep(Params):
    id: Key
    title: Title
    icon: Key | None = None


class StepsDefine(OfTask, kw_only=True):
    steps: Annotated[list[OwnStep], Meta(min_length=1, max_length=50)]


class StepsProgress(OfTask, kw_only=True):
    step_id: Key
    status: Literal["active", "completed", "failed"]
    payload: Annotated[Config, Meta(description="What came of it, in a few values.")] | None = None
    display_hint: Config | None = None


class Progress:
    def __init__(self, room: Runbooks) -> None:
        self._room = room

    def tools(self) -> list[Tool]:
        return [
            Tool("ntro_steps_define", "Say which steps you are going to take. People read it on the task's page.",
                 StepsDefine, self.define, agents=True),
            Tool("ntro_steps_progress", "Say that you have begun, completed or failed one of your steps.",
                 StepsProgress, self.tell, agents=True),
        ]  # fmt: skip

    async def define(self, caller: Caller, params: StepsDefine) -> Any:
        return await self._tell(caller, params.task_id, "Steps: " + " → ".join(step.title for step in params.steps))

    async def tell(self, caller: Caller, params: StepsProgress) -> Any:
        said = f"{params.step_id}: {params.status}"
        if params.payload:
            said += " " + msgspec.json.encode(params.payload).decode()
        return await self._tell(caller, params.task_id, said)

    async def _tell(self, caller: Caller, task_id: str | None, text: str) -> Any:
        if len(text) > LARGEST_LINE:
            raise RequestTooLarge(f"A line may have {LARGEST_LINE} characters; this one has {len(text)}.")
        told = Told(f"own:{hashlib.sha256(text.encode()).hexdigest()[:32]}", clock.now(), KIND, text)

        def tx() -> Tx[str]:
            run = yield from reach.run_tx(caller, task_id)
            yield from tell_tx(run, run.session_id or "", [told])
            return run.task_id

        return {"task_id": await self._room.store.write(tx), "line": text}
