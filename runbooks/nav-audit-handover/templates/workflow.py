"""The steps of the runbook. What reads or writes anything is an activity, so that this runs on every engine."""

from datetime import timedelta
from typing import Any

from ntro.workflow import NtroWorkflow, WorkflowError, get_runtime, runbook, ui_step
from ntro.workflow.agents import invoke

from .activities import invoke_in_activity, load_period, prepare_summary, record_outcome
from .models import Context

# Code of a workflow can't open connections on Temporal: there an activity makes the call. A worker of Hostler's brings
# an `invoke` that sees to this itself.
if get_runtime().name == "temporal" and invoke.__module__.startswith("ntro."):
    invoke = invoke_in_activity

A_MINUTE = timedelta(minutes=1)
UPLOAD = {
    "component": "FILE_UPLOAD",
    "config": {
        "accept": ["application/json"],
        "max_size_mb": 10,
        "instructions": "Upload the period's figures: a JSON file with `period_summary`.",
        "multiple": False,
    },
}
APPROVAL = {
    "component": "APPROVAL_FORM",
    "config": {
        "title": "Review the auditor's handover",
        "approve_label": "Approve",
        "reject_label": "Reject",
        "comments": True,
    },
}


@runbook.defn
class NavAuditHandoverWorkflow(NtroWorkflow):
    def __init__(self) -> None:
        super().__init__()
        self._submitted: dict[str, Any] | None = None
        self._summary: dict[str, Any] = {}

    @runbook.signal
    async def document_submitted(self, payload: dict[str, Any]) -> None:
        self._submitted = payload

    @runbook.run
    async def run(self, ctx: Context) -> dict[str, Any]:
        if not ctx.task_id:
            ctx = ctx.model_copy(update={"task_id": runbook.info().workflow_id.split(":")[0]})
        await self._step_load_period(ctx)
        await self._step_prepare_summary(ctx)
        figures = self._summary
        result = await self._step_draft_auditor_handover(
            ctx, figures.get("tb"), figures.get("journal_proposal"), figures.get("documents", [])
        )
        documents = handed_over(result, ctx.period)
        decision = await self._step_review_handover(ctx, result, documents) if result else {"decision": "skipped"}
        return await self._step_record_outcome(ctx, result, {**decision, "documents": documents})

    @ui_step(name="load_period", title="Load the period", icon="Upload")
    async def _step_load_period(self, ctx: Context) -> dict[str, Any]:
        """The figures of the task's context; of a file that somebody submits where it has none."""
        source: dict[str, Any] = {"period": ctx.period, "tenant_slug": ctx.tenant_slug}
        if ctx.period_summary is not None:
            loaded = await self._loaded({**source, "period_summary": ctx.period_summary})
            if loaded["problem"]:
                raise WorkflowError(loaded["problem"], type="BadPeriod", non_retryable=True)
            return self._told()
        while True:
            submitted = await self._submission(ctx)
            loaded = await self._loaded({**source, "document_ref": submitted["document_ref"]})
            if not loaded["problem"]:
                return self._told()
            self.set_user_feedback(kind="bad_period", payload={"message": loaded["problem"]}, level="error")

    async def _loaded(self, source: dict[str, Any]) -> dict[str, Any]:
        loaded: dict[str, Any] = await runbook.execute_activity(load_period, source, start_to_close_timeout=A_MINUTE)
        self._summary = loaded["period_summary"]
        return loaded

    async def _submission(self, ctx: Context) -> dict[str, Any]:
        self._submitted = None
        await self.await_signal_with_action(
            predicate=lambda: bool(self._submitted and self._submitted.get("document_ref")),
            action={
                "kind": "submit_file",
                "reason": f"The figures of {ctx.period} are needed.",
                "tool": "ntro_task_file_ingest",
                "args": {
                    "tenant_id_or_slug": ctx.tenant_slug,
                    "entity_id_or_slug": ctx.entity_slug,
                    "source": "period-summary",
                    "schema_slug": "period-summary",
                    "signal_task_id": runbook.info().workflow_id,
                    "signal_name": "document_submitted",
                },
            },
            display_hint=UPLOAD,
        )
        return self._submitted or {}

    def _told(self) -> dict[str, Any]:
        """What of the figures is shown beside the step."""
        tb, journal = self._summary.get("tb") or {}, self._summary.get("journal_proposal") or {}
        return {
            "period": self._summary.get("period"),
            "accounts": len(tb.get("lines") or []),
            "journal_lines": len(journal.get("lines") or []),
            "documents": len(self._summary.get("documents") or []),
        }

    @ui_step(name="prepare_summary", title="Prepare the summary", icon="Calculator")
    async def _step_prepare_summary(self, ctx: Context) -> dict[str, Any]:
        self._summary = await runbook.execute_activity(
            prepare_summary, {"entity_slug": ctx.entity_slug, **self._summary}, start_to_close_timeout=A_MINUTE
        )
        return {check: said.get("status") for check, said in self._summary["checks"].items()}

    @ui_step(name="draft_auditor_handover", title="Draft auditor handover", icon="FileText")
    async def _step_draft_auditor_handover(
        self,
        ctx: Context,
        tb_dict: dict[str, Any] | None,
        proposal_dict: dict[str, Any] | None,
        documents: list[dict[str, Any]],
    ) -> Any:
        if not ctx.audit_agent_id:
            return None  # Skip when the entity hasn't opted into an agent

        period_summary = {
            "entity": self._summary["entity"],
            "period": ctx.period,
            "tb": tb_dict,
            "journal_proposal": proposal_dict,
            "documents": documents,
            "checks": self._summary["checks"],
            "prior_period": self._summary.get("prior_period"),
            "prepared_at_iso": self._summary.get("prepared_at_iso") or runbook.now().isoformat(timespec="seconds"),
        }

        result = await invoke(
            ctx.audit_agent_id,
            input={"period_summary": period_summary},
            tenant_slug=ctx.tenant_slug,
            entity_slug=ctx.entity_slug,
            task_id=ctx.task_id,
        )
        return result  # noqa: RET504

    @ui_step(name="review_handover", title="Review the handover", icon="ClipboardCheck")
    async def _step_review_handover(self, ctx: Context, result: Any, documents: list[dict[str, Any]]) -> dict[str, Any]:
        action = await self.wait_for_action(
            payload={"period": ctx.period, "agent_said": result.output_text, "documents": documents},
            display_hint=APPROVAL,
            reason=f"The agent has drafted the handover of {ctx.period}. Read it before the auditor does.",
        )
        decision = "approved" if action.get("type") == "approved" else "rejected"
        return {"decision": decision, "comments": action.get("comments")}

    @ui_step(name="record_outcome", title="Record the outcome", icon="Archive")
    async def _step_record_outcome(self, ctx: Context, result: Any, decision: dict[str, Any]) -> dict[str, Any]:
        record = {
            "tenant_slug": ctx.tenant_slug,
            "entity_slug": ctx.entity_slug,
            "task_id": ctx.task_id,
            "period": ctx.period,
            "agent_id": ctx.audit_agent_id if result else None,
            "session_id": result.session_id if result else None,
            "decision": decision,
        }
        outcome: dict[str, Any] = await runbook.execute_activity(
            record_outcome, record, start_to_close_timeout=A_MINUTE
        )
        return outcome


def handed_over(result: Any, period: str) -> list[dict[str, Any]]:
    """The documents of an agent's run, which must have made one handover. Raises WorkflowError."""
    if result is None:
        return []
    if result.status != "completed":
        raise WorkflowError(
            f"The agent's session {result.session_id} ended as {result.status}: {result.error or result.output_text}",
            type="AgentFailed",
            non_retryable=True,
        )
    name = f"audit-handover-{period}.docx"
    documents = [each.model_dump(mode="json") for each in result.output_files]
    if [each["filename"] for each in documents].count(name) != 1:
        made = ", ".join(each["filename"] for each in documents) or "no file"
        raise WorkflowError(
            f"The agent was to make one {name}, and made {made}. It said: {result.output_text}",
            type="NoHandover",
            non_retryable=True,
        )
    return documents
