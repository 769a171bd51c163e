"""Session events: sending, listing, following. The rules of what may be sent are `intake`'s.

It must not run anything: after the commit it only wakes whoever does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, select

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.harness.workqueue import WorkHints, enqueued
from hostler.log.append import append_tx
from hostler.log.entries import Draft, Entry
from hostler.log.log import Log, Page
from hostler.log.tail import Tail
from hostler.models.catalogue import Catalogue
from hostler.services import budgets, defining, intake, self_hosted
from hostler.services.paging import BAD_CURSOR, Between, Cursor, read_cursor
from hostler.services.reading import first, rows
from hostler.services.resources import missing_session
from hostler.services.thread_rows import children_tx, threads_tx
from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.tables import sessions
from hostler.wire.agents import SessionAgent
from hostler.wire.events import EventsSend, SystemMessageParams

_STATE = select(
    sessions.c.thread_id,
    sessions.c.pending,
    sessions.c.queued,
    sessions.c.archived_at,
    sessions.c.status,
    sessions.c.agent,
    sessions.c.wake_at,
    sessions.c.budget,
    sessions.c.usage,
    sessions.c.active_us,
    sessions.c.running_since,
    sessions.c.paused,
    sessions.c.outcomes,
    sessions.c.environment,
    sessions.c.environment_id,
).where(sessions.c.id == bindparam("s"))
_STATUS = select(sessions.c.thread_id, sessions.c.status).where(sessions.c.id == bindparam("s"))
_AGENT = select(sessions.c.agent).where(sessions.c.id == bindparam("s"))
_ids = msgspec.json.Decoder(list[str]).decode
_agent = msgspec.json.Decoder(SessionAgent).decode


class Sent(NamedTuple):
    echoes: list[Entry]
    appended: list[Entry]
    environment_id: str = ""


class Listing(NamedTuple):
    data: list[msgspec.Raw]
    next_page: str | None


class Followed(NamedTuple):
    tail: Tail
    over: bool  # the session is terminated: nothing will come any more


class Events:
    def __init__(
        self, log: Log, blobs: Blobs, catalogue: Catalogue, wake: Callable[[str], None], work: WorkHints
    ) -> None:
        self._log = log
        self._blobs = blobs
        self._catalogue = catalogue
        self._wake = wake
        self._work = work

    async def send(self, session_id: str, params: EventsSend) -> list[msgspec.Raw]:
        """Accept the whole request durably, or refuse it whole. Returns the events as they now stand."""
        intake.check(params.events)
        events = await defining.with_text_rubrics(self._log.store, self._blobs, params.events)
        now = clock.now()

        def tx() -> Tx[Sent]:
            state = yield from _state_tx(session_id, self._takes_system(params), now)
            taken = yield from intake.take_tx(state, events, now)
            if not taken.drafts:
                return Sent([echo for echo in taken.echoes if isinstance(echo, Entry)], [])
            appended = yield from append_tx(session_id, state.thread_id, taken.drafts, now=now, patch=taken.patch)
            at_rest = state.resting and not taken.patch  # an interrupt of nothing
            if state.self_hosted and not at_rest and self_hosted.wants_worker(events):
                yield enqueued(state.environment_id, session_id, now)
            return Sent(echo(taken.echoes, appended.entries), appended.entries, state.environment_id)

        sent = await self._log.store.write(tx, lambda sent: self._tell(session_id, sent))
        return [msgspec.Raw(entry.wire()) for entry in sent.echoes]

    async def list(
        self,
        session_id: str,
        *,
        limit: int,
        page: str | None,
        order: str = "asc",
        between: Between | None = None,
        types: Sequence[str] = (),
        thread_id: str | None = None,
    ) -> Listing:
        between = between or Between()
        cursor = read_cursor(page, order, between)
        if cursor is not None and (cursor.back or cursor.id):
            raise InvalidRequest(BAD_CURSOR)
        wanted = Page(
            session_id=session_id,
            limit=limit + 1,
            descending=order == "desc",
            after=cursor.at if cursor else None,
            thread_id=thread_id,
            types=tuple(types),
            **between._asdict(),
        )
        found = await self._log.page(wanted)
        if not found:  # what is listed belongs to a session and a thread that exist
            await self._log.store.read(lambda: _thread_tx(session_id, thread_id))
        shown = found[:limit]
        more = Cursor(order, shown[-1].position, "").encode() if len(found) > limit else None
        return Listing([msgspec.Raw(entry.wire()) for entry in shown], more)

    async def follow(self, session_id: str, *, previews: frozenset[str], thread_id: str | None = None) -> Followed:
        """Follow a session from now on: the tail is listening when this returns. Leave it with `async with`."""
        tail = await self._log.tail(session_id, thread_id=thread_id, previews=previews)
        try:
            # After it listens: a session that ended before would never tell it.
            status = await self._log.store.read(lambda: _thread_tx(session_id, thread_id))
        except BaseException:
            await tail.__aexit__()
            raise
        return Followed(tail, status == "terminated")

    def _takes_system(self, params: EventsSend) -> Callable[[bytes], bool] | None:
        """How to find out, from a session's agent, about its model; None when nobody needs to know."""
        if not isinstance(params.events[-1], SystemMessageParams):
            return None
        return lambda agent: self._catalogue.traits(_agent(agent).model.id).mid_conversation_system

    def _tell(self, session_id: str, sent: Sent) -> None:
        if sent.appended:
            self._log.hub.publish(session_id, sent.appended)
            self._wake(session_id)
            self._work.wake(sent.environment_id)


