"""One wake of one session: its lease, its row, its folded log, and the ways to add to it. It must not decide anything.

What the loop decides is in `loop`, `ask`, `act` and `settle`; they all work on a `Run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import bindparam, select

from hostler import clock
from hostler.harness.ledger import Ledger, read_ledger
from hostler.harness.state import Session
from hostler.log.append import NewInput
from hostler.log.entries import Draft, Entry, Item
from hostler.log.log import Log, read_tx
from hostler.sandbox.contract import Sandbox
from hostler.store.dispatch import Lease
from hostler.store.sql import Tx
from hostler.store.store import Duplicate
from hostler.store.tables import files, resources, sessions
from hostler.wire.agents import SessionAgent

T = TypeVar("T")


class Interrupted(Exception):
    """A user.interrupt waits in the log: leave what you do, the loop will deal with it."""


class Input(msgspec.Struct, frozen=True):
    """A file that is mounted for the agent."""

    blob: str
    target: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the harness needs of the session's row."""

    thread_id: str
    status: str
    agent: SessionAgent
    environment: dict[str, Any]
    budget: dict[str, Any] | None
    ledger: Ledger
    active_us: int
    running_since: int | None
    last_at: int
    inputs: list[Input]


_SESSION = select(
    sessions.c.thread_id,
    sessions.c.status,
    sessions.c.agent,
    sessions.c.environment,
    sessions.c.budget,
    sessions.c.usage,
    sessions.c.active_us,
    sessions.c.running_since,
    sessions.c.last_at,
).where(sessions.c.id == bindparam("s"))
_INPUTS = (
    select(files.c.blob, resources.c.mount_path)
    .join_from(resources, files, resources.c.file_id == files.c.id)
    .where(resources.c.session_id == bindparam("s"))
    .order_by(resources.c.mount_path)
)
_decode_agent = msgspec.json.Decoder(SessionAgent).decode


def row_tx(session_id: str) -> Tx[Row]:
    """Read a session's row and its inputs."""
    ((thread_id, status, agent, environment, budget, usage, active_us, running_since, last_at),) = yield (
        _SESSION,
        {"s": session_id},
    )
    inputs = yield _INPUTS, {"s": session_id}
    return Row(
        thread_id=thread_id,
        status=status,
        agent=_decode_agent(agent),
        environment=msgspec.json.decode(environment),
        budget=msgspec.json.decode(budget) if budget else None,
        ledger=read_ledger(usage),
        active_us=active_us,
        running_since=running_since,
        last_at=last_at,
        inputs=[Input(blob, target) for blob, target in inputs],
    )


def recall_tx(session_id: str, from_seq: int) -> Tx[tuple[Row, list[Entry]]]:
    """Read all that a wake begins with, in one look: the row, and the entries from `from_seq` on."""
    row = yield from row_tx(session_id)
    entries = yield from read_tx(session_id, from_seq)
    return row, entries


class Run:
    """A session while somebody works on it."""

    def __init__(self, log: Log, lease: Lease, row: Row, session: Session) -> None:
        self.log = log
        self.lease = lease
        self.session_id = lease.session_id
        self.row = row
        self.session = session
        self.ledger = row.ledger
        self.active_us = row.active_us
        self.running_since = row.running_since
        self._restated: dict[str, Any] = {}  # columns for the next append
        if row.running_since is not None:
            # Its last holder died in mid-run. It ran until its last entry, and runs again from now on.
            self.active_us += max(0, row.last_at - row.running_since)
            self.running_since = clock.now()
            self._restated = {"active_us": self.active_us, "running_since": self.running_since}
        self.poked = asyncio.Event()
        self.sandbox: Sandbox | None = None  # once a tool has needed it in this wake
        self.inputs_stale = False  # the row's inputs have changed since it was read
        self.reported: set[bytes] = set()  # problems of served tools that this wake has told of
        self.must_summarise = False  # the model said that the context is too long

    async def reload(self) -> None:
        """Read the row again, for what others may change while the session runs: its inputs."""
        self.inputs_stale = False
        self.row = await self.log.store.read(lambda: row_tx(self.session_id))

    async def refresh(self) -> None:
        """Take in what others have appended since."""
        self.session.absorb(await self.log.read(self.session_id, self.session.next_seq))

    async def append(
        self, items: Sequence[Item], *, patch: dict[str, Any] | None = None, strict: bool = False
    ) -> list[Entry]:
        """Append to the log and to the folded state. `strict` raises NewInput when somebody appended meanwhile, and
        Duplicate when a call was answered meanwhile; both leave the state refreshed and nothing written."""
        seen = self.session.next_seq if strict else None
        patch = {**self._restated, **(patch or {})}
        try:
            appended = await self.log.append(
                self.session_id, self.row.thread_id, items, token=self.lease.token, seen=seen, patch=patch
            )
        except (NewInput, Duplicate):
            await self.refresh()
            raise
        self._restated = {}
        self._take_times(patch)
        mine = sum(1 for item in items if isinstance(item, Draft))
        if appended.next_seq - mine == self.session.next_seq:
            self.session.absorb(appended.entries)
        else:
            self.session.absorb(entry for entry in appended.entries if entry.seq < self.session.next_seq)
            await self.refresh()
        return appended.entries

    def opening(self) -> list[Item]:
        """The running pair, unless the session runs already."""
        if self.session.running and not self.session.rescheduled:
            return []
        return [Draft(type="session.status_running"), Draft(type="session.thread_status_running", fields=self.thread)]

    def opened(self) -> dict[str, Any]:
        """The columns that go with `opening`."""
        if self.session.running and not self.session.rescheduled:
            return {}
        return {"status": "running", "running_since": self.running_since or clock.now()}

    def paused(self) -> dict[str, Any]:
        """The columns that end a running interval. It ends when they are committed."""
        running_us = max(0, clock.now() - self.running_since) if self.running_since is not None else 0
        return {"active_us": self.active_us + running_us, "running_since": None}

    def _take_times(self, patch: dict[str, Any]) -> None:
        self.active_us = patch.get("active_us", self.active_us)
        self.running_since = patch.get("running_since", self.running_since)

    @property
    def thread(self) -> dict[str, Any]:
        return {"agent_name": self.row.agent.name, "session_thread_id": self.row.thread_id}

    async def unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, and watch the log meanwhile. When a user.interrupt comes in, cancel it and raise Interrupted."""
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
                if self.session.interrupted:
                    raise Interrupted
        finally:
            poke.cancel()
            task.cancel()
            await asyncio.wait({task, poke})
            if not task.cancelled():
                task.exception()
