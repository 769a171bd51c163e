"""Where a task waits for somebody: its own open gate, or one of a task below it. It must not answer any.

A gate is known by its task and by how many waits of it were over when it opened: the position of the last of them. An
agent that a task has called opens one, too, for each question that it asks: that is known by the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select

from hostler.errors import NotFound
from hostler.runbooks import tasks
from hostler.runbooks.invoking.rows import AgentRun, Question, of_task_tx
from hostler.runbooks.tasks import BLOCKED, TaskRow
from hostler.store.sql import Tx
from hostler.store.tables import task_entries
from hostler.store.tables import tasks as table

REVIEW, FILE, FILES = "interactive_review", "submit_file", "submit_files"
DECISIONS = ("approved", "rejected")
MAX_BELOW = 500
_e, _t = task_entries.c, table.c
_BELOW = select(_t.id).where(_t.parent_id == bindparam("t")).order_by(_t.created_at, _t.id)
_LAST = select(func.max(_e.position)).where(_e.task_id == bindparam("t"), _e.kind == "waited")
_SIGNALS = (
    select(_e.position, _e.at, _e.body)
    .where(_e.task_id == bindparam("t"), _e.kind == "signal", _e.position > bindparam("after"))
    .order_by(_e.position)
)


class Sent(msgspec.Struct, frozen=True):
    """What somebody sent to a task: a signal's name and its argument."""

    position: int
    at: int
    name: str
    action: dict[str, Any]

    @property
    def decision(self) -> str | None:
        kind = self.action.get("type")
        return kind if self.name == "user_action" and kind in DECISIONS else None


class Gate(msgspec.Struct, frozen=True):
    """`action` is the task's pending action, `given` the answer that it has got and not yet taken. `asked` is there
    when it is an agent who asks: the run's key, and the question."""

    task: TaskRow
    action: dict[str, Any]
    position: int
    given: Sent | None = None
    asked: tuple[str, Question] | None = None

    @property
    def kind(self) -> str:
        return str(self.action.get("kind"))

    @property
    def token(self) -> str:
        return f"{self.task.id}@{self.position if self.asked is None else self.asked[1].event_id}"


def find_tx(task_id: str, scope: str | None) -> Tx[TaskRow]:
    """A task, unless it is another tenant's. Raises NotFound."""
    row = yield from tasks.find_tx(task_id)
    if scope not in (None, row.tenant_id):
        raise NotFound(f"Task {task_id} was not found.")
    return row


def tree_tx(row: TaskRow) -> Tx[list[TaskRow]]:
    """A task and all below it, each before its own children, the first-born first; cut where there are too many."""
    found: list[TaskRow] = []
    waiting = [row]
    while waiting and len(found) < MAX_BELOW:
        each = waiting.pop(0)
        found.append(each)
        below = yield _BELOW, {"t": each.id}
        children = []
        for (child_id,) in below:
            children.append((yield from tasks.find_tx(child_id)))
        waiting[:0] = children
    return found


def open_tx(tree: list[TaskRow]) -> Tx[list[Gate]]:
    """The gates that are open in a tree of tasks, in its order."""
    found: list[Gate] = []
    for row in tree:
        if row.closed_at is None and (action := pending(row)) is not None and action.get("kind") in (REVIEW, FILE):
            found.append((yield from _gate_tx(row, action)))
        found += yield from _asked_tx(row)
    own = {gate.task.id for gate in found}
    by_id = {row.id: row for row in tree}
    for row in tree:
        for slot in _slots(row):
            child = by_id.get(str(slot["args"].get("signal_task_id")))
            if child is not None and child.closed_at is None and child.id not in own:
                found.append((yield from _gate_tx(child, {"kind": FILE, "reason": slot.get("title"), **slot})))
    return found


def signals_tx(task_id: str, after: int) -> Tx[list[Sent]]:
    rows = yield _SIGNALS, {"t": task_id, "after": after}
    return [_sent(*row) for row in rows]


def pending(row: TaskRow) -> dict[str, Any] | None:
    action = view_of(row).get("current_pending_action")
    return action if isinstance(action, dict) else None


def view_of(row: TaskRow) -> dict[str, Any]:
    """What the task's runbook showed of itself last."""
    shown = msgspec.json.decode(row.view) if row.view is not None else {}
    return shown if isinstance(shown, dict) else {}


def _asked_tx(row: TaskRow) -> Tx[list[Gate]]:
    """What agents ask that the task has called."""
    if row.closed_at is not None or row.status != BLOCKED:
        return []
    runs = yield from of_task_tx(row.id)
    return [
        Gate(row, _question(run, question), 0, None, (run.key, question))
        for run in runs
        for question in (run.questions if run.ended_at is None else ())
    ]


def _question(run: AgentRun, question: Question) -> dict[str, Any]:
    """An agent's question in the form of a pending action."""
    wants = "the result of" if question.asked == "result" else "leave to use"
    return {
        "kind": REVIEW,
        "reason": f"The agent asks for {wants} {question.name}.",
        "tools": ["ntro_task_approve", "ntro_task_reject"],
        "payload": {"agent_id": run.agent_id, "session_id": run.session_id, **msgspec.to_builtins(question)},
        "display_hint": {"component": "APPROVAL_FORM", "config": {}},
    }


def _gate_tx(row: TaskRow, action: dict[str, Any]) -> Tx[Gate]:
    position = (yield _LAST, {"t": row.id})[0][0] or 0
    sent = yield from signals_tx(row.id, position)
    given = [each for each in sent if _answers(each, action)]
    return Gate(row, action, position, given[-1] if given else None)


def _answers(sent: Sent, action: dict[str, Any]) -> bool:
    if action.get("kind") == REVIEW:
        return sent.decision is not None
    wanted = action.get("args") or {}
    return sent.name == wanted.get("signal_name") and sent.action.get("source") == wanted.get("source")


def _slots(row: TaskRow) -> Iterator[dict[str, Any]]:
    """What a task that collects documents still lacks, as its gate tells it."""
    action = pending(row) or {}
    if row.closed_at is not None or action.get("kind") != FILES:
        return
    hint = action.get("display_hint")
    config = hint.get("config") if isinstance(hint, dict) else None
    expected = config.get("expected") if isinstance(config, dict) else None
    for slot in expected if isinstance(expected, list) else ():
        if isinstance(slot, dict) and isinstance(slot.get("args"), dict) and slot.get("status") != "completed":
            yield slot


def _sent(position: int, at: int, body: bytes) -> Sent:
    said = msgspec.json.decode(body)
    args = said.get("args") or [{}]
    return Sent(position, at, str(said.get("name")), args[0] if isinstance(args[0], dict) else {})
