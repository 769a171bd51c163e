"""What a task waits for outside of its process: agents at work and children, each until its end is in the journal.

They go on when the process has gone. It must not know processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from hostler import clock
from hostler.runbooks import tasks as rows
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.journal import append_tx
from hostler.store.dispatch import Lease
from hostler.store.sql import Tx


class Ends(Protocol):
    """Each writes the end into the task's journal. Raises NotFound, Taken, Unavailable."""

    async def child_end(self, lease: Lease, child_id: str) -> Entry: ...

    async def agent(self, lease: Lease, key: str, asked: dict[str, Any] | None) -> Entry: ...

    async def forget_agent(self, lease: Lease, key: str) -> None: ...


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What a process that was given up left behind: agents by the keys of their calls, children by their ids, and the
    time at which the code goes on anyway, in seconds since the epoch."""

    agents: list[str] = []
    children: list[str] = []
    until: float | None = None

    @property
    def waits(self) -> bool:
        """Whether somebody has to be there for it; a person's answer and a time are noticed by themselves."""
        return bool(self.agents or self.children)

    @classmethod
    def of(cls, entries: list[Entry]) -> Left | None:
        """What the journal ends with; None when something has come since, which is for the code to hear."""
        last = entries[-1] if entries else None
        return msgspec.convert(last.body, cls) if last is not None and last.kind == "resting" else None


def rest_tx(lease: Lease, position: int, left: Left, known: Left | None) -> Tx[bool]:
    """Let a task go on without a process; False, and nothing written, when something is in its journal after the entry
    at `position`. Where nothing is left for anybody to do, the lease ends with it. `known` is what the journal says
    already. Raises Taken."""
    at = None if left.until is None else int(left.until * 1_000_000)
    if not (yield from rows.rest_tx(lease.session_id, lease.token, position, at, held=left.waits)):
        return False
    if left.waits and left != known:
        draft = Draft(kind="resting", body=msgspec.to_builtins(left))
        yield from append_tx(lease.session_id, [draft], now=clock.now(), token=lease.token)
    return True


class Outstanding:
    def __init__(self, ends: Ends, lease: Lease) -> None:
        self._ends = ends
        self._lease = lease
        self._agents: dict[str, asyncio.Task[Entry]] = {}
        self._children: dict[str, asyncio.Task[Entry]] = {}

    def agent(self, key: str, asked: dict[str, Any] | None = None) -> asyncio.Task[Entry]:
        """The end of a call. Without `asked` it is what was asked before."""
        return _begun(self._agents, key, lambda: self._ends.agent(self._lease, key, asked))

    def child(self, task_id: str) -> asyncio.Task[Entry]:
        return _begun(self._children, task_id, lambda: self._ends.child_end(self._lease, task_id))

    async def forget_agent(self, key: str) -> None:
        """Nobody waits for this one any more."""
        if (task := self._agents.pop(key, None)) is not None:
            await _ended({task})
            await self._ends.forget_agent(self._lease, key)

    async def forget_child(self, task_id: str) -> None:
        """Nobody waits for its end any more; it goes on."""
        if (task := self._children.pop(task_id, None)) is not None:
            await _ended({task})

    def left(self, until: float | None) -> Left:
        return Left(agents=sorted(self._agents), children=sorted(self._children), until=until)

    def resume(self, left: Left) -> list[asyncio.Task[Entry]]:
        return [*map(self.agent, left.agents), *map(self.child, left.children)]

    async def aclose(self) -> None:
        """Let go of all; sessions stay at work for who comes next."""
        await _ended({*self._agents.values(), *self._children.values()})


def _begun(
    running: dict[str, asyncio.Task[Entry]], key: str, make: Callable[[], Coroutine[Any, Any, Entry]]
) -> asyncio.Task[Entry]:
    """The one that runs, or a new one; it is gone from there when it is over."""

    def over(task: asyncio.Task[Entry]) -> None:
        if running.get(key) is task:
            del running[key]
        if not task.cancelled():
            task.exception()  # whoever waits is told; nobody may wait any more

    if key not in running:
        task = running[key] = asyncio.create_task(make())
        task.add_done_callback(over)
    return running[key]


async def _ended(tasks: set[asyncio.Task[Entry]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
