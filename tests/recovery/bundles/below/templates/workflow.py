from ntro.workflow import NtroWorkflow, runbook, ui_step

from .activities import note


@runbook.defn
class BelowWorkflow(NtroWorkflow):
    @ui_step(name="note", title="Note")
    async def _note(self, given):
        return await runbook.execute_activity(note, f"{given['mark']}:below")

    @runbook.run
    async def run(self, given: dict):
        return await self._note(given)
