from datetime import timedelta

from ntro.workflow import NtroWorkflow, runbook, ui_step


@runbook.defn
class GateWorkflow(NtroWorkflow):
    @runbook.query
    def so_far(self):
        return self.seen

    @ui_step(name="first", title="First")
    async def _first(self):
        self.seen = ["first"]

    @ui_step(name="gate", title="Gate")
    async def _gate(self):
        return (await self.wait_for_action(payload={"rows": [1, 2]}, reason="Look."))["type"]

    @ui_step(name="pause", title="Pause")
    async def _pause(self, seconds):
        try:
            await runbook.wait_condition(lambda: False, timeout=timedelta(seconds=seconds))
        except TimeoutError:
            self.seen.append("paused")

    @runbook.run
    async def run(self, given: dict):
        await self._first()
        await self._pause(given["seconds"])
        self.seen.append(await self._gate())
        self.seen.append(await self._gate())
        return self.seen
