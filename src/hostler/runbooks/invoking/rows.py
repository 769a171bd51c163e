"""Calls of agents by tasks, as rows: noted before a session is made, so that a crash leaves no session unknown.

It must not know HTTP.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import bindparam, insert, select, update

from hostler import clock
from hostler.errors import Conflict, NotFound
from hostler.store.sql import Many, Tx
from hostler.store.tables import agent_runs as table
from hostler.store.tables import task_lines, tasks

_c, _l = table.c, task_lines.c

Asked = Literal["confirmation", "result"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a session waits for: leave to use a tool, or the result of a custom one."""

    event_id: str
    asked: Asked
    name: str
    input: dict[str, Any] = {}
    server: str | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said to a question. `text` is the result of a custom tool, or why a tool may not be used."""

    event_id: str
    allow: bool
    text: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of what an agent does, for people. `at` is in microseconds."""

    position: int
    at: int
    kind: str
    text: str
    agent_id: str
    session_id: str


class _Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    mark: str
    asked: msgspec.Raw = msgspec.Raw(b"{}")  # the arguments of the call, which may be large and are seldom looked at
    questions: list[Question] = []
    replies: list[Reply] = []
    error: str | None = None


class AgentRun(msgspec.Struct, frozen=True, kw_only=True):
    """`mark` is in the metadata of its session, by which it is found again. Times are microseconds."""

    task_id: str
    key: str
    agent_id: str
    session_id: str | None
    base_url: str | None
    started_at: int
    ended_at: int | None
    mark: str
    questions: list[Question]
    replies: list[Reply]


_COLUMNS = (_c.task_id, _c.key, _c.agent_id, _c.session_id, _c.base_url, _c.started_at, _c.ended_at, _c.body)
_MINE = (_c.task_id == bindparam("t"), _c.key == bindparam("k"))
_ONE = select(*_COLUMNS).where(*_MINE)
_OF_TASK = select(*_COLUMNS).where(_c.task_id == bindparam("t")).order_by(_c.started_at, _c.key)
_LIVE = select(*_COLUMNS).where(_c.agent_id == bindparam("a"), _c.ended_at.is_(None))
_LEFT = select(*_COLUMNS).join(tasks, tasks.c.id == _c.task_id)
_LEFT = _LEFT.where(_c.ended_at.is_(None), tasks.c.closed_at.is_not(None))
_INSERT = insert(table)
_SESSION = update(table).where(*_MINE).values(session_id=bindparam("s"))
_BODY = update(table).where(*_MINE).values(body=bindparam("b"))
_END = update(table).where(*_MINE, _c.ended_at.is_(None)).values(ended_at=bindparam("now"))


def begin_tx(
    task_id: str, key: str, agent_id: str, base_url: str | None, asked: dict[str, Any]
) -> Tx[tuple[AgentRun, bool]]:
    """The run of this call, and whether it is a new one."""
    rows = yield _ONE, {"t": task_id, "k": key}
    if fresh := not rows:
        body = msgspec.json.encode(_Body(mark=uuid.uuid4().hex, asked=msgspec.Raw(msgspec.json.encode(asked))))
        row = {
            "task_id": task_id, "key": key, "agent_id": agent_id, "session_id": None, "base_url": base_url,
            "started_at": clock.now(), "ended_at": None, "body": body,
        }  # fmt: skip
        yield _INSERT, row
        rows = yield _ONE, {"t": task_id, "k": key}
    return _run(rows[0]), fresh


def asked_tx(task_id: str, key: str) -> Tx[dict[str, Any]]:
    """The arguments of a call. Raises NotFound."""
    body = yield from _body_tx(task_id, key)
    return dict(msgspec.json.decode(body.asked))


def session_tx(run: AgentRun, session_id: str) -> Tx[None]:
    yield _SESSION, {"t": run.task_id, "k": run.key, "s": session_id}


def end_tx(task_id: str, key: str) -> Tx[None]:
    yield _END, {"t": task_id, "k": key, "now": clock.now()}


