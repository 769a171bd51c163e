"""How a task looks to clients: its steps, its failure, its journal, what is to be done next. It must not change any.

All of it comes from the task's row, where the runbook's last look at itself is kept, and from its journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec
from sqlalchemy import bindparam, select

from hostler.runbooks import gates
from hostler.runbooks.gates import FILE, REVIEW, Gate, view_of
from hostler.runbooks.tasks import BLOCKED, FAILED, IN_PROGRESS, PENDING, TaskRow
from hostler.store.sql import Tx
from hostler.store.tables import task_entries
from hostler.wire.base import UNSET, timestamp
from hostler.wire.tasks import Execution, ExecutionEvent, LogEntry, NextStep, Step, Task, TaskFailure
from hostler.wire.workspace import TaskStatus

QUEUE = "hostler"
_e = task_entries.c
_TOLD = select(_e.position, _e.kind, _e.key, _e.at, _e.body).where(_e.task_id == bindparam("t")).order_by(_e.position)
_STATES: dict[str, TaskStatus] = {
    "pending": "PENDING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "waiting_for_input": "BLOCKED",
}


class Told(NamedTuple):
    """An entry of a journal, as far as it is for people."""

    position: int
    kind: str
    key: str
    at: int
    body: dict[str, Any]


def journal_tx(task_id: str) -> Tx[list[Told]]:
    rows = yield _TOLD, {"t": task_id}
    return [Told(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4])) for row in rows]


def task_tx(task_id: str, scope: str | None) -> Tx[Task]:
    """A task with all that is known of it. Raises NotFound."""
    row = yield from gates.find_tx(task_id, scope)
    tree = yield from gates.tree_tx(row)
    entries = yield from journal_tx(row.id)
    shown = brief(row, blocked=any(each.status == BLOCKED and each.closed_at is None for each in tree))
    view = view_of(row)
    shown.steps = steps(row, view)
    shown.execution = _execution(row, len(entries))
    shown.execution_events = [_event(each) for each in entries]
    if (action := gates.pending(row)) is not None and row.closed_at is None:
        shown.pending_action = action
    if isinstance(snapshots := view.get("step_snapshots"), dict) and snapshots:
        shown.step_snapshots = snapshots
    outcome = outcome_of(row)
    if (failed := failure(outcome, entries)) is not None:
        shown.failure = failed
    elif row.closed_at is not None:
        shown.result = outcome.get("result")
    return shown


def brief(row: TaskRow, *, blocked: bool = False) -> Task:
    """A task as it stands in lists. `blocked`: it, or one below it, waits for somebody."""
    waits = blocked and row.closed_at is None and row.status in (PENDING, IN_PROGRESS)
    return Task(
        id=row.id,
        tenant_id=row.tenant_id,
        workflow_id=row.workflow_id,
        status="BLOCKED" if waits else state_of(row),
        title=row.title,
        entity_id=row.entity_id,
        priority=row.priority,
        context=msgspec.json.decode(row.context),
        workflow_slug=row.runbook,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        runbook_version=row.version,
        parent_id=row.parent_id,
        closed_at=timestamp(row.closed_at) if row.closed_at is not None else None,
    )


def state_of(row: TaskRow) -> TaskStatus:
    """The column holds nothing else."""
    return cast("TaskStatus", row.status)


def steps(row: TaskRow, view: dict[str, Any]) -> list[Step]:
    found = view.get("current_steps")
    told = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    active: TaskStatus = "IN_PROGRESS" if row.status == PENDING else state_of(row)
    return [
        Step(
            name=str(each.get("id")),
            status=active if each.get("status") == "active" else _STATES.get(str(each.get("status")), "PENDING"),
            progress=each["progress"] if isinstance(each.get("progress"), str) else None,
            title=str(each.get("title") or each.get("id")),
            icon=each["icon"] if isinstance(each.get("icon"), str) else None,
        )
        for each in told
    ]


def next_step_tx(task_id: str, scope: str | None) -> Tx[NextStep]:
    """What somebody who drives a task does next. Raises NotFound."""
    row = yield from gates.find_tx(task_id, scope)
    tree = yield from gates.tree_tx(row)
    found = yield from gates.open_tx(tree)
    shown = brief(row, blocked=any(each.status == BLOCKED and each.closed_at is None for each in tree))
    gate = next((each for each in found if each.given is None), None)
    if row.closed_at is not None:
        return _over(row)
    if gate is not None:
        return _at(gate)
    action = gates.pending(row) or {}
    unknown = row.status == BLOCKED and not found and action.get("kind") not in (None, gates.FILES)
    return NextStep(
        action="unknown" if unknown else "wait",
        task_id=row.id,
        status=shown.status,
        message=f"The task waits for {action.get('kind')}." if unknown else "The task is at work; ask again.",
        pending_action=action if unknown else None,
    )


def logs_tx(task_id: str, scope: str | None) -> Tx[list[LogEntry]]:
    """The journal. Raises NotFound."""
    row = yield from gates.find_tx(task_id, scope)
    entries = yield from journal_tx(row.id)
    return [
        LogEntry(id=f"{row.id}/{each.position}", type=each.kind, payload=each.body, created_at=timestamp(each.at))
        for each in entries
    ]


def outcome_of(row: TaskRow) -> dict[str, Any]:
    found = msgspec.json.decode(row.outcome) if row.outcome is not None else {}
    return found if isinstance(found, dict) else {}


def failure(outcome: dict[str, Any], entries: Sequence[Told] = ()) -> TaskFailure | None:
    """How a task failed, and in which activity, when its journal is given."""
    error = outcome.get("error")
    if not isinstance(error, dict):
        return None
    failed = [each.body for each in entries if each.kind == "activity" and "error" in each.body]
    name = failed[-1].get("name") if failed and failed[-1]["error"].get("message") == error.get("message") else None
    return TaskFailure(
        type=str(error.get("type")),
        message=str(error.get("message")),
        activity_name=str(name) if name else None,
        stack_trace=error.get("trace"),
    )


def _over(row: TaskRow) -> NextStep:
    outcome = outcome_of(row)
    failed = failure(outcome)
    return NextStep(
        action="error_terminal" if row.status == FAILED else "done",
        task_id=row.id,
        status=state_of(row),
        message=f"{failed.type}: {failed.message}" if failed is not None else "The task has been completed.",
        result=outcome.get("result") if failed is None else UNSET,
        failure=failed,
    )


def _at(gate: Gate) -> NextStep:
    reason = gate.action.get("reason")
    usual = "A file is waited for." if gate.kind == FILE else "A decision is waited for: approve or reject."
    state = view_of(gate.task).get("current_ui_state")
    step = state.get("current_step_id") if isinstance(state, dict) else None
    return NextStep(
        action="review" if gate.kind == REVIEW else "submit_file",
        task_id=gate.task.id,
        status="BLOCKED",
        message=str(reason) if reason else usual,
        gate=gate.token,
        step_id=str(step) if step else None,
        pending_action=gate.action,
    )


def _execution(row: TaskRow, entries: int) -> Execution:
    return Execution(
        temporal_run_id=row.id,
        task_queue=QUEUE,
        workflow_type=row.runbook,
        started_at=timestamp(row.created_at),
        closed_at=timestamp(row.closed_at) if row.closed_at is not None else None,
        history_length=entries,
    )


def _event(entry: Told) -> ExecutionEvent:
    error = entry.body.get("error")
    called = entry.kind in ("activity", "attempt", "agent")
    return ExecutionEvent(
        event_id=entry.position,
        event_type=entry.kind,
        timestamp=timestamp(entry.at),
        activity_name=str(entry.body.get("name") or entry.key) if called else None,
        activity_id=entry.key or None,
        failure_message=error.get("message") if isinstance(error, dict) else error,
    )
