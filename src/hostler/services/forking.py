"""What of a session's history a fork has: where it may end, and what the session was at that point.

It only reads: a point is settled when the session could have rested there, with every tool call of its turns answered
or waiting for a client. It must not copy anything.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, or_, select

from hostler.errors import InvalidRequest, NotFound
from hostler.harness.state import Session
from hostler.log.entries import COLUMNS, PUBLIC, Entry
from hostler.services import defining
from hostler.services.reading import first, rows
from hostler.store.sql import Tx
from hostler.store.tables import QUEUED, entries
from hostler.wire.base import timestamp

IDLE = "session.status_idle"
_STATUS = (IDLE, "session.status_running", "session.status_rescheduled", "session.status_terminated")
# What may stand in the list while a session rests, and changes nothing of what it would do next.
_AT_REST = ("session.updated", "user.interrupt", "session.error")
# What ends a turn after the agent has said its last: an event before it means the turn's end.
_AT_END = ("span.model_request_end", "session.usage", "session.thread_status_idle")
_OUTCOMES = (
    "user.define_outcome", "span.outcome_evaluation_start", "span.outcome_evaluation_end", "span.model_request_start",
)  # fmt: skip

_e = entries.c
_PUBLIC = select(*COLUMNS).where(_e.session_id == bindparam("s"), _e.private == PUBLIC, _e.position < QUEUED)
_EVENT = select(*COLUMNS).where(_e.session_id == bindparam("s"), _e.id == bindparam("id"), _e.private == PUBLIC)
_BEFORE = _PUBLIC.where(_e.position <= bindparam("p")).order_by(_e.position.desc()).limit(1)
_STATUS_BEFORE = (
    _PUBLIC.where(_e.position <= bindparam("p"), or_(*(_e.type == name for name in _STATUS)))
    .order_by(_e.position.desc())
    .limit(1)
)
_IDLE_BEFORE = _PUBLIC.where(_e.position <= bindparam("p"), _e.type == IDLE).order_by(_e.position.desc()).limit(1)
_IDLE_AFTER = _PUBLIC.where(_e.position > bindparam("p"), _e.type == IDLE).order_by(_e.position).limit(1)
_TYPES = (
    select(_e.type)
    .where(
        _e.session_id == bindparam("s"),
        _e.private == PUBLIC,
        _e.position > bindparam("after"),
        _e.position <= bindparam("upto"),
    )
    .distinct()
)
_UPDATES = (
    select(_e.position, _e.body)
    .where(_e.session_id == bindparam("s"), _e.type == "session.updated")
    .order_by(_e.position)
)
_OF_OUTCOMES = (
    select(*COLUMNS)
    .where(
        _e.session_id == bindparam("s"), _e.position <= bindparam("p"), or_(*(_e.type == name for name in _OUTCOMES))
    )
    .order_by(_e.position)
)


class Cut(msgspec.Struct, frozen=True):
    """Where a fork's history ends: the position of its last event, that event, and the end of the last turn in it."""

    position: int
    event_id: str | None
    idle: Entry | None
    present: bool  # nothing was listed since


def cut_tx(session_id: str, event_id: str | None) -> Tx[Cut]:
    """Find the settled point that an event names, or without one the end of the last turn. Raises NotFound, and
    InvalidRequest for an event inside a turn."""
    if event_id is None:
        last = yield from first(_BEFORE, {"s": session_id, "p": QUEUED})
        if last is not None and (yield from _settled_tx(session_id, last[1])):
            return (yield from _cut_tx(session_id, Entry(*last)))
        return (yield from _cut_tx(session_id, (yield from _entry_tx(_IDLE_BEFORE, session_id, QUEUED))))
    found = yield from first(_EVENT, {"s": session_id, "id": event_id})
    if found is None:
        raise NotFound(f"event_id: event {event_id} was not found among those that session {session_id} lists.")
    event = Entry(*found)
    if event.queued:
        raise InvalidRequest(f"event_id: event {event_id} still waits to be processed")
    if (yield from _settled_tx(session_id, event.position)):
        return (yield from _cut_tx(session_id, event))
    after = yield from _entry_tx(_IDLE_AFTER, session_id, event.position)
    if after is not None and not set((yield from _types_tx(session_id, event.position, after.position))) - {
        IDLE, *_AT_END,
    }:  # fmt: skip
        return (yield from _cut_tx(session_id, after))
    raise (yield from _inside_tx(session_id, event, after))


