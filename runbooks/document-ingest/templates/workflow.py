"""Waits for one file. `collect_documents` starts one such task for each source, and shows them all as one gate."""

from datetime import timedelta
from typing import Any

from ntro.workflow import NtroWorkflow, runbook

from .activities import look_at
from .models import Context

A_MINUTE = timedelta(minutes=1)


@runbook.defn
class DocumentIngestWorkflow(NtroWorkflow):
    def __init__(self) -> None:
        super().__init__()
        self._submitted: list[dict[str, Any]] = []  # one may come while another is looked at

    @runbook.signal
    async def document_submitted(self, payload: dict[str, Any]) -> None:
        if payload.get("document_ref"):
            self._submitted.append(payload)

    @runbook.step(name="receive", title="Receive the file", icon="Upload")
    async def _receive(self, ctx: Context) -> dict[str, Any]:
        while True:
            submitted = await self._submission(ctx)
            wanted = {"tenant_slug": ctx.tenant_slug, "accept": ctx.accept, "max_size_mb": ctx.max_size_mb}
            found: dict[str, Any] = await runbook.execute_activity(
                look_at, {**wanted, "document_ref": submitted["document_ref"]}, start_to_close_timeout=A_MINUTE
            )
            if found.pop("problem") is None:
                return {"source": ctx.source, **found}
            self.set_user_feedback(
                kind="unusable_file", payload={"document_ref": submitted["document_ref"]}, level="error"
            )

    async def _submission(self, ctx: Context) -> dict[str, Any]:
        hint = {
            "accept": ctx.accept,
            "max_size_mb": ctx.max_size_mb,
            "instructions": ctx.instructions,
            "multiple": False,
        }
        await self.await_signal_with_action(
            predicate=lambda: bool(self._submitted),
            action={
                "kind": "submit_file",
                "reason": ctx.title or f"The file {ctx.source} is needed.",
                "tool": "ntro_task_file_ingest",
                "args": {
                    "tenant_id_or_slug": ctx.tenant_slug,
                    "entity_id_or_slug": ctx.entity_slug,
                    "source": ctx.source,
                    "signal_task_id": runbook.info().workflow_id,
                    "signal_name": "document_submitted",
                },
            },
            display_hint={"component": "FILE_UPLOAD", "config": hint},
        )
        return self._submitted.pop(0)

    @runbook.run
    async def run(self, ctx: Context) -> dict[str, Any]:
        return await self._receive(ctx)
