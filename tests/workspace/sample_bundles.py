"""Small runbooks for these tests, as the text that is deployed: each shows one thing that tasks do."""

from __future__ import annotations

from typing import Any

_MODELS = """
from pydantic import BaseModel

class Ctx(BaseModel):
    tenant_slug: str
    entity_slug: str
    task_id: str
    period: str = ""
    audit_agent_id: str | None = None
    note: str = ""
"""
_HEAD = """
from datetime import timedelta
from ntro.workflow import NtroWorkflow, runbook, ui_step
from .models import Ctx

"""


def bundle(slug: str, workflow: str, activities: str | None = None, *, front: str = "") -> dict[str, str]:
    """The files of a bundle."""
    files = {
        "runbook.md": f"---\nslug: {slug}\nname: {slug.title()}\nversion: 1.0.0\nstate: published\nauthor: us\n{front}"
        f"---\n# {slug}\n",
        "templates/__init__.py": "",
        "templates/models.py": _MODELS,
        "templates/workflow.py": _HEAD + workflow,
    }
    if activities is not None:
        files["templates/activities.py"] = activities
    return files


def class_of(slug: str) -> str:
    return "".join(part.capitalize() for part in slug.split("-")) + "Workflow"


# Adds two numbers, shows them for review, and says what was decided.
REVIEW = bundle(
    "review",
    """
from ntro.workflow import activity
from .activities import add

@runbook.defn
class ReviewWorkflow(NtroWorkflow):
    def __init__(self):
        super().__init__()
        self.rows = []

    def on_row_action(self, action):
        self.rows.append(action["payload"])
        self._pending_action["payload"]["rows"] = list(self.rows)

    @ui_step(name="load", title="Load numbers", icon="Database")
    async def _load(self, ctx):
        return await runbook.execute_activity(add, args=[1, 2], start_to_close_timeout=timedelta(seconds=20))

    @ui_step(name="look", title="Look at them")
    async def _look(self, ctx, total):
        return await self.wait_for_action(payload={"total": total, "long": "x" * 5000}, reason="Are they right?")

    @runbook.run
    async def run(self, ctx: Ctx):
        total = await self._load(ctx)
        decision = await self._look(ctx, total)
        return {"total": total, "decision": decision, "rows": self.rows, "period": ctx.period, "note": ctx.note}
""",
    "from ntro.workflow import activity\n\n@activity.defn\nasync def add(one: int, other: int) -> int:\n"
    "    return one + other\n",
    front="description: Adds\nclassification: demo\ntags: [sums]\njurisdictions: [UK]\n"
    "steps:\n- {id: load, label: Load numbers, description: Reads}\n",
)

# Two gates, one after the other.
TWICE = bundle(
    "twice",
    """
@runbook.defn
class TwiceWorkflow(NtroWorkflow):
    @ui_step(name="first", title="First")
    async def _first(self, ctx):
        return await self.wait_for_action(payload={}, reason="one?")

    @ui_step(name="second", title="Second")
    async def _second(self, ctx):
        return await self.wait_for_action(payload={}, reason="two?")

    @runbook.run
    async def run(self, ctx: Ctx):
        return [(await self._first(ctx))["type"], (await self._second(ctx))["type"]]
""",
)

# Waits for a file.
COLLECT = bundle(
    "collect",
    """
@runbook.defn
class CollectWorkflow(NtroWorkflow):
    def __init__(self):
        super().__init__()
        self.document = None

    @runbook.signal
    def document_submitted(self, document):
        self.document = document

    @ui_step(name="upload", title="Upload")
    async def _upload(self, ctx):
        await self.await_signal_with_action(
            predicate=lambda: self.document is not None,
            action={
                "kind": "submit_file", "reason": "The bank statement is needed.",
                "args": {"source": "bank", "schema_slug": "statement", "signal_task_id": runbook.info().workflow_id,
                         "signal_name": "document_submitted"},
            },
        )
        return self.document

    @runbook.run
    async def run(self, ctx: Ctx):
        return await self._upload(ctx)
""",
)

# A task below it has the gate.
PARENT = bundle(
    "parent",
    """
@runbook.defn
class ParentWorkflow(NtroWorkflow):
    @ui_step(name="delegate", title="Delegate")
    async def _delegate(self, ctx):
        return await self.run_child_workflow(slug="review", input=ctx.model_dump(), step_id="delegate")

    @runbook.run
    async def run(self, ctx: Ctx):
        return {"below": await self._delegate(ctx)}
""",
)

# Never succeeds.
FAILS = bundle(
    "fails",
    """
from .activities import break_it

@runbook.defn
class FailsWorkflow(NtroWorkflow):
    @ui_step(name="work", title="Work")
    async def _work(self, ctx):
        from types import SimpleNamespace
        return await runbook.execute_activity(
            break_it, ctx.period, start_to_close_timeout=timedelta(seconds=20),
            retry_policy=SimpleNamespace(maximum_attempts=1),
        )

    @runbook.run
    async def run(self, ctx: Ctx):
        return await self._work(ctx)
""",
    "from ntro.workflow import activity\n\n@activity.defn\nasync def break_it(period: str) -> None:\n"
    "    raise ValueError(f'{period} is no period')\n",
)

# Is over at once.
QUICK = bundle(
    "quick",
    """
@runbook.defn
class QuickWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, ctx: Ctx):
        return {"entity": ctx.entity_slug, "period": ctx.period}
""",
)

ALL: dict[str, dict[str, str]] = {
    "review": REVIEW, "twice": TWICE, "collect": COLLECT, "parent": PARENT, "fails": FAILS, "quick": QUICK,
}  # fmt: skip


def deployment(slug: str, tenant: str, *, version: str = "1.0.0") -> dict[str, Any]:
    """The arguments of a deploy."""
    files = ALL[slug]
    modules = ["activities"] if "templates/activities.py" in files else None
    return {
        "tenant_slug": tenant, "version": version, "workflow_class": class_of(slug), "files": files,
        "activity_modules": modules,
    }  # fmt: skip