def of_task_tx(task_id: str) -> Tx[list[AgentRun]]:
    """In the order in which they were begun."""
    rows = yield _OF_TASK, {"t": task_id}
    return [_run(row) for row in rows]


def live_tx(agent_id: str) -> Tx[list[AgentRun]]:
    """The runs of a registered agent that are not over: the tasks that its key opens."""
    rows = yield _LIVE, {"a": agent_id}
    return [_run(row) for row in rows]


def left_tx() -> Tx[list[AgentRun]]:
    """Runs that nobody waits for any more: their tasks are over."""
    rows = yield _LEFT, {}
    return [_run(row) for row in rows]


def ask_tx(run: AgentRun, questions: list[Question]) -> Tx[None]:
    """Say what the session waits for; with none, that it goes on."""
    body = yield from _body_tx(run.task_id, run.key)
    body.questions = questions
    yield _BODY, {"t": run.task_id, "k": run.key, "b": msgspec.json.encode(body)}


def reply_tx(task_id: str, key: str, reply: Reply) -> Tx[None]:
    """Write down what a person says to a question; it is sent to the session after this. Raises Conflict where nobody
    asks that any more, NotFound."""
    body = yield from _body_tx(task_id, key)
    if all(question.event_id != reply.event_id for question in body.questions):
        raise Conflict("The agent does not wait for that any more.")
    if all(known.event_id != reply.event_id for known in body.replies):
        body.replies.append(reply)
    body.questions = [question for question in body.questions if question.event_id != reply.event_id]
    yield _BODY, {"t": task_id, "k": key, "b": msgspec.json.encode(body)}


def _body_tx(task_id: str, key: str) -> Tx[_Body]:
    rows = yield _ONE, {"t": task_id, "k": key}
    if not rows:
        raise NotFound("There is no such run of an agent.")
    return msgspec.json.decode(rows[0][-1], type=_Body)


def _run(row: Sequence[Any]) -> AgentRun:
    task_id, key, agent_id, session_id, base_url, started_at, ended_at, raw = row
    body = msgspec.json.decode(raw, type=_Body)
    return AgentRun(
        task_id=task_id, key=key, agent_id=agent_id, session_id=session_id, base_url=base_url, started_at=started_at,
        ended_at=ended_at, mark=body.mark, questions=body.questions, replies=body.replies,
    )  # fmt: skip


# -- lines --

_LINE = insert(task_lines)
_LINES = (
    select(_l.position, _l.at, _l.kind, _l.text, _l.agent_id, _l.session_id)
    .where(_l.task_id == bindparam("t"), _l.position > bindparam("after"))
    .order_by(_l.position)
    .limit(bindparam("limit"))
)
_LAST = select(_l.position).where(_l.task_id == bindparam("t")).order_by(_l.position.desc()).limit(1)
_KNOWN = select(_l.event_id).where(_l.task_id == bindparam("t"), _l.session_id == bindparam("s"))


class Told(msgspec.Struct, frozen=True):
    """A line to be: which event of the session it tells of, and when that was."""

    event_id: str
    at: int
    kind: str
    text: str


def tell_tx(run: AgentRun, session_id: str, told: list[Told]) -> Tx[None]:
    """Add lines, each event's once."""
    rows = yield _KNOWN, {"t": run.task_id, "s": session_id}
    known = {row[0] for row in rows}
    last = yield _LAST, {"t": run.task_id}
    position = last[0][0] if last else 0
    new = [
        {
            "task_id": run.task_id, "position": position + index, "event_id": line.event_id, "at": line.at,
            "kind": line.kind, "text": line.text, "agent_id": run.agent_id, "session_id": session_id,
        }
        for index, line in enumerate((line for line in told if line.event_id not in known), start=1)
    ]  # fmt: skip
    if new:
        yield Many(_LINE, new)


def lines_tx(task_id: str, after: int = 0, limit: int = 1000) -> Tx[list[Line]]:
    """What agents did for a task, from a position on."""
    rows = yield _LINES, {"t": task_id, "after": after, "limit": limit}
    names = ("position", "at", "kind", "text", "agent_id", "session_id")
    return [Line(**dict(zip(names, row, strict=True))) for row in rows]
