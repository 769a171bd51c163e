"""Runs the long work of a snapshot in a thread that ends when nobody waits for it, and names its failures in the
contract's words. It must not know what is stored.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from hostler.sandbox.contract import SandboxUnavailable, SnapshotTooLarge
from hostler.sandbox.packing import Budget, Stopped, TooMuch

T = TypeVar("T")


async def stoppable(limit_bytes: int | None, work: Callable[[Budget], T]) -> T:
    """Run `work`, as `in_thread`. Raises SnapshotTooLarge and SandboxUnavailable, and what else `work` raises."""
    try:
        return await in_thread(limit_bytes, work)
    except TooMuch as error:
        raise SnapshotTooLarge(f"The sandbox can't be kept as a snapshot, or made from one: {error}.") from error
    except Stopped as error:
        raise SandboxUnavailable("the snapshot was stopped") from error
    except OSError as error:
        raise SandboxUnavailable(f"a snapshot could not be written or read: {error.strerror}") from error


async def in_thread(limit_bytes: int | None, work: Callable[[Budget], T]) -> T:
    """Run `work` in a thread. When it is cancelled, the thread is stopped and waited for, so that nothing goes on
    behind the caller's back. Raises what `work` raises."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, Budget(limit_bytes, stop.is_set)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
