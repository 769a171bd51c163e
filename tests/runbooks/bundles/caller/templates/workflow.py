import asyncio

from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke
from pydantic import BaseModel


class Context(BaseModel):
    tenant_slug: str
    task_id: str
    agent: str
    say: str = ""
    seconds: float = 1800
    give_up: float = 0
    tenant: str | None = None


@runbook.defn
class CallerWorkflow(NtroWorkflow):
    @ui_step(name="call", title="Call")
    async def _call(self, ctx):
        call = invoke(
            ctx.agent,
            input=ctx.say,
            tenant_slug=ctx.tenant or ctx.tenant_slug,
            task_id=ctx.task_id,
            max_poll_seconds=ctx.seconds,
        )
        if not ctx.give_up:
            return await call
        try:
            return await asyncio.wait_for(call, ctx.give_up)
        except TimeoutError:
            return None

    @runbook.run
    async def run(self, ctx: Context):
        result = await self._call(ctx)
        return result and result.model_dump(mode="json")
