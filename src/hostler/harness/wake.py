"""One wake of one session: its lease, its row, its folded log, and what its threads share. It must not decide anything.

All appends of a wake pass through `append`, one at a time: it knows every thread, so it alone can tell when the session
as a whole starts and stops, and what the session's own list shows of a child thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from hostler import clock
from hostler.harness.crossposts import crossposted
from hostler.harness.ledger import Ledger
from hostler.harness.recalling import Row, row_tx
from hostler.harness.run import Addition, Idle, Run
from hostler.harness.self_hosted import TOOL_NAMES, is_self_hosted
from hostler.harness.state import Session, Thread
from hostler.harness.threads import ThreadRow, change, stored_row
from hostler.log.append import NewInput
from hostler.log.entries import Draft, Entry, Item
from hostler.log.log import Log
from hostler.sandbox.contract import Sandbox
from hostler.store.dispatch import Lease
from hostler.store.sql import Request
from hostler.store.store import Duplicate
from hostler.wire.usage import BudgetLimit

# A run is over: nobody holds the session, and nothing is due.
RELEASED = {"wake_at": None, "lease_owner": None, "lease_until": None}
BUDGET_REACHED = {"type": "budget_reached"}
END_TURN = {"type": "end_turn"}


class Wake:
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
        self.lock = asyncio.Lock()  # of appends
        self.changed = asyncio.Event()  # something came in for a thread
        self.sandbox: Sandbox | None = None  # once a tool has needed it in this wake
        self.sandbox_lock = asyncio.Lock()  # of provisioning, and of collecting what is in it
        self.repositories_lock = asyncio.Lock()  # of putting them into the sandbox
        self.repositories_tried = False  # each is tried once a wake
        self.inputs_stale = False  # the row's inputs have changed since it was read
        self.released = False  # the session is let go of: whoever works on it next claims it anew
        self._columns: dict[str, Any] = {}  # of the session, for the next append
        self._thread_columns: dict[str, dict[str, Any]] = {}  # of its threads, likewise
        self.runs = {thread.id: Run(self, thread) for thread in row.threads}
        self._go_on_counting()

    @property
    def primary(self) -> Run:
        return self.runs[self.row.thread_id]

    @property
    def budget(self) -> BudgetLimit | None:
        """As the log last changed it, else as the row had it when this wake began."""
        changed = self.session.budget
        return self.row.budget if isinstance(changed, msgspec.UnsetType) else changed

    @property
    def several(self) -> bool:
        """Whether the session may have more than one thread."""
        return self.primary.row_of_thread.stored

    def poke(self) -> None:
        """Something was appended by somebody else."""
        self.changed.set()
        for run in self.runs.values():
            run.poked.set()

    async def reload(self) -> None:
        """Read the row again, for what others may change while the session runs."""
        self.inputs_stale = False
        self.row = await self.log.store.read(lambda: row_tx(self.session_id))

    async def refresh(self) -> None:
        """Take in what others have appended since. Not while an append is under way: what it consumes would be folded
        behind what it adds."""
        async with self.lock:
            await self._refresh()

    async def _refresh(self) -> None:
        self.session.absorb(await self.log.read(self.session_id, self.session.next_seq))

    def spend(self, thread_id: str, count: Callable[[Ledger], Ledger]) -> None:
        """Count something used, for the session and for the thread; written with the next append."""
        self.ledger = count(self.ledger)
        self._columns["usage"] = msgspec.json.encode(self.ledger)
        row = self.runs[thread_id].row_of_thread
        if row.stored:
            row.ledger = count(row.ledger)
            self._change(thread_id, usage=msgspec.json.encode(row.ledger))

    async def append(self, run: Run, addition: Addition) -> list[Entry]:
        """What `Run.append` says, for one of the threads. The caller holds the lock."""
        items, columns, own = self._complete(run, addition)
        waiting, self._columns, self._thread_columns = (self._columns, self._thread_columns), {}, {}
        statements = self._statements(run, own, addition, waiting[1])
        columns = {**waiting[0], **columns}
        try:
            appended = await self.log.append(
                self.session_id,
                self.row.thread_id,
                items,
                token=self.lease.token,
                seen=self.session.next_seq if addition.strict else None,
                patch=columns,
                also=statements,
            )
        except BaseException as problem:
            self._columns = {**waiting[0], **self._columns}
            for thread_id, changed in waiting[1].items():
                self._thread_columns[thread_id] = {**changed, **self._thread_columns.get(thread_id, {})}
            if isinstance(problem, NewInput | Duplicate):
                await self._refresh()
            raise
        self._written(run, columns, own, addition)
        await self._take_in(appended.entries, appended.next_seq, sum(1 for item in items if isinstance(item, Draft)))
        if any(entry.queued and entry.thread_id != run.id for entry in appended.entries):
            self.changed.set()
        return appended.entries

    def _complete(self, run: Run, addition: Addition) -> tuple[list[Item], dict[str, Any], dict[str, Any]]:
        """All items of an addition, the session's columns, and the columns of the thread's own row."""
        head: list[Item] = []
        tail: list[Item] = []
        columns = dict(addition.patch)
        own: dict[str, Any] = {}
        last = not self.others_active(run, addition.items)
        if addition.opening:
            head = self._opening(run, columns, own)
        if addition.pausing:
            tail = self._pausing(run, columns, own, last)
        if addition.idle:
            tail = self._idling(run, addition.idle, columns, own, last)
        if addition.release and last:
            tail = self._releasing(run, columns)
        at_workers = TOOL_NAMES if is_self_hosted(self.row) else ()
        items = crossposted([*head, *addition.items, *tail], run.id, self.row.thread_id, at_workers)
        return items, columns, own

    async def _take_in(self, written: list[Entry], next_seq: int, mine: int) -> None:
        if next_seq - mine == self.session.next_seq:
            self.session.absorb(written)
        else:
            self.session.absorb(entry for entry in written if entry.seq < self.session.next_seq)
            await self._refresh()

    def _opening(self, run: Run, columns: dict[str, Any], own: dict[str, Any]) -> list[Item]:
        """The running pair, as far as the session and the thread don't run already."""
        items: list[Item] = []
        if not self.session.running or self.session.rescheduled:
            items.append(Draft(type="session.status_running"))
            columns |= {"status": "running", "running_since": self.running_since or clock.now()}
        if not run.thread.running or run.thread.rescheduled:
            items.append(Draft(type="session.thread_status_running", fields=run.label))
            own |= _times(run.row_of_thread, "running")
        return items

    def _pausing(self, run: Run, columns: dict[str, Any], own: dict[str, Any], last: bool) -> list[Item]:
        """A pause before the next attempt: the session pauses with the last thread that has anything to do."""
        own |= _times(run.row_of_thread, "rescheduling")
        items: list[Item] = [Draft(type="session.thread_status_rescheduled", fields=run.label)]
        if last:
            columns |= {"status": "rescheduling", **self.paused()}
            items.insert(0, Draft(type="session.status_rescheduled"))
        return items

    def _idling(self, run: Run, idle: Idle, columns: dict[str, Any], own: dict[str, Any], last: bool) -> list[Item]:
        """The thread's idle event, and the session's when no other thread has anything to do."""
        stop = {"stop_reason": idle.stop_reason, "stop_details": idle.details}
        items: list[Item] = [Draft(type="session.thread_status_idle", fields={**run.label, **stop})]
        own |= _times(run.row_of_thread, "idle")
        if not last:
            return items
        return items + self._session_idle(run, idle, columns)

    def _releasing(self, run: Run, columns: dict[str, Any]) -> list[Item]:
        """Nobody has anything to do, and the thread has turned idle before. The session has, too, unless the one that
        it went on for was ended from outside."""
        columns |= RELEASED
        if not self.session.running:
            return []
        stop = self.primary.thread.stop or END_TURN
        if run.thread.waiting:
            stop = {"type": "requires_action", "event_ids": run.thread.waiting}
        elif stop["type"] == "requires_action":
            stop = END_TURN
        return self._session_idle(run, Idle(stop), columns)

    def _session_idle(self, run: Run, idle: Idle, columns: dict[str, Any]) -> list[Item]:
        """The end of the session's turn, in which this thread was the last, and the columns that go with it."""
        stop = {"stop_reason": idle.stop_reason, "stop_details": idle.details}
        waiting = self._waiting(run, idle)
        paused = idle.stop_reason == BUDGET_REACHED or any(other.paused for other in self._others(run))
        if waiting:
            stop = {"stop_reason": {"type": "requires_action", "event_ids": waiting}, "stop_details": None}
        elif paused:
            stop = {"stop_reason": BUDGET_REACHED, "stop_details": None}
        times = self.paused()
        usage = {"usage": msgspec.to_builtins(self.ledger.wire(times["active_us"])), "budget": self.budget}
        columns |= {"status": "idle", "pending": msgspec.json.encode(waiting), "paused": int(paused)}
        columns |= {**times, **RELEASED}
        return [Draft(type="session.usage", fields=usage), Draft(type="session.status_idle", fields=stop)]

    def paused(self) -> dict[str, Any]:
        """The columns that end a running interval of the session. It ends when they are committed."""
        running_us = max(0, clock.now() - self.running_since) if self.running_since is not None else 0
        return {"active_us": self.active_us + running_us, "running_since": None}

    def _waiting(self, run: Run, idle: Idle) -> list[str]:
        """All that clients must answer once this thread is idle."""
        own: list[str] = idle.stop_reason.get("event_ids", [])
        return own + [call_id for other in self._others(run) for call_id in other.waiting]

    def _others(self, run: Run) -> Iterable[Thread]:
        return (thread for thread in self.session.threads.values() if thread.id != run.id and not thread.terminated)

    def others_active(self, run: Run, items: Sequence[Item] = ()) -> bool:
        """Whether another thread has something to do, what `items` send it included."""
        if not self.several:
            return False
        drafts = (item for item in items if isinstance(item, Draft) and item.queued)
        sent = any(draft.thread_id not in (None, run.id) and self._takes_up(draft.thread_id) for draft in drafts)
        return sent or any(thread.active for thread in self._others(run))

    def others_busy(self, run: Run) -> bool:
        """Whether another thread has something to do, or will have once a client answers it or the budget allows."""
        return self.others_active(run) or any(thread.waiting or thread.paused for thread in self._others(run))

    def _takes_up(self, thread_id: str | None) -> bool:
        """Whether a thread looks at a message once it gets one: not while it waits for a client, or for money."""
        thread = self.session.threads.get(thread_id or "")
        return thread is None or not (thread.waiting or thread.paused)

    def _change(self, thread_id: str, **columns: Any) -> None:
        self._thread_columns.setdefault(thread_id, {}).update(columns)

    def _statements(
        self, run: Run, own: dict[str, Any], addition: Addition, changes: dict[str, dict[str, Any]]
    ) -> list[Request]:
        """What is written to the threads' rows in the same commit."""
        now = clock.now()
        changes = dict(changes)
        if own and run.row_of_thread.stored:
            changes[run.id] = {**changes.get(run.id, {}), **own}
        for thread_id in addition.closed:
            changes[thread_id] = {**changes.get(thread_id, {}), "status": "terminated", "archived_at": now}
        made = [change(self.session_id, thread_id, updated_at=now, **columns) for thread_id, columns in changes.items()]
        return [*made, *(stored_row(self.session_id, row, now) for row in addition.opened), *addition.also]

    def _written(self, run: Run, columns: dict[str, Any], own: dict[str, Any], addition: Addition) -> None:
        self.active_us = columns.get("active_us", self.active_us)
        self.running_since = columns.get("running_since", self.running_since)
        self.released = self.released or "lease_owner" in columns
        if own:
            run.row_of_thread.active_us, run.row_of_thread.running_since = own["active_us"], own["running_since"]
        for row in addition.opened:
            if not row.archived:
                self.runs[row.id] = Run(self, row)
        for thread_id in addition.closed:
            self.runs.pop(thread_id, None)

    def _go_on_counting(self) -> None:
        """Its last holder may have died in mid-run. It ran until its last entry, and runs again from now on."""
        now = clock.now()
        if self.running_since is not None:
            self.active_us += max(0, self.row.last_at - self.running_since)
            self.running_since = now
            self._columns |= {"active_us": self.active_us, "running_since": now}
        for thread in self.row.threads:
            if thread.running_since is not None:
                thread.active_us += max(0, self.row.last_at - thread.running_since)
                thread.running_since = now
                self._change(thread.id, active_us=thread.active_us, running_since=now)


def _times(row: ThreadRow, status: str) -> dict[str, Any]:
    """The columns of a thread whose status changes now."""
    now = clock.now()
    ran = max(0, now - row.running_since) if row.running_since is not None else 0
    since = now if status == "running" else None
    return {"status": status, "active_us": row.active_us + ran, "running_since": since}
