"""Says when all that a task's code does is to wait for what comes by its server: then its process need not be kept.

Another process finds everything again in the journal, as after a crash; so what is kept nowhere else keeps the process.
It must not know how a process is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from hostler.runbooks.worker.quiet import ours

LOOK_SECONDS = 0.5


class Scope:
    """A step. Its code runs again in another process, unless what it returned was kept: then it is not `open`."""

    def __init__(self) -> None:
        self.open = True


scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("scope", default=None)


@contextlib.contextmanager
def within_step() -> Iterator[Scope]:
    inside = Scope()
    token = scope.set(inside)
    try:
        yield inside
    finally:
        scope.reset(token)


class _Wait:
    """One call that waits for what comes by the server; `until` is when its time is up."""

    def __init__(self, until: float | None) -> None:
        self.until = until
        self.task = asyncio.current_task()
        self._scope = scope.get()

    def begins_again(self) -> bool:
        return self._scope is None or self._scope.open


class Resting:
    def __init__(self) -> None:
        self.seconds = math.inf  # of quiet, after which the process may go
        self.own_tasks: set[asyncio.Task[Any] | None] = set()  # that are not the runbook's
        self._waits: set[_Wait] = set()
        self._at_work = 0
        self._moved_at = time.monotonic()

    def moved(self) -> None:
        """Something has happened: who comes next shall find the process."""
        self._moved_at = time.monotonic()

    @contextlib.contextmanager
    def waits(self, until: float | None = None) -> Iterator[None]:
        """What is waited for in here comes by the server, or is a time that the server knows."""
        wait = _Wait(until)
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)
            self.moved()

    @contextlib.contextmanager
    def works(self) -> Iterator[None]:
        """What is done in here would be done again by another process."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            self.moved()

    async def watch(self, quiet: Callable[[], bool], rest: Callable[[float | None], None]) -> NoReturn:
        """Until cancelled. `quiet` says whether nothing but the server can make the code go on; to `rest` the time is
        given at which it goes on anyway."""
        ours.set(True)
        while True:
            await asyncio.sleep(min(self.seconds, LOOK_SECONDS))
            if not self._may_rest(quiet):
                self.moved()
            elif time.monotonic() >= self._moved_at + self.seconds:
                rest(min((wait.until for wait in self._waits if wait.until is not None), default=None))
                self.moved()

    def _may_rest(self, quiet: Callable[[], bool]) -> bool:
        if self._at_work or not self._waits or not all(wait.begins_again() for wait in self._waits):
            return False
        others = asyncio.all_tasks() - self.own_tasks
        return others == {wait.task for wait in self._waits} or quiet()