def echo(echoes: Sequence[Draft | Entry], written: Sequence[Entry]) -> list[Entry]:
    """Replace each draft by the entry that was made of it."""
    by_id = {entry.id: entry for entry in written}
    return [by_id[item.id] if isinstance(item, Draft) else item for item in echoes]


def _state_tx(session_id: str, takes_system: Callable[[bytes], bool] | None, now: int) -> Tx[intake.State]:
    row = yield from first(_STATE, {"s": session_id})
    if row is None:
        raise missing_session(session_id)
    if row[3] is not None:
        raise InvalidRequest(f"Session {session_id} is archived and accepts no more events.")
    if row[4] == "terminated":
        raise InvalidRequest(f"Session {session_id} is terminated and accepts no more events.")
    takes = takes_system is None or takes_system(row[5])
    pending, idle = _ids(row[1]), row[4] == "idle"
    children = yield from children_tx(session_id, row[5])
    return intake.State(
        session_id,
        row[0],
        pending,
        row[2],
        idle,
        children=children,
        # An outcome that is not reached is something to interrupt, though nobody works on it.
        resting=idle and not pending and row[6] is None and not defining.unreached(row[12]),
        takes_system=takes,
        capped=bool(row[11]) or budgets.reached(row[7], row[8], row[9], row[10], now),
        paused=bool(row[11]),
        outcomes=row[12],
        self_hosted=self_hosted.of_config(row[13]),
        environment_id=row[14],
    )


def _thread_tx(session_id: str, thread_id: str | None) -> Tx[str]:
    """The status of the thread, or of the session. Raises NotFound for an unknown session or thread."""
    row = yield from first(_STATUS, {"s": session_id})
    if row is None:
        raise missing_session(session_id)
    status: str = row[1]
    if thread_id is not None and thread_id != row[0]:
        (agent,) = yield from rows(_AGENT, {"s": session_id})
        stored = yield from threads_tx(session_id, agent[0])
        status = next((thread.status for thread in stored if thread.id == thread_id), "")
        if not status:
            raise missing_thread(thread_id)
    return status


def missing_thread(thread_id: str) -> NotFound:
    return NotFound(f"Session thread {thread_id} was not found.")
