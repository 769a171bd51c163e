"""A journal as a worker reads it: the answers to calls that were made before, by their keys, and the signals between.

Nothing that has an answer is called again. A signal reaches the runbook before any answer that was written after it, as
it did the first time. It must not write.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from hostler.runbooks.entries import Entry

_TICKS = 4  # of the loop, until whatever an answer has set going has asked for the next
_ANSWERS = ("step", "activity", "waited", "child", "child_ended", "agent", "moment")


class Recall:
    def __init__(self, entries: Iterable[Entry], deliver: Callable[[Entry], None]) -> None:
        """`deliver` gives the runbook a signal."""
        self._answers: dict[tuple[str, str], Entry] = {}
        self._attempts: dict[str, list[Entry]] = defaultdict(list)
        self._waiting: dict[str, Entry] = {}
        self._signals: deque[Entry] = deque()
        self._turns: list[tuple[float, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()
        self._deliver = deliver
        self.position = 0
        self.live = asyncio.Event()  # all that was written has been gone through
        self.delivered = 0  # of the last signal that the runbook was given
        self.heard = 0  # of the last that came in: what the task writes meanwhile may come after one on its way
        for entry in entries:
            self._add(entry)
        self.heard = self.position

    def _add(self, entry: Entry) -> None:
        self.position = max(self.position, entry.position)
        if entry.kind in _ANSWERS:
            self._answers[entry.kind, entry.key] = entry
        elif entry.kind == "attempt":
            self._attempts[entry.key].append(entry)
        elif entry.kind == "waiting":
            self._waiting[entry.key] = entry
        elif entry.kind == "signal":
            self._signals.append(entry)

    async def answer(self, kind: str, key: str) -> Entry | None:
        """The answer of a call, once, or None. Calls that wait together get theirs in order."""
        found = self._answers.pop((kind, key), None)
        if found is not None:
            await self._turn(found.position)
            if self._deliver_until(found.position):
                await _handlers_begin()
        return found

    async def step(self, key: str) -> Entry | None:
        """The answer of a step. What had been heard when it was written has had its effect, which the step's state
        holds: it is not given to the runbook again."""
        found = self._answers.pop(("step", key), None)
        if found is not None:
            await self._turn(found.position)
            heard = int(found.body.get("heard", 0)) if found.value is not None else 0
            while self._signals and self._signals[0].position <= heard:
                self.delivered = self._signals.popleft().position
        return found

    def at_once(self, kind: str, key: str) -> Entry | None:
        """The same for a call that can't wait."""
        return self._answers.pop((kind, key), None)

    async def caught_up(self) -> None:
        """Wait until nothing that was asked for before is still to be answered, and give the runbook all signals."""
        if self._turns:
            await self._turn(math.inf)
        if self._deliver_until(math.inf):
            await _handlers_begin()
        self.live.set()

    async def _turn(self, position: float) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if not self._turns:
            loop.call_soon(self._next, loop, _TICKS)
        heapq.heappush(self._turns, (position, next(self._tickets), turn))
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop, ticks: int) -> None:
        if ticks:
            loop.call_soon(self._next, loop, ticks - 1)
            return
        *_, turn = heapq.heappop(self._turns)
        if not turn.done():
            turn.set_result(None)
        if self._turns:
            loop.call_soon(self._next, loop, _TICKS)

    def attempts(self, key: str) -> list[Entry]:
        """The failed attempts of a call that has no answer."""
        return self._attempts.pop(key, [])

    def waiting(self, key: str) -> Entry | None:
        return self._waiting.pop(key, None)

    def signal(self, entry: Entry) -> None:
        """One that came just now."""
        if entry.position > self.heard:
            self.heard = entry.position
            self.position = max(self.position, entry.position)
            self._signals.append(entry)

    def deliver(self) -> bool:
        """Give the runbook what came; says whether there was anything."""
        return self._deliver_until(math.inf)

    def _deliver_until(self, position: float) -> bool:
        some = False
        while self._signals and self._signals[0].position < position:
            some = True
            signal = self._signals.popleft()
            self.delivered = signal.position
            self._deliver(signal)
        return some


async def _handlers_begin() -> None:
    """Let a signal's handler that is a coroutine do what it does without waiting."""
    for _ in range(_TICKS // 2):
        await asyncio.sleep(0)
