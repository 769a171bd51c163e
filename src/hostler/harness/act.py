"""Runs the tool calls that are ready: all of one message in parallel, each dispatched at most once.

A private entry marks the dispatch, with the sandbox's generation, before anything starts. After a crash a marked call
is looked up in the sandbox by its id: there it is attached to; a living sandbox of the same generation that doesn't
know it never began it, so it is run; otherwise its outcome is unknown, and the model is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from hostler.harness.deps import Deps
from hostler.harness.drafts import error_result, session_error, tool_result
from hostler.harness.environment import network_of
from hostler.harness.parts import Call
from hostler.harness.run import Interrupted, Run
from hostler.harness.self_hosted import is_self_hosted
from hostler.harness.serve import act_served, both
from hostler.harness.skills import mounts
from hostler.harness.state import DISPATCHED, SERVER
from hostler.harness.wake import Wake
from hostler.log.entries import Draft, Item
from hostler.sandbox import toolset
from hostler.sandbox.contract import Mount, Sandbox, SandboxSpec, SandboxUnavailable, UnknownCall

log = logging.getLogger(__name__)

NOT_RUN = "The sandbox is not available, so this tool did not run."
UNKNOWN = (
    "The sandbox was lost while this tool ran, so its outcome is unknown: it may have run, in part or in full. "
    "Files may be missing or changed. Check before you repeat it."
)
FORGET_SECONDS = 2.0
INTERRUPTED = "Tool execution was interrupted before completion. Please retry."


async def act(run: Run, deps: Deps) -> None:
    """Answer every call that is ready. Returns early when an interrupt comes in; the loop then answers the rest."""
    ready = [call for call in run.thread.open_calls if call.ready]
    refused = [call for call in ready if call.refused]
    if refused or not run.thread.running or run.thread.rescheduled:
        await run.append([error_result(call, refusal(call)) for call in refused], strict=True, opening=True)
    calls = [call for call in ready if not call.refused]
    served, inside = [call for call in calls if call.served], [call for call in calls if not call.served]
    try:
        await both(
            act_served(run, deps, served, lambda: sandbox_of(run.wake, deps)) if served else None,
            _act_inside(run, deps, inside) if inside else None,
        )
    except Interrupted:
        return


async def _act_inside(run: Run, deps: Deps, calls: list[Call]) -> None:
    """Run calls in the sandbox."""
    try:
        await deps.layers.ready(run)
        await _tell_of_secrets(run, deps)
        # Not interrupted: a sandbox that is half started would be in the way of the next one.
        sandbox = await sandbox_of(run.wake, deps)
        if run.poked.is_set():
            await run.refresh()
        if run.thread.interrupted:
            return
        fresh = [call.id for call in calls if call.dispatched is None]
        if fresh:
            mark = Draft(type=DISPATCHED, fields={"calls": fresh, "generation": sandbox.generation})
            await run.append([mark])
        await run.unless_interrupted(_perform_all(run, deps, sandbox, calls, frozenset(fresh)))
    except SandboxUnavailable as problem:
        await _unavailable(run, problem)


async def _tell_of_secrets(run: Run, deps: Deps) -> None:
    """Before the first tool of a wake: say which credentials have no use here."""
    if run.wake.sandbox is None and (problems := await deps.secrets.problems(run.wake)):
        await run.append(problems)


def refusal(call: Call) -> str:
    """Why a call is answered without running, in words for the model."""
    if call.invalid is not None:
        return f"The tool's input did not arrive whole, so it did not run: {call.invalid}"
    denied = f"Permission to use {call.name} has been denied."
    return f"{denied} {call.deny_message}" if call.deny_message else denied


async def cancel_dispatched(run: Run, deps: Deps) -> list[str]:
    """End what still runs for calls that are about to be answered as interrupted; return their ids."""
    started = [call.id for call in run.thread.open_calls if call.dispatched not in (None, SERVER)]
    sandbox = await deps.sandboxes.find(run.session_id) if started else None
    if sandbox is not None:
        with contextlib.suppress(SandboxUnavailable):  # then nothing runs there any more
            for call_id in started:
                await toolset.cancel(sandbox, call_id)
    return started


async def forget(run: Run, deps: Deps, call_ids: list[str]) -> None:
    """Let the sandbox drop calls that were cancelled, now that their answers are in the log: it keeps so many only."""
    sandbox = await deps.sandboxes.find(run.session_id) if call_ids else None
    if sandbox is None:
        return
    for call_id in call_ids:
        with contextlib.suppress(SandboxUnavailable, TimeoutError):
            async with asyncio.timeout(FORGET_SECONDS):
                await toolset.forget(sandbox, call_id)


async def sandbox_of(wake: Wake, deps: Deps) -> Sandbox:
    """The session's sandbox, provisioned at the first need of a wake, with all inputs that are mounted by now. All its
    threads work in it."""
    async with wake.sandbox_lock:
        return await provisioned(wake, deps)


async def provisioned(wake: Wake, deps: Deps) -> Sandbox:
    """See `sandbox_of`; the caller holds the sandbox lock."""
    if is_self_hosted(wake.row):
        raise SandboxUnavailable("a self-hosted environment has no sandbox at the server")
    if wake.inputs_stale:
        await wake.reload()
        if wake.sandbox is not None:
            await wake.sandbox.set_mounts(_mounts(wake, deps))
    if wake.sandbox is None:
        await deps.life.ready(wake)
        spec = SandboxSpec(
            key=wake.session_id,
            network=network_of(wake.row),
            env=await deps.secrets.environment(wake),
            mounts=_mounts(wake, deps),
            folders=[known.mount_path for known in wake.row.repositories],
            etc=_etc(wake, deps),
            gateway=bool(wake.row.repositories),
            layers=await deps.layers.built(wake),
        )
        wake.sandbox = await deps.sandboxes.provision(spec)
    return wake.sandbox


def _etc(wake: Wake, deps: Deps) -> dict[str, str]:
    known = wake.row.repositories
    return {"gitconfig": deps.repositories.git_config(known)} if known and deps.repositories else {}


def _mounts(wake: Wake, deps: Deps) -> list[Mount]:
    inputs = [Mount(source=deps.blobs.path(mount.blob), target=mount.target) for mount in wake.row.inputs]
    return [*inputs, *mounts(wake.row.skills, deps.blobs)]


async def _perform_all(run: Run, deps: Deps, sandbox: Sandbox, calls: list[Call], fresh: frozenset[str]) -> None:
    """Run calls side by side; each result is committed as it comes. A lost sandbox is raised once all have ended.
    Only the `fresh` ones were never dispatched before."""
    await both(*(_perform(run, deps, sandbox, call, fresh=call.id in fresh) for call in calls))


async def _perform(run: Run, deps: Deps, sandbox: Sandbox, call: Call, *, fresh: bool) -> None:
    if fresh:
        result = await toolset.execute(sandbox, call.id, call.name, call.input)
    else:
        result = await _recover(sandbox, call)
    content = await deps.secrets.scrubbed(run.wake, result.content)
    await run.append([tool_result(call, content, is_error=result.is_error)])
    with contextlib.suppress(SandboxUnavailable):  # the next call will find out
        await sandbox.acknowledge(call.id)


async def _recover(sandbox: Sandbox, call: Call) -> toolset.ToolResult:
    """The result of a call that was marked as dispatched before, by an earlier process or an attempt that failed."""
    try:
        return await toolset.attach(sandbox, call.id, call.name, call.input)
    except UnknownCall:
        if sandbox.generation == call.dispatched:
            return await toolset.execute(sandbox, call.id, call.name, call.input)
        return toolset.ToolResult(content=[{"type": "text", "text": UNKNOWN}], is_error=True)


async def _unavailable(run: Run, problem: SandboxUnavailable) -> None:
    """Tell the client what the provider's failure was, and the model only that its tools did not run, or may have."""
    log.warning("session %s: sandbox unavailable: %s", run.session_id, problem)
    run.wake.sandbox = None
    await run.refresh()
    items: list[Item] = [session_error("unknown_error", f"The sandbox is not available: {problem}", "retrying")]
    for call in run.thread.open_calls:
        if call.ready and not call.served:
            items.append(error_result(call, NOT_RUN if call.dispatched is None else UNKNOWN))
    await run.append(items, strict=True)
