import asyncio

from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke


@runbook.defn
class AwaitingWorkflow(NtroWorkflow):
    @ui_step(name="draft", title="Draft")
    async def _draft(self, given):
        results = await asyncio.gather(*(invoke(given["agent"], input=f"{word}: ask") for word in ("one", "two")))
        return [each.output_text for each in results]

    @ui_step(name="review", title="Review")
    async def _review(self):
        return await runbook.execute_child_workflow("gate", {"seconds": 0})

    @runbook.run
    async def run(self, given: dict):
        return [await self._draft(given), await self._review()]
