"""Advances all threads of a session side by side, each in a task of its own while it has something to do.

It must not decide what a thread does, nor when the session is idle: the thread that turns idle last commits that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from hostler.harness.run import Run
from hostler.harness.wake import Wake
from hostler.log.append import NewInput


async def advance_all(wake: Wake, advance: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
    """Work until no thread has anything to do. The first failure of a thread ends the others' work and is raised."""
    tasks: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            wake.changed.clear()
            await wake.refresh()
            for run in () if wake.released else list(wake.runs.values()):
                if run.thread.active and run.id not in tasks:
                    tasks[run.id] = asyncio.create_task(advance(run), name=f"thread-{run.id}")
            if tasks:
                await _first_news(wake, tasks)
            elif await _let_go(wake):
                return
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _first_news(wake: Wake, tasks: dict[str, asyncio.Task[None]]) -> None:
    """Wait until a thread has ended its turn or something came in; drop the tasks that are done."""
    news = asyncio.create_task(wake.changed.wait())
    try:
        await asyncio.wait({news, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        news.cancel()
        await asyncio.wait({news})
    for thread_id in [thread_id for thread_id, task in tasks.items() if task.done()]:
        tasks.pop(thread_id).result()


async def _let_go(wake: Wake) -> bool:
    """Release the session, unless something has come in; the thread that turned idle last may have done so already."""
    run = wake.primary
    run.seen = run.thread.version
    if wake.released:
        return True
    with contextlib.suppress(NewInput):
        await run.append([], strict=True, release=True)
    return wake.released
