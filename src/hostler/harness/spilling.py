"""Keeps what a served tool said at too great a length in a file of the sandbox, as the built-in tools do.

It must not lose a result: where no sandbox takes the file, the model gets the beginning and the end of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hostler.sandbox import toolset
from hostler.sandbox.contract import Sandbox, SandboxUnavailable
from hostler.sandbox.render import preview

NOT_KEPT = "the whole could not be kept: there is no sandbox for it"


async def shortened(
    content: list[dict[str, Any]], call_id: str, sandbox: Callable[[], Awaitable[Sandbox]] | None
) -> list[dict[str, Any]]:
    """The content, its texts replaced by one preview when they are too long together. `sandbox` is None for an agent
    that could not read the file."""
    texts = [block["text"] for block in content if block["type"] == "text"]
    if sum(len(text) for text in texts) <= toolset.SPILL_LIMIT:
        return content
    whole = "\n\n".join(texts)
    kept = await _keep(whole, call_id, sandbox)
    return [{"type": "text", "text": kept}, *(block for block in content if block["type"] != "text")]


async def _whole(sandbox: Callable[[], Awaitable[Sandbox]]) -> Sandbox:
    """The sandbox; also when cancelled it is started to its end: half of one would be in the way of the next."""
    task = asyncio.ensure_future(sandbox())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _keep(text: str, call_id: str, sandbox: Callable[[], Awaitable[Sandbox]] | None) -> str:
    if sandbox is None:
        return preview(text, NOT_KEPT)
    try:
        return await toolset.spill(await _whole(sandbox), call_id, text)
    except SandboxUnavailable:
        return preview(text, NOT_KEPT)
