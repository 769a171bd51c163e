from ntro.workflow import NtroWorkflow, runbook, ui_step
from pydantic import BaseModel

from .activities import note


class Given(BaseModel):
    mark: str


class Noted(BaseModel):
    what: str


@runbook.defn
class BelowWorkflow(NtroWorkflow):
    @ui_step(name="note", title="Note")
    async def _note(self, given):
        return Noted(what=await runbook.execute_activity(note, f"{given.mark}:below"))

    @runbook.run
    async def run(self, given: Given):
        return await self._note(given)
