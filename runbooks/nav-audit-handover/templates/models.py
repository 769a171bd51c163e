"""What a task of this runbook is given."""

from typing import Any

from pydantic import BaseModel


class Context(BaseModel):
    """The slugs, the task's id and the agent are filled in by whoever starts the task, from its entity."""

    period: str
    tenant_slug: str = ""
    entity_slug: str = ""
    task_id: str | None = None
    audit_agent_id: str | None = None
    period_summary: dict[str, Any] | None = None
