"""Runs an MCP server as a program of this machine and speaks with it over its standard input and output.

It must not leave anything running: the program and all it has started end with the connection, within a second. Its
messages are bounded, and its standard error goes to the server's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from hostler.mcp.config import Target

LEAVE_SECONDS = 0.3  # after its input was closed, and again after SIGTERM

Received = SessionMessage | Exception


@contextlib.asynccontextmanager
async def program(
    target: Target, limit: int
) -> AsyncGenerator[tuple[MemoryObjectReceiveStream[Received], MemoryObjectSendStream[SessionMessage]]]:
    """The streams of a running program. Raises OSError when it can't be started."""
    assert target.program is not None
    process = await asyncio.create_subprocess_exec(
        target.program.command,
        *target.program.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=target.program.cwd,
        env=target.environment,
        limit=limit,
        start_new_session=True,
    )
    try:
        incoming, read = anyio.create_memory_object_stream[Received](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        async with incoming, read, write, outgoing, anyio.create_task_group() as tasks:
            tasks.start_soon(_hear, process, incoming)
            tasks.start_soon(_tell, process, outgoing)
            yield read, write
            tasks.cancel_scope.cancel()
    finally:
        await _end(process)


async def _hear(process: asyncio.subprocess.Process, incoming: MemoryObjectSendStream[Received]) -> None:
    """Pass on line by line; at the end, or at a line that is too long, the connection is over."""
    assert process.stdout is not None
    async with incoming:
        with contextlib.suppress(ValueError, OSError, anyio.BrokenResourceError):
            while line := await process.stdout.readline():
                await incoming.send(_parsed(line))


def _parsed(line: bytes) -> Received:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _tell(process: asyncio.subprocess.Process, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    async with outgoing:
        async for sent in outgoing:
            line = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
            with contextlib.suppress(OSError):  # it has gone: `_hear` finds out
                process.stdin.write(line.encode() + b"\n")
                await process.stdin.drain()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its input, which tells a well-made server to leave; then end its process group."""
    assert process.stdin is not None
    try:
        process.stdin.close()
        if not await _left(process):
            _signal(process, signal.SIGTERM)
            await _left(process)
    finally:
        _signal(process, signal.SIGKILL)
        await _left(process)
        transport: Any = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()  # a grandchild that keeps a pipe open must not keep ours


async def _left(process: asyncio.subprocess.Process) -> bool:
    """Whether it ends soon. Not by wait(), which waits for the end of the pipes too."""
    for _ in range(round(LEAVE_SECONDS / 0.005)):
        if process.returncode is not None:
            break
        await asyncio.sleep(0.005)
    return process.returncode is not None


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
