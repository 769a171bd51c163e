"""Runbooks: programs in steps that call agents. `invoke` is what they may import from here.

Nothing heavy is imported here, since the server, its workers and Temporal's come through.
"""

from __future__ import annotations

import sys
from typing import Any


async def invoke(
    agent_id: str,
    *,
    input: dict[str, Any] | str,
    tenant_slug: str | None = None,
    entity_slug: str | None = None,
    task_id: str | None = None,
    poll_interval_seconds: float = 5.0,
    max_poll_seconds: float = 1800.0,
) -> Any:
    """Run a registered agent, and return its `AgentResult`: `ntro.workflow.agents.invoke`, but that the session is made
    once. It can be called in a task of this server, in a Temporal workflow, and in a Temporal activity."""
    call = {"tenant_slug": tenant_slug, "entity_slug": entity_slug, "task_id": task_id}
    if _on_temporal():
        from hostler.runbooks.temporal.calling import invoke as called
    else:
        from hostler.runbooks.worker.agents import invoke as called
    return await called(agent_id, input=input, max_poll_seconds=max_poll_seconds, **call)


def _on_temporal() -> bool:
    """Whether this is code of a Temporal workflow or activity. Where it is, their modules are imported."""
    activity, workflow = sys.modules.get("temporalio.activity"), sys.modules.get("temporalio.workflow")
    return bool((activity and activity.in_activity()) or (workflow and workflow.in_workflow()))
