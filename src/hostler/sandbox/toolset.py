"""Runs the built-in tools over any sandbox: an input of the model in, content blocks for the model out.

It must not know a backend, and must not turn a lost sandbox into a tool result: `SandboxUnavailable` and `UnknownCall`
go to the caller as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

from msgspec import Struct

from hostler.sandbox.contract import (
    OUTPUT_LIMIT,
    RIPGREP,
    Command,
    CommandResult,
    Exec,
    RestartShell,
    Sandbox,
    Shell,
    UnknownCall,
)
from hostler.sandbox.contract import TOOLS as TOOLS_PROGRAM
from hostler.sandbox.render import FILE_TOOL_TIMEOUT_MS, Rendered, file_text, preview, render
from hostler.sandbox.toolspec import (
    DEFAULT_TIMEOUT_MS,
    TOOLS,
    Bash,
    Edit,
    Glob,
    Grep,
    Input,
    InvalidInput,
    Read,
    Write,
    parse,
)

__all__ = ["SPILL_LIMIT", "TOOLS", "ToolResult", "attach", "cancel", "execute", "forget", "spill"]

SPILL_LIMIT = 100_000  # characters
SPILL_DIRECTORIES = ("/mnt/session/tool_outputs", "/workspace/.tool_outputs")  # the first that takes the file
_MEDIA_ROOM = OUTPUT_LIMIT - 4096
_LARGEST_LINE = 2**62
_LARGE = 1024 * 1024  # bytes that take long enough to clean to be felt by other sessions


class ToolResult(Struct, frozen=True, kw_only=True):
    """What the model gets: content blocks (text, image, document) as they go over the wire."""

    content: list[dict[str, Any]]
    is_error: bool = False


async def execute(sandbox: Sandbox, call_id: str, name: str, input: dict[str, Any]) -> ToolResult:
    """Run a tool to its end. Whatever the model did wrong is a result; `SandboxUnavailable` is raised.

    The call, and only the call, is known to the sandbox by `call_id`: acknowledge it once the result is recorded.
    """
    try:
        given = parse(name, input)
    except InvalidInput as e:
        return _text(str(e), is_error=True)
    if isinstance(given, Bash) and given.restart and given.command:
        restarted = await _once(sandbox, _restart_id(call_id), RestartShell())
        if restarted.cancelled or restarted.exit_code != 0:
            return await _finish(sandbox, call_id, name, given, restarted)
    result = await sandbox.run(call_id, _command(given))
    return await _finish(sandbox, call_id, name, given, result)


async def attach(sandbox: Sandbox, call_id: str, name: str, input: dict[str, Any]) -> ToolResult:
    """Collect a call that an earlier process of the server started, without running it again. Raises `UnknownCall`."""
    try:
        given = parse(name, input)
    except InvalidInput as e:
        return _text(str(e), is_error=True)
    return await _finish(sandbox, call_id, name, given, await sandbox.attach(call_id))


async def cancel(sandbox: Sandbox, call_id: str) -> None:
    """End a running tool call, whichever of its steps it is at."""
    await sandbox.cancel(_restart_id(call_id))
    await sandbox.cancel(call_id)


async def forget(sandbox: Sandbox, call_id: str) -> None:
    """Wait for the end of a cancelled tool call and let the sandbox drop it."""
    for step_id in (_restart_id(call_id), call_id):
        with contextlib.suppress(UnknownCall):
            await sandbox.attach(step_id)
            await sandbox.acknowledge(step_id)


async def spill(sandbox: Sandbox, call_id: str, text: str) -> str:
    """Keep a long text in a file of the sandbox and return what the model gets instead. Done again, it does the same.

    Also for outputs that did not come from the sandbox, such as those of MCP tools.
    """
    spill_id = f"{call_id}-spill"
    name = re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:128] + ".txt"
    command = Exec(
        argv=[TOOLS_PROGRAM, "spill", *SPILL_DIRECTORIES],
        stdin=_fields(name, text),
        timeout_ms=FILE_TOOL_TIMEOUT_MS,
    )
    result = await _once(sandbox, spill_id, command)
    await sandbox.acknowledge(spill_id)
    if result.exit_code == 0:
        return preview(text, f"the whole is in {file_text(result.output)}, read it in parts with view_range or bash")
    reason = file_text(result.errors).strip() or "the sandbox did not take it"
    return preview(text, f"the whole could not be kept: {reason}")


async def _once(sandbox: Sandbox, step_id: str, command: Command) -> CommandResult:
    """Run a step of a call, or collect it when an earlier process of the server came this far."""
    try:
        return await sandbox.run(step_id, command)
    except ValueError:
        return await sandbox.attach(step_id)


async def _finish(sandbox: Sandbox, call_id: str, name: str, given: Input, result: CommandResult) -> ToolResult:
    if isinstance(given, Bash) and given.restart and given.command:
        await sandbox.acknowledge(_restart_id(call_id))
    if len(result.output) > _LARGE:
        rendered = await asyncio.to_thread(render, name, given, result)
    else:
        rendered = render(name, given, result)
    if rendered.block is None and len(rendered.text) > SPILL_LIMIT:
        rendered = Rendered(text=await spill(sandbox, call_id, rendered.text), is_error=rendered.is_error)
    if rendered.block is not None:
        return ToolResult(content=[rendered.block], is_error=rendered.is_error)
    return _text(rendered.text, is_error=rendered.is_error)


def _text(text: str, *, is_error: bool) -> ToolResult:
    return ToolResult(content=[{"type": "text", "text": text}], is_error=is_error)


def _restart_id(call_id: str) -> str:
    return f"{call_id}-restart"


def _command(given: Input) -> Command:
    if isinstance(given, Bash):
        if not given.command:
            return RestartShell()
        return Shell(script=given.command, timeout_ms=given.timeout_ms or DEFAULT_TIMEOUT_MS)
    argv, stdin = _file_tool(given)
    return Exec(argv=[TOOLS_PROGRAM, *argv], stdin=stdin, timeout_ms=FILE_TOOL_TIMEOUT_MS)


def _file_tool(given: Read | Write | Edit | Glob | Grep) -> tuple[list[str], bytes]:
    """The sub-command, and its fields in the order that native/tools.c takes them."""
    match given:
        case Read(file_path=path, view_range=lines):
            first, last = (str(_bounded(line)) for line in lines) if lines else ("", "")
            return ["read", str(_MEDIA_ROOM)], _fields(path, first, last)
        case Write(file_path=path, content=content):
            return ["write"], _fields(path, content)
        case Edit(file_path=path, old_string=old, new_string=new, replace_all=every):
            return ["edit"], _fields(path, old, new, "1" if every else "")
        case Glob(pattern=pattern, path=root):
            return ["glob"], _fields(pattern, root or "")
        case Grep(pattern=pattern, path=root, head_limit=most):
            return ["grep", RIPGREP], _fields(pattern, root or "", str(most) if most else "")


def _bounded(line: int) -> int:
    return max(-_LARGEST_LINE, min(_LARGEST_LINE, line))


def _fields(*values: str) -> bytes:
    encoded = (value.encode(errors="replace") for value in values)
    return b"".join(b"%d:%b," % (len(value), value) for value in encoded)
