"""Runbooks for trials: small folders, written anew for each test."""

from __future__ import annotations

from pathlib import Path

FRONT = """---
slug: monthly-close
name: Monthly close
version: 1.0.0
state: published
author: us
---
# Monthly close
"""
MODELS = """
from pydantic import BaseModel


class Ctx(BaseModel):
    period: str = ""
    audit_agent_id: str | None = None
    tenant_slug: str = ""
    entity_slug: str = ""
    task_id: str = ""


class Balance(BaseModel):
    total: int
    currency: str
    lines: list[str]
"""
ACTIVITIES = """
from ntro.workflow import activity

from .models import Balance


@activity.defn
async def load_balance(period: str) -> Balance:
    raise RuntimeError("it was really called")


@activity.defn
async def post(balance: Balance) -> bool:
    return True
"""
WORKFLOW = """
from datetime import timedelta

from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke

from .activities import load_balance, post
from .models import Balance, Ctx


@runbook.defn
class MonthlyCloseWorkflow(NtroWorkflow):
    def __init__(self) -> None:
        super().__init__()
        self.document = None
        self.rows = []

    @runbook.signal
    def document_submitted(self, document):
        self.document = document

    def on_row_action(self, action):
        self.rows.append(action["payload"]["row_id"])

    @ui_step(name="upload", title="Upload")
    async def _upload(self, ctx):
        action = {
            "kind": "submit_file", "reason": "the statement is needed", "tool": "ntro_task_file_ingest",
            "args": {"source": "bank_statement", "signal_task_id": runbook.info().workflow_id,
                     "signal_name": "document_submitted"},
        }
        await self.await_signal_with_action(
            predicate=lambda: self.document is not None, action=action, timeout=timedelta(days=1)
        )
        return self.document["filename"]

    @ui_step(name="load", title="Load")
    async def _load(self, ctx):
        self.balance = await runbook.execute_activity(
            load_balance, ctx.period, start_to_close_timeout=timedelta(seconds=5)
        )
        return self.balance

    @ui_step(name="review", title="Review")
    async def _review(self, ctx):
        return await self.wait_for_action(payload={"big": "x" * 5000}, reason="look at it")

    @ui_step(name="draft", title="Draft")
    async def _draft(self, ctx):
        return await invoke(ctx.audit_agent_id, input={"period": ctx.period}, task_id=ctx.task_id)

    @ui_step(name="sign", title="Sign")
    async def _sign(self, ctx):
        return await self.wait_for_action(payload={}, reason="sign it")

    @runbook.run
    async def run(self, ctx: Ctx):
        name = await self._upload(ctx)
        await self._load(ctx)
        review = await self._review(ctx)
        if review["type"] != "approved":
            raise RuntimeError("the review was rejected")
        draft = await self._draft(ctx)
        signed = await self._sign(ctx)
        return {
            "file": name, "total": self.balance.total, "rows": self.rows, "review": review,
            "signed": signed["type"], "text": draft.output_text, "files": [f.filename for f in draft.output_files],
            "period": ctx.period,
        }
"""
PARENT = """
from ntro.workflow import NtroWorkflow, runbook, ui_step


@runbook.defn
class CollectWorkflow(NtroWorkflow):
    @ui_step(name="collect", title="Collect")
    async def _collect(self, ctx):
        expected = [{"source": "bank"}, {"source": "rent"}]
        return await self.collect_documents(expected=expected, inputs=[{"n": 1}, {"n": 2}])

    @runbook.run
    async def run(self, ctx: dict):
        found = await self._collect(ctx)
        return {"sources": [each["source"] for each in found]}
"""
CHILD = """
from ntro.workflow import NtroWorkflow, runbook, ui_step


@runbook.defn
class DocumentIngestWorkflow(NtroWorkflow):
    def __init__(self) -> None:
        super().__init__()
        self.document = None

    @runbook.signal
    def document_submitted(self, document):
        self.document = document

    @ui_step(name="await_upload", title="Upload")
    async def _upload(self, ctx):
        source = runbook.info().workflow_id.rpartition(":")[2]
        action = {
            "kind": "submit_file", "reason": "a file is needed",
            "args": {"source": source, "signal_task_id": runbook.info().workflow_id,
                     "signal_name": "document_submitted"},
        }
        await self.await_signal_with_action(predicate=lambda: self.document is not None, action=action)

    @runbook.run
    async def run(self, ctx: dict):
        await self._upload(ctx)
        return self.document
"""


def write(
    folder: Path,
    *,
    workflow: str | None = WORKFLOW,
    activities: str | None = ACTIVITIES,
    models: str | None = MODELS,
    front: str | None = FRONT,
) -> Path:
    """A file that is None is left out."""
    templates = folder / "templates"
    templates.mkdir(parents=True, exist_ok=True)
    (templates / "__init__.py").write_text("")
    for name, text in (("workflow", workflow), ("activities", activities), ("models", models)):
        if text is not None:
            (templates / f"{name}.py").write_text(text)
    if front is not None:
        (folder / "runbook.md").write_text(front)
    return folder


def parent(folder: Path) -> Path:
    return write(folder, workflow=PARENT, activities="", models="", front=FRONT.replace("monthly-close", "collect"))


def child(folder: Path) -> Path:
    front = FRONT.replace("monthly-close", "document-ingest")
    return write(folder, workflow=CHILD, activities="", models="", front=front)
