"""Ends a turn: collects what the agent delivered, then turns the thread idle in one commit. It must not go on by
itself.

The commit stands on the log as it was last read: input that came in meanwhile refuses it, and the loop decides again.
"""

from __future__ import annotations

from typing import Any

from hostler import clock
from hostler.errors import Unavailable
from hostler.harness.deps import Deps
from hostler.harness.drafts import session_error
from hostler.harness.mail import report
from hostler.harness.outputs import collect
from hostler.harness.run import Idle, Run
from hostler.harness.self_hosted import is_self_hosted
from hostler.harness.workqueue import enqueued
from hostler.log.entries import Item
from hostler.sandbox.contract import SandboxUnavailable
from hostler.wire.errors import NOT_COLLECTED

MOST_TOLD = 10  # files that were too large, each by name


async def settle(run: Run, deps: Deps, stop_reason: dict[str, Any], details: dict[str, Any] | None = None) -> None:
    """Turn idle with this stop reason; when nothing has happened since the last idle, only let go of the session.

    Raises NewInput when something came in meanwhile.
    """
    if run.thread.settled:
        await run.append([], strict=True, release=True)
        return
    items: list[Item] = await deliver(run, deps)
    idle = Idle(stop_reason, details)
    # Somebody to answer the calls, those of other threads as well: their worker may have gone meanwhile.
    waits = any(thread.waiting for thread in run.wake.session.threads.values() if not thread.terminated)
    wanted = waits and is_self_hosted(run.row)
    queued = [enqueued(run.row.environment_id, run.session_id, clock.now())] if wanted else []
    await run.append([*items, *report(run, idle)], strict=True, idle=idle, also=queued)
    if wanted:
        deps.work.wake(run.row.environment_id)


async def deliver(run: Run, deps: Deps) -> list[Item]:
    """Collect the outputs; a sandbox that fails here costs the files of this turn, and says so, but not the turn."""
    try:
        async with run.wake.sandbox_lock:
            left = await collect(run, deps)
    except (SandboxUnavailable, Unavailable) as problem:
        message = f"The outputs of this turn could not be collected: {problem}"
        return [session_error("unknown_error", message, "retrying")]
    told, more = left[:MOST_TOLD], len(left) - MOST_TOLD
    if more > 0:
        told.append(f"{more} more files, for the same reasons.")
    return [session_error("unknown_error", NOT_COLLECTED + each, "retrying") for each in told]
