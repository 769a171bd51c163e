"""`invoke` on Temporal: code of a workflow can't open connections, so there an activity makes the call.

It must not import what such a workflow's sandbox would not let in.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from temporalio import workflow

ACTIVITY = "hostler_invoke"
HEARTBEAT_SECONDS = 60.0
AFTER_SECONDS = 900.0  # for what comes after the time limit: the interrupt, the files, the archiving


async def invoke(
    agent_id: str,
    *,
    input: dict[str, Any] | str,
    tenant_slug: str | None = None,
    entity_slug: str | None = None,
    task_id: str | None = None,
    max_poll_seconds: float = 1800.0,
) -> Any:
    """See `hostler.runbooks.invoke`."""
    from ntro.workflow.agents import AgentResult

    call = {
        "agent_id": agent_id,
        "message": json.dumps(input, default=str) if isinstance(input, dict) else str(input),
        "tenant_slug": tenant_slug,
        "entity_slug": entity_slug,
        "task_id": task_id,
        "seconds": float(max_poll_seconds),
    }
    return AgentResult.model_validate(await (_by_an_activity(call) if workflow.in_workflow() else _here(call)))


async def _by_an_activity(call: dict[str, Any]) -> Any:
    """Tried as often as it takes within its time: each attempt goes on with the session of the one before."""
    return await workflow.execute_activity(
        ACTIVITY,
        call,
        result_type=dict,
        schedule_to_close_timeout=timedelta(seconds=call["seconds"] + AFTER_SECONDS),
        heartbeat_timeout=timedelta(seconds=HEARTBEAT_SECONDS),
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


async def _here(call: dict[str, Any]) -> Any:
    from hostler.runbooks.temporal.attempts import attempt

    return await attempt(call)
