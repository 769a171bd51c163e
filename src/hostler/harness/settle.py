"""Ends a turn: collects what the agent delivered, then turns the session idle in one commit. It must not go on by
itself.

The commit stands on the log as it was last read: input that came in meanwhile refuses it, and the loop decides again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.errors import Unavailable
from hostler.harness.deps import Deps
from hostler.harness.drafts import session_error
from hostler.harness.outputs import collect
from hostler.harness.run import Run
from hostler.log.entries import Draft, Item
from hostler.sandbox.contract import SandboxUnavailable

# A run is over: nobody holds the session, and nothing is due.
RELEASED = {"wake_at": None, "lease_owner": None, "lease_until": None}


async def settle(run: Run, deps: Deps, stop_reason: dict[str, Any], details: dict[str, Any] | None = None) -> None:
    """Turn idle with this stop reason; when nothing has happened since the last idle, only let go of the session.

    Raises NewInput when something came in meanwhile.
    """
    if run.session.settled:
        await run.append([], patch=RELEASED, strict=True)
        return
    items: list[Item] = await deliver(run, deps)
    idle, patch = idling(run, stop_reason, details)
    await run.append([*items, *idle], patch=patch, strict=True)


async def deliver(run: Run, deps: Deps) -> list[Item]:
    """Collect the outputs; a sandbox that fails here costs the files of this turn, and says so, but not the turn."""
    try:
        await collect(run, deps)
    except (SandboxUnavailable, Unavailable) as problem:
        message = f"The outputs of this turn could not be collected: {problem}"
        return [session_error("unknown_error", message, "retrying")]
    return []


def idling(
    run: Run, stop_reason: dict[str, Any], details: dict[str, Any] | None = None
) -> tuple[list[Item], dict[str, Any]]:
    """The thread's idle event, the usage so far, the session's idle event; and the columns that go with them."""
    times = run.paused()
    stop = {"stop_reason": stop_reason, "stop_details": details}
    usage = {"usage": msgspec.to_builtins(run.ledger.wire(times["active_us"])), "budget": run.budget}
    items: list[Item] = [
        Draft(type="session.thread_status_idle", fields={**run.thread, **stop}),
        Draft(type="session.usage", fields=usage),
        Draft(type="session.status_idle", fields=stop),
    ]
    paused = int(stop_reason["type"] == "budget_reached")
    return items, {"status": "idle", "paused": paused, **times, **RELEASED}
