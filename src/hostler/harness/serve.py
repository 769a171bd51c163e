"""Runs calls of served tools: those that the server itself performs, outside the sandbox.

Each is dispatched at most once: one with an effect outside is marked before it starts, and one that a dead process had
marked has an unknown outcome. It must not know any of these tools.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from hostler.harness.deps import Deps
from hostler.harness.drafts import error_result, tool_result
from hostler.harness.parts import Call
from hostler.harness.run import Addition, Run
from hostler.harness.self_hosted import is_self_hosted
from hostler.harness.served import ServedTools
from hostler.harness.spilling import shortened
from hostler.harness.state import DISPATCHED, SERVER
from hostler.log.entries import Draft
from hostler.models.catalogue import search_cost
from hostler.sandbox.contract import Sandbox
from hostler.wire.tools import AgentToolset

LOST = (
    "The server stopped while this tool ran, so its outcome is unknown: it may have run, in part or in full. "
    "Check before you repeat it."
)
NOT_SERVED = "The tool {name} is not available any more, so it did not run."


async def act_served(run: Run, deps: Deps, calls: list[Call], sandbox: Callable[[], Awaitable[Sandbox]]) -> None:
    """Answer these calls; what is too long goes to a file in the sandbox. Raises Interrupted, for an interrupt."""
    readable = any(isinstance(tool, AgentToolset) for tool in run.agent.tools) and not is_self_hosted(run.row)
    keep = sandbox if readable else None
    lost = [call for call in calls if call.dispatched is not None]
    if lost:
        await run.append([error_result(call, LOST) for call in lost])
    works = [(served_by(deps, call), call) for call in calls if call.dispatched is None]
    for served, call in works:
        if served is None:  # what offered it is not configured any more
            await run.append([error_result(call, NOT_SERVED.format(name=call.shown_name))])
        elif served.effect == "in_commit":
            await run.decide(partial(_decided, run, served, call))
    slow = [(served, call) for served, call in works if served is not None and served.effect != "in_commit"]
    marked = [call.id for served, call in slow if served.effect == "outside"]
    if marked:
        await run.append([Draft(type=DISPATCHED, fields={"calls": marked, "generation": SERVER})])
    if slow:
        await run.unless_interrupted(both(*(_serve(run, deps, served, call, keep) for served, call in slow)))


def served_by(deps: Deps, call: Call) -> ServedTools | None:
    return next((served for served in deps.served if served.serves(call)), None)


async def both(*works: Coroutine[Any, Any, None] | None) -> None:
    """Run what is given side by side; the first failure is raised once all have ended."""
    outcomes = await asyncio.gather(*(work for work in works if work is not None), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _decided(run: Run, served: ServedTools, call: Call) -> Addition:
    """What a call whose effect is in its commit adds: decided on the threads as they are, and refused when they have
    changed."""
    result = await served.perform(run, call)
    answer = tool_result(call, result.content, is_error=result.is_error)
    return Addition(items=[*result.also, answer], strict=True, opened=result.opened, closed=result.closed)


async def _serve(
    run: Run, deps: Deps, served: ServedTools, call: Call, keep: Callable[[], Awaitable[Sandbox]] | None
) -> None:
    result = await served.perform(run, call)
    if result.web_searches:
        run.spend_searches(result.web_searches, search_cost(result.web_searches))
    if result.usage is not None:
        run.spend(result.usage, result.cost)
    content = await deps.secrets.scrubbed(run.wake, result.content)
    content = await shortened(content, call.id, keep)
    answer = tool_result(call, content, is_error=result.is_error)
    await run.append([*result.also, answer], opened=result.opened, closed=result.closed)
