from datetime import timedelta

from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke

from .activities import figures
from .models import Context


@runbook.defn
class DraftWorkflow(NtroWorkflow):
    @ui_step(name="load", title="Load")
    async def _load(self):
        return await runbook.execute_activity(figures, "2026-03", start_to_close_timeout=timedelta(seconds=60))

    @ui_step(name="draft", title="Draft")
    async def _draft(self, ctx, loaded):
        return await invoke(ctx.agent, input={"two files": loaded}, tenant_slug=ctx.tenant_slug)

    @ui_step(name="review", title="Review")
    async def _review(self):
        return await self.wait_for_action(payload={}, reason="Please look.")

    @runbook.run
    async def run(self, ctx: Context):
        drafted = await self._draft(ctx, await self._load())
        said = await self._review()
        return {"said": drafted.output_text, "files": [file.filename for file in drafted.output_files], **said}
