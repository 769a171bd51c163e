import asyncio
import uuid
from datetime import timedelta

from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke
from pydantic import BaseModel

from .activities import keep, note


class Context(BaseModel):
    tenant_slug: str
    task_id: str
    agent: str
    mark: str


@runbook.defn
class WholeWorkflow(NtroWorkflow):
    @ui_step(name="load", title="Load")
    async def _load(self, ctx):
        names = [f"{ctx.mark}:load:{number}" for number in range(3)]
        self.loaded = await asyncio.gather(*(runbook.execute_activity(note, name) for name in names))
        return len(self.loaded)

    @ui_step(name="draft", title="Draft")
    async def _draft(self, ctx):
        return await invoke(ctx.agent, input=f"draft {ctx.mark}", tenant_slug=ctx.tenant_slug, task_id=ctx.task_id)

    @ui_step(name="late", title="Late")
    async def _late(self):
        try:
            await runbook.wait_condition(lambda: False, timeout=timedelta(seconds=0.1))
        except TimeoutError:
            return "late"

    @ui_step(name="review", title="Review")
    async def _review(self, ctx):
        return (await self.wait_for_action(payload={"loaded": self.loaded}))["type"]

    @ui_step(name="keep", title="Keep")
    async def _keep(self, ctx):
        record = {"tenant_slug": ctx.tenant_slug, "task_id": ctx.task_id}
        return await runbook.execute_activity(keep, {**record, "id": str(uuid.uuid5(uuid.NAMESPACE_URL, ctx.task_id))})

    @runbook.run
    async def run(self, ctx: Context):
        await self._load(ctx)
        drafted = await self._draft(ctx)
        child = await self.run_child_workflow(slug="below", input=ctx, step_id="below")
        late = await self._late()
        review = await self._review(ctx)
        kept = await self._keep(ctx)
        files = [file.filename for file in drafted.output_files]
        return [self.loaded, drafted.status, drafted.output_text, files, child["what"], late, review, kept]
