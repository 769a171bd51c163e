from ntro.workflow import NtroWorkflow, runbook


@runbook.defn
class CollectorWorkflow(NtroWorkflow):
    @runbook.step(name="collect", title="Collect")
    async def _collect(self, given):
        sources = ["bank", "rent-roll"]
        expected = [{"source": source, "schema_slug": source, "title": source} for source in sources]
        inputs = [{"source": source, "tenant_slug": given["tenant_slug"], "accept": ["text/csv"]} for source in sources]
        return await self.collect_documents(expected=expected, inputs=inputs)

    @runbook.run
    async def run(self, given: dict):
        return await self._collect(given)
