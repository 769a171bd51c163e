"""The event loop of a worker, which knows whether the code on it could go on by itself: by a timer, a thread, a socket.

It must not know what a runbook waits for.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LATELY = 1.0  # seconds: a timer that went off within these may not have done all that it was to do
_EXECUTOR = "asyncio_"  # how the threads of the default executor are called; they live on when they are idle
_CHILDREN = "waitpid-"  # is in the names of those that wait for processes

# Whether the code that runs is the worker's own, and not its bundle's: what it waits for keeps nobody.
ours: contextvars.ContextVar[bool] = contextvars.ContextVar("ours", default=False)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._watched = selectors.DefaultSelector()
        self._timers: list[asyncio.TimerHandle] = []
        self._prune_at = 64
        self._in_threads: set[object] = set()
        self._own_files = 0
        super().__init__(self._watched)

    def settle(self) -> None:
        """The files that are watched by now are the worker's own."""
        self._own_files = len(self._watched.get_map())

    def quiet(self) -> bool:
        """Whether nothing but the server can make the code on it go on."""
        self._prune()
        return not (self._timers or self._in_threads or len(self._watched.get_map()) > self._own_files or _threads())

    def _prune(self) -> None:
        since = self.time() - LATELY
        self._timers = [each for each in self._timers if not each.cancelled() and each.when() > since]
        self._prune_at = 2 * len(self._timers) + 64

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        if not ours.get():
            self._timers.append(handle)
            if len(self._timers) > self._prune_at:
                self._prune()
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        mark = object()

        def work() -> T:  # a call that nobody waits for any more still goes on in its thread
            try:
                return func(*args)
            finally:
                self._in_threads.discard(mark)

        self._in_threads.add(mark)
        return super().run_in_executor(executor, work)


def _threads() -> bool:
    """Whether there is a thread that may do something for the code. What a library keeps in the background does not."""
    main = threading.main_thread()
    return any(
        _CHILDREN in each.name or not (each.daemon or each is main or each.name.startswith(_EXECUTOR))
        for each in threading.enumerate()
    )