def _cut_tx(session_id: str, event: Entry | None) -> Tx[Cut]:
    last = yield from _entry_tx(_BEFORE, session_id, QUEUED)
    if event is None:
        return Cut(-1, None, None, last is None)
    idle = yield from _entry_tx(_IDLE_BEFORE, session_id, event.position)
    return Cut(event.position, event.id, idle, last is not None and last.position == event.position)


def _entry_tx(statement: Any, session_id: str, position: int) -> Tx[Entry | None]:
    found = yield from first(statement, {"s": session_id, "p": position})
    return Entry(*found) if found is not None else None


def _types_tx(session_id: str, after: int, upto: int) -> Tx[list[str]]:
    found = yield from rows(_TYPES, {"s": session_id, "after": after, "upto": upto})
    return [row[0] for row in found]


def _settled_tx(session_id: str, position: int) -> Tx[bool]:
    """Whether the session rested right after the event at `position`."""
    status = yield from _entry_tx(_STATUS_BEFORE, session_id, position)
    if status is not None and status.type != IDLE:
        return False
    since = yield from _types_tx(session_id, status.position if status else -1, position)
    return not set(since) - set(_AT_REST)


def _inside_tx(session_id: str, event: Entry, after: Entry | None) -> Tx[InvalidRequest]:
    before = yield from _entry_tx(_IDLE_BEFORE, session_id, event.position)
    choices = {"before": before.id if before else None, "after": after.id if after else None}
    said = [
        f"{choices['before']}, before that turn" if before else "",
        f"{choices['after']}, at its end" if after else "",
    ]
    ways = " or ".join(filter(None, said)) or "nothing yet: no turn has ended"
    return InvalidRequest(
        f"event_id: event {event.id} lies inside a turn, where a session can't begin; fork from {ways}",
        error_code="fork_inside_turn",
        details=choices,
    )


def agent_tx(session_id: str, cut: Cut, now: bytes, at_first: bytes | None) -> Tx[bytes]:
    """The agent as the session ran it at the cut; `now` is what it runs, `at_first` what it began with if that was
    ever changed."""
    updates = yield from rows(_UPDATES, {"s": session_id})
    changes = [(position, msgspec.json.decode(body, type=_Updated).agent) for position, body in updates]
    changes = [(position, agent) for position, agent in changes if agent is not msgspec.UNSET]
    earlier = [agent for position, agent in changes if position <= cut.position]
    if earlier:
        return bytes(earlier[-1])  # type: ignore[arg-type]
    return at_first if changes and at_first is not None else now


class _Updated(msgspec.Struct):
    agent: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def outcomes_tx(session_id: str, cut: Cut, thread_id: str, now: bytes | None) -> Tx[bytes | None]:
    """The session's outcomes as they stood at the cut, as its column has them; `now` is what that says at present."""
    found = yield from rows(_OF_OUTCOMES, {"s": session_id, "p": cut.position})
    session = Session()
    session.absorb(Entry(*row) for row in found)
    known = session.thread(thread_id).outcomes.values()
    shown = [each.shown(None if each.active else timestamp(each.ended_at or 0)) for each in known]
    current = {(each.outcome_id, each.iteration, each.result): each for each in defining.read(now)}
    same = [current.get((each.outcome_id, each.iteration, each.result), each) for each in shown]
    return msgspec.json.encode(same) if same else None


def stop_of(cut: Cut) -> dict[str, Any]:
    """How the last turn before the cut ended."""
    if cut.idle is None:
        return {"type": "end_turn"}
    stop: dict[str, Any] = cut.idle.decode()["stop_reason"]
    return stop
