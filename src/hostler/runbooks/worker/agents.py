"""What stands behind `ntro.workflow.agents.invoke` in a worker: the same call, which the server makes, once.

It must not know keys, sessions or databases: the server does.
"""

from __future__ import annotations

import json
from typing import Any

from hostler.runbooks.worker.run import current


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
    """Run a registered agent, and return its `AgentResult`. `max_poll_seconds` is how long it may take in all;
    nothing is polled, so the interval means nothing here. Raises RuntimeError outside of a task."""
    from ntro.workflow.agents import AgentResult

    run = current.get(None)
    if run is None:
        raise RuntimeError("invoke() can only be called within a task.")
    message = json.dumps(input, default=str) if isinstance(input, dict) else str(input)
    call = {
        "agent_id": agent_id,
        "message": message,
        "tenant_slug": tenant_slug,
        "entity_slug": entity_slug,
        "task_id": task_id,
        "seconds": float(max_poll_seconds),
    }
    return AgentResult.model_validate(await run.agent(call))


def stand_in() -> None:
    """Be what bundles import. To be called before one is loaded, since they import it by value."""
    from ntro.workflow import agents
    from ntro.workflow.agents import _invoke

    agents.invoke = invoke
    _invoke.invoke = invoke
