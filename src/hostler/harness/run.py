"""One thread of a session while somebody works on it: its folded conversation, and the way to add to it. It must not
decide anything.

What the loop decides is in `loop`, `ask`, `act` and `settle`; they all work on a `Run`. What the threads of a session
share is their `Wake`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from hostler.harness.ledger import Ledger
from hostler.harness.state import MAIL, Thread
from hostler.harness.threads import ThreadRow
from hostler.log.append import NewInput
from hostler.log.entries import Consume, Draft, Entry, Item
from hostler.models.protocol import ModelUsage
from hostler.store.sql import Request
from hostler.store.store import Duplicate

if TYPE_CHECKING:
    from hostler.harness.recalling import Row
    from hostler.harness.wake import Wake
    from hostler.wire.agents import SessionAgent

T = TypeVar("T")


class Interrupted(Exception):
    """A user.interrupt waits in the log: leave what you do, the loop will deal with it."""


class Idle(msgspec.Struct, frozen=True):
    """How a turn ends."""

    stop_reason: dict[str, Any]
    details: dict[str, Any] | None = None


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """What a thread adds to the log in one commit.

    `patch` are columns of the session's row, `opened` threads to add, `closed` ones that end, `also` further
    statements. `opening` puts the
    running events in front, as far as session and thread don't run already. `idle` turns the thread idle, and the
    session when no other thread has anything to do; `pausing` does the same for a pause before the next attempt;
    `release` only lets go of the session then.
    """

    items: Sequence[Item]
    patch: dict[str, Any] = {}
    strict: bool = False
    opening: bool = False
    pausing: bool = False
    idle: Idle | None = None
    release: bool = False
    opened: Sequence[ThreadRow] = ()
    closed: Sequence[str] = ()
    also: Sequence[Request] = ()


class Run:
    """A thread of a session while somebody works on it. It is the only one who appends to its thread."""

    def __init__(self, wake: Wake, row: ThreadRow) -> None:
        self.wake = wake
        self.row_of_thread = row
        self.id = row.id
        self.thread: Thread = wake.session.thread(row.id)
        self.seen = self.thread.version  # what the step that is being done has looked at
        self.poked = asyncio.Event()
        self.must_summarise = False  # the model said that the context is too long
        self.reported: set[bytes] = set()  # problems of served tools that this wake has told of

    @property
    def session_id(self) -> str:
        return self.wake.session_id

    @property
    def row(self) -> Row:
        """The session's row, as it was last read."""
        return self.wake.row

    @property
    def agent(self) -> SessionAgent:
        return self.row_of_thread.agent

    @property
    def primary(self) -> bool:
        return self.id == self.wake.row.thread_id

    @property
    def label(self) -> dict[str, Any]:
        """What the events of a thread say of it."""
        return {"agent_name": self.row_of_thread.name, "session_thread_id": self.id}

    async def refresh(self) -> None:
        """Take in what others have appended since."""
        await self.wake.refresh()
        self.seen = self.thread.version

    async def append(
        self, items: Sequence[Item], *, patch: dict[str, Any] | None = None, strict: bool = False, **more: Any
    ) -> list[Entry]:
        """Append to the log and to the folded state, as one commit; `more` are further fields of `Addition`.

        `strict` raises NewInput when this thread has got something that its step has not looked at, and Duplicate when
        a call was answered meanwhile; both leave the state refreshed and nothing written.
        """
        addition = Addition(items=items, patch=patch or {}, strict=strict, **more)
        async with self.wake.lock:
            return await self._append(addition)

    async def decide(self, make: Callable[[], Awaitable[Addition]]) -> None:
        """Append what `make` makes of the whole session as it stands at that moment: nothing can come between. It must
        not wait for anything. Raises Interrupted when an interrupt is found meanwhile."""
        async with self.wake.lock:
            while not self.thread.interrupted:
                addition = await make()
                self.seen = self.thread.version
                with contextlib.suppress(NewInput):
                    await self._append(addition)
                    return
        raise Interrupted

    async def _append(self, addition: Addition) -> list[Entry]:
        """The caller holds the lock."""
        before = self.thread.version
        if addition.strict and before != self.seen:
            self.seen = before
            raise NewInput(self.session_id)
        try:
            written = await self.wake.append(self, addition)
        except (NewInput, Duplicate):
            self.seen = self.thread.version
            raise
        if before == self.seen:  # what others appended in between has not been looked at
            self.seen += sum(entry.thread_id == self.id for entry in written)
        return written

    def taken(self, entries: Iterable[Entry] | None = None) -> list[Item]:
        """What consumes all that waits, or some of it: what clients sent takes its place, a message of another thread
        is shown."""
        items: list[Item] = []
        for entry in self.thread.queued.values() if entries is None else entries:
            items.append(Consume(entry))
            if entry.type == MAIL:
                items.append(Draft(type="agent.thread_message_received", fields=entry.fields()))
        return items

    def spend(self, usage: ModelUsage, cost: Decimal | None) -> None:
        """Count a model request; it is written with the next append."""
        self.wake.spend(self.id, lambda ledger: ledger.add(usage, cost))

    def spend_searches(self, searches: int, cost: Decimal) -> None:
        """Count web searches that the server ran; they are written with the next append."""
        self.wake.spend(self.id, lambda ledger: ledger.add_searches(searches, cost))

    @property
    def ledger(self) -> Ledger:
        """What the whole session has used."""
        return self.wake.ledger

    async def unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, and watch the log meanwhile. When an interrupt comes in, cancel it and raise Interrupted."""
        task = asyncio.create_task(work)
        poke = asyncio.create_task(self.poked.wait())
        try:
            while True:
                await asyncio.wait({task, poke}, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return task.result()
                self.poked.clear()
                poke = asyncio.create_task(self.poked.wait())
                await self.refresh()
                if self.thread.interrupted:
                    raise Interrupted
        finally:
            poke.cancel()
            task.cancel()
            await asyncio.wait({task, poke})
            if not task.cancelled():
                task.exception()
