"""Keeps one worker's process ready while tasks come, for most of a task's start is the import of what runbooks need.

It must not know tasks. A spare has seen no bundle's code: whoever takes it is its first and last task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from hostler.errors import HostlerError
from hostler.runbooks.workers import Worker

log = logging.getLogger(__name__)


class Spares:
    def __init__(self, start: Callable[[], Awaitable[Worker]], seconds: float) -> None:
        """`seconds` is how long a spare is kept for the next task; with 0 there is none."""
        self._start = start
        self._seconds = seconds
        self._spare: Worker | None = None
        self._wanted = asyncio.Event()
        self._taken = asyncio.Event()

    async def take(self) -> Worker:
        """A process for one task. Raises what `start` raises."""
        spare, self._spare = self._spare, None
        self._taken.set()
        self._wanted.set()
        if spare is not None and spare.lives:
            return spare
        if spare is not None:
            await spare.end()
        return await self._start()

    async def run(self) -> NoReturn:
        """Have one ready after each task that came, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._seconds > 0:
                await self._offer()

    async def _offer(self) -> None:
        self._taken.clear()
        try:
            spare = self._spare = await self._start()
        except (OSError, HostlerError) as problem:
            log.debug("there is no spare worker: %s", problem)  # who needs one is told
            return
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._taken.wait(), self._seconds)
        finally:
            if self._spare is spare:
                self._spare = None
                await spare.end()
