"""The loop: decide on the folded log what comes next, do it, until nothing is left to do.

Each step looks at the log afresh, so a step may stop short at any point, also by a crash, and the next one finds out
what is left. It must not keep anything between steps but the fold.
"""

from __future__ import annotations

from hostler.harness.act import INTERRUPTED, act, cancel_dispatched, forget
from hostler.harness.ask import ask
from hostler.harness.deps import Deps
from hostler.harness.drafts import error_result, session_error, span_end
from hostler.harness.failure import give_up
from hostler.harness.run import Run
from hostler.harness.settle import RELEASED, deliver, idling, settle
from hostler.harness.state import Said
from hostler.harness.summarise import due, summarise
from hostler.harness.tooltable import ToolTable
from hostler.log.append import NewInput
from hostler.log.entries import Consume, Item
from hostler.store.store import Duplicate

END_TURN = {"type": "end_turn"}
TOO_MANY = "The agent made {limit} model requests in one turn; send a message to let it go on."


async def advance(run: Run, deps: Deps) -> None:
    """Work on a session until it is idle and nothing waits. Raises StaleLease when somebody else has taken it over."""
    tools = ToolTable(run.row.agent, deps.builtins)
    deps.layers.begin(run)
    if run.session.open_request is not None:
        # An earlier process died in mid-request. What it had received is lost; the request will be made again.
        await run.append([span_end(run.session.open_request, is_error=True)])
    done = False
    while not done:
        try:
            done = await _step(run, deps, tools)
        except (NewInput, Duplicate):
            continue


async def _step(run: Run, deps: Deps, tools: ToolTable) -> bool:
    """Do what comes next; True when the session has turned idle."""
    session = run.session
    if session.interrupted:
        return await _interrupt(run, deps)
    if any(call.ready for call in session.open_calls) and not _only_refused(run, deps):
        await act(run, deps)
        return False
    if waiting := [call.id for call in session.open_calls if call.waits]:
        await settle(run, deps, {"type": "requires_action", "event_ids": waiting})
        return True
    if session.queued or session.wants_answer:
        return await _speak(run, deps, tools)
    await _finish(run, deps)
    return True


def _only_refused(run: Run, deps: Deps) -> bool:
    """Whether nothing is to be run before the next request: `ask` then answers the refused calls in its own commit, so
    that their results stand right before the request."""
    asks_next = run.session.requests < deps.config.requests_per_turn and not due(run, deps)
    return asks_next and all(call.refused for call in run.session.open_calls)


async def _speak(run: Run, deps: Deps, tools: ToolTable) -> bool:
    if run.session.requests >= deps.config.requests_per_turn:
        message = TOO_MANY.format(limit=deps.config.requests_per_turn)
        await give_up(run, [session_error("tool_use_limit_reached_error", message, "exhausted")])
    elif due(run, deps):
        await summarise(run, deps, tools)
    else:
        await ask(run, deps, tools)
    return not run.session.running


async def _finish(run: Run, deps: Deps) -> None:
    last = run.session.parts[-1] if run.session.parts else None
    if isinstance(last, Said) and last.stop_reason == "refusal":
        details = {"category": None, "explanation": None, **(last.stop_details or {}), "type": "refusal"}
        await settle(run, deps, {"type": "refusal"}, details)
    else:
        await settle(run, deps, END_TURN)


async def _interrupt(run: Run, deps: Deps) -> bool:
    """Apply the interrupts that wait: answer the open calls and turn idle, unless a message waits to be taken up.

    In a turn they go ahead of the messages that wait. Of a session at rest they stop what was sent before them, and
    change nothing when that was nothing.
    """
    queue = list(run.session.queued.values())
    taken = [entry for entry in queue if entry.type == "user.interrupt"]
    resting = not run.session.running and not run.session.open_calls
    if resting:
        taken = queue[: queue.index(taken[-1]) + 1]
    consumed: list[Item] = [Consume(entry) for entry in taken]
    redirected = len(queue) > len(taken)
    if resting and all(entry.type == "user.interrupt" for entry in taken):
        await run.append(consumed, patch={} if redirected else RELEASED, strict=True)
        return not redirected
    cancelled = await cancel_dispatched(run, deps)
    results = [error_result(call, INTERRUPTED) for call in run.session.open_calls]
    items = [*run.opening(), *results, *consumed]
    patch = {**run.opened(), "pending": b"[]"}
    if not redirected:
        items += await deliver(run, deps)
        closing, columns = idling(run, END_TURN)
        items, patch = [*items, *closing], {**patch, **columns}
    await run.append(items, patch=patch, strict=True)
    await forget(run, deps, cancelled)
    return not redirected
