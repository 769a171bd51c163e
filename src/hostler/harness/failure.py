"""What happens when a model request fails: wait and try again, or end the turn and leave a usable session.

The log says which attempt it is, so a restart goes on counting where the old process stopped.
"""

from __future__ import annotations

import asyncio
import random

from hostler.harness.deps import Deps
from hostler.harness.drafts import session_error, span_end
from hostler.harness.mail import report
from hostler.harness.run import Idle, Interrupted, Run
from hostler.harness.state import ATTEMPT_FAILED
from hostler.log.append import NewInput
from hostler.log.entries import Draft, Item
from hostler.models.protocol import ModelFailure

_ERROR_TYPES = {
    "overloaded": "model_overloaded_error",
    "rate_limited": "model_rate_limited_error",
    "request_failed": "model_request_failed_error",
    "billing": "billing_error",
    "context_too_long": "model_request_failed_error",
    "unknown": "unknown_error",
}


async def attempt_failed(run: Run, deps: Deps, start_id: str, failure: ModelFailure) -> None:
    """Record a failed attempt; then wait for the next one, or give the turn up."""
    end = span_end(start_id, is_error=True)
    if failure.kind == "context_too_long" and run.thread.summaries == 0 and not run.must_summarise:
        run.must_summarise = True
        await run.append([end])
        return
    attempts = run.thread.failures + 1
    error_type = _ERROR_TYPES[failure.kind]
    if not failure.retryable or attempts >= deps.config.model_attempts:
        await give_up(run, [end, session_error(error_type, failure.message, "exhausted")])
        return
    items: list[Item] = [
        end,
        Draft(type=ATTEMPT_FAILED, fields={"attempt": attempts}),
        session_error(error_type, failure.message, "retrying"),
    ]
    await run.append(items, pausing=True)
    try:
        await run.unless_interrupted(asyncio.sleep(delay(attempts, failure.retry_after, deps)))
    except Interrupted:
        return


async def give_up(run: Run, items: list[Item], *, tell: bool = True) -> None:
    """End the turn with `retries_exhausted`. What waits is consumed with it: the next message starts afresh. Unless
    `tell` is false, a child thread's parent is told."""
    idle = Idle({"type": "retries_exhausted"})
    while True:
        told = report(run, idle) if tell else []
        try:
            await run.append([*items, *run.taken(), *told], strict=True, opening=True, idle=idle)
        except NewInput:
            continue  # it is consumed, too: idle, nobody would come for it
        return


def delay(attempt: int, wished: float | None, deps: Deps) -> float:
    if wished is not None:
        return min(wished, deps.config.retry_limit)
    backoff = min(deps.config.retry_base * 2.0 ** (attempt - 1), deps.config.retry_limit)
    return float(backoff * random.uniform(0.75, 1.0))
