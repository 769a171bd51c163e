"""The loop: decide on the folded log what comes next, do it, until nothing is left to do.

Each step looks at the log afresh, so a step may stop short at any point, also by a crash, and the next one finds out
what is left. It must not keep anything between steps but the fold.
"""

from __future__ import annotations

from hostler.harness.act import INTERRUPTED, act, cancel_dispatched, forget
from hostler.harness.ask import ask
from hostler.harness.budget import exhausted, pause
from hostler.harness.checkout import place
from hostler.harness.deps import Deps
from hostler.harness.drafts import error_result, session_error, span_end
from hostler.harness.failure import give_up
from hostler.harness.grader import grade, interrupted
from hostler.harness.mail import stopped
from hostler.harness.outcomes import Outcome
from hostler.harness.parts import Said
from hostler.harness.run import Idle, Run
from hostler.harness.self_hosted import definitions, is_self_hosted
from hostler.harness.settle import deliver, settle
from hostler.harness.state import INTERRUPTS
from hostler.harness.summarise import due, summarise
from hostler.harness.team import advance_all
from hostler.harness.tooltable import ToolTable
from hostler.harness.wake import END_TURN, Wake
from hostler.log.append import NewInput
from hostler.store.store import Duplicate

TOO_MANY = "The agent made {limit} model requests in one turn; send a message to let it go on."


async def advance(wake: Wake, deps: Deps) -> None:
    """Work on a session until it is idle and nothing waits. Raises StaleLease when somebody else has taken it over."""
    if not is_self_hosted(wake.row):
        deps.layers.begin(wake)
    for run in wake.runs.values():
        if run.thread.open_request is not None:
            # An earlier process died in mid-request. What it had received is lost; the request will be made again.
            await run.append([span_end(run.thread.open_request, is_error=True)])
    if wake.several:
        await advance_all(wake, lambda run: advance_thread(run, deps))
    else:
        await advance_thread(wake.primary, deps)


async def advance_thread(run: Run, deps: Deps) -> None:
    """Work on one thread until it is idle and nothing waits for it."""
    tools = _tools(run, deps)
    done = False
    while not done and not run.thread.terminated:
        run.seen = run.thread.version
        try:
            done = await _step(run, deps, tools)
        except (NewInput, Duplicate):
            continue


def _tools(run: Run, deps: Deps) -> ToolTable:
    if is_self_hosted(run.row):
        return ToolTable(run.agent, definitions(deps.builtins), "worker")
    return ToolTable(run.agent, deps.builtins)


async def _step(run: Run, deps: Deps, tools: ToolTable) -> bool:
    """Do what comes next; True when the thread has turned idle."""
    thread = run.thread
    if thread.interrupted:
        return await _interrupt(run, deps)
    if any(call.ready for call in thread.open_calls) and not _only_refused(run, deps):
        await act(run, deps)
        return False
    if thread.waiting:
        await settle(run, deps, {"type": "requires_action", "event_ids": thread.waiting})
        return True
    if thread.queued or thread.wants_answer:
        if exhausted(run, deps.catalogue):
            await pause(run, deps)
            return True
        if await place(run, deps, tools):
            return False
        return await _speak(run, deps, tools)
    if (outcome := _to_grade(run)) is not None:
        if exhausted(run, deps.catalogue):
            await pause(run, deps)
            return True
        await grade(run, deps, outcome)
        return False
    await _finish(run, deps)
    return True


def _only_refused(run: Run, deps: Deps) -> bool:
    """Whether nothing is to be run before the next request: `ask` then answers the refused calls in its own commit, so
    that their results stand right before the request."""
    asks_next = run.thread.requests < deps.config.requests_per_turn and not due(run, deps)
    return asks_next and not exhausted(run, deps.catalogue) and all(call.refused for call in run.thread.open_calls)


async def _speak(run: Run, deps: Deps, tools: ToolTable) -> bool:
    if run.thread.requests >= deps.config.requests_per_turn:
        message = TOO_MANY.format(limit=deps.config.requests_per_turn)
        await give_up(run, [session_error("tool_use_limit_reached_error", message, "exhausted")])
    elif due(run, deps):
        await summarise(run, deps, tools)
    else:
        await ask(run, deps, tools)
    return not run.thread.running


async def _finish(run: Run, deps: Deps) -> None:
    last = run.thread.parts[-1] if run.thread.parts else None
    if isinstance(last, Said) and last.stop_reason == "refusal":
        details = {"category": None, "explanation": None, **(last.stop_details or {}), "type": "refusal"}
        await settle(run, deps, {"type": "refusal"}, details)
    else:
        await settle(run, deps, END_TURN)


def _to_grade(run: Run) -> Outcome | None:
    """The outcome that is to be evaluated now: the agent has ended an attempt, and all it delegated is done."""
    outcome = run.thread.outcome
    refused = bool(run.thread.parts) and getattr(run.thread.parts[-1], "stop_reason", "") == "refusal"
    if outcome is None or run.thread.settled or refused or run.wake.others_busy(run):
        return None
    return outcome


async def _interrupt(run: Run, deps: Deps) -> bool:
    """Apply the interrupts that wait: answer the open calls and turn idle, unless a message waits to be taken up.

    In a turn they go ahead of the messages that wait. Of a thread at rest they stop what was sent before them, and
    change nothing when that was nothing.
    """
    thread = run.thread
    queue = list(thread.queued.values())
    taken = [entry for entry in queue if entry.type in INTERRUPTS]
    resting = not thread.running and not thread.open_calls and thread.settled
    if resting:
        taken = queue[: queue.index(taken[-1]) + 1]
    consumed = run.taken(taken)
    outcome = thread.outcome
    redefined = outcome is not None and outcome.seq > taken[-1].seq
    redirected = len(queue) > len(taken) or redefined
    ended, columns = interrupted(run) if not redefined else ([], {})
    if resting and not ended and all(entry.type in INTERRUPTS for entry in taken):
        await run.append(consumed, strict=True, release=not redirected)
        return not redirected
    cancelled = await cancel_dispatched(run, deps)
    results = [error_result(call, INTERRUPTED) for call in thread.open_calls]
    delivered = [] if redirected else await deliver(run, deps)
    idle = None if redirected else Idle(END_TURN)
    told = [] if redirected or resting else stopped(run, taken)
    items = [*ended, *results, *consumed, *delivered, *told]
    await run.append(items, patch={"pending": b"[]", **columns}, strict=True, opening=True, idle=idle)
    await forget(run, deps, cancelled)
    return not redirected
