"""Runs in a process of its own, beside Temporal's SDK: one attempt of an activity, without a Temporal server.

Standard input says which: {"info": {...}, "call": {...}, "cancel": null or why, "twice": ...}. It is cancelled once its
session waits for a person; twice is an activity as people write them, which calls `invoke` two times. Standard output
tells in JSON lines: {"heartbeat": ...}, and at last {"result": ...} or {"error": ...}.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from hostler.runbooks import invoke
from hostler.runbooks.temporal.attempts import hostler_invoke


@activity.defn
async def twice(call: dict[str, Any]) -> list[Any]:
    return [(await invoke(call["agent_id"], input=call["message"], tenant_slug="byng")).model_dump() for _ in range(2)]


def tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


async def main(asked: dict[str, Any]) -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(),
        **{"scheduled_time": datetime.now(UTC), "heartbeat_timeout": timedelta(seconds=2), **asked["info"]},
    )

    def beat(*details: Any) -> None:
        tell(heartbeat=details[0] if details else {})
        if asked["cancel"] and details and details[0].get("waits_for"):
            environment.cancel(ActivityCancellationDetails(**{asked["cancel"]: True}))

    environment.on_heartbeat = beat
    try:
        tell(result=await environment.run(twice if asked["twice"] else hostler_invoke, asked["call"]))
    except ApplicationError as error:
        tell(error={"type": error.type, "message": error.message, "non_retryable": error.non_retryable})
    except asyncio.CancelledError:
        tell(error={"type": "CancelledError"})


asyncio.run(main(json.loads(sys.stdin.readline())))
