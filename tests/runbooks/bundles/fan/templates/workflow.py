import asyncio

from ntro.workflow import NtroWorkflow, runbook

from .activities import work


@runbook.defn
class FanWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, given: dict):
        below = {"children": 0}
        ends = [await runbook.start_child_workflow("fan", below) for _ in range(given["children"])]
        if not ends:
            await runbook.execute_activity(work)
        await asyncio.gather(*ends)
        return len(ends)
