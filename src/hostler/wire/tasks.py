"""Tasks of the Workspace API as its published clients read them, and what may be done to one.

Their steps, failures and events are told in those clients' words. It must not know how a task is kept.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET

from hostler.wire.base import Unset
from hostler.wire.workspace import Asked, Config, Key, Shown, TaskStatus, Text, Title


class TaskCreate(Asked):
    tenant_id: Key
    workflow_id: Key
    entity_id: Key | None = None
    context: Config = msgspec.field(default_factory=dict)


class Reason(Asked):
    """`reason` goes to the runbook as the action's `comments`; `corrections` is ours, and goes as it is. `gate` says
    which gate is meant: the `gate` of a next step."""

    reason: Text | None = None
    corrections: Config | None = None
    gate: Key | None = None


class RowAction(Asked):
    """A change of one row of a table that is looked at: the gate stays open."""

    action: Literal["edit_cell", "reject_row"]
    row_id: str | int
    field: Title | None = None
    value: Any = None
    ledger: Title | None = None


class Step(Shown):
    """`name` is the step's own name; `title` and `icon` are ours, and what people read."""

    name: str
    status: TaskStatus
    progress: str | None = None
    title: str | None = None
    icon: str | None = None


class Execution(Shown):
    """In the words of the engine that the clients know: `temporal_run_id` is the task's id, `history_length` the
    number of its journal's entries."""

    temporal_run_id: str
    task_queue: str
    workflow_type: str
    started_at: str | None = None
    closed_at: str | None = None
    history_length: int | None = None


class TaskFailure(Shown):
    type: str
    message: str
    activity_name: str | None = None
    stack_trace: str | None = None


class ExecutionEvent(Shown):
    """An entry of the journal; `event_type` is its kind."""

    event_id: int
    event_type: str
    timestamp: str
    activity_name: str | None = None
    activity_id: str | None = None
    failure_message: str | None = None


class Links(msgspec.Struct):
    workflow_ui: str


class Task(Shown):
    """`workflow_slug` is its runbook's, by which a runbook looks for earlier tasks. From `runbook_version` on they are
    ours."""

    id: str
    tenant_id: str
    workflow_id: str
    status: TaskStatus
    title: str | None = None
    entity_id: str | None = None
    due_date: str | None = None
    priority: str | None = None
    steps: list[Step] | Unset = UNSET
    context: Config | Unset = UNSET
    workflow: dict[str, str] | Unset = UNSET
    workflow_slug: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    links: Links | Unset = UNSET
    execution: Execution | Unset = UNSET
    failure: TaskFailure | Unset = UNSET
    execution_events: list[ExecutionEvent] | Unset = UNSET
    runbook_version: str | None = None
    parent_id: str | None = None
    closed_at: str | None = None
    pending_action: dict[str, Any] | Unset = UNSET
    step_snapshots: dict[str, Any] | Unset = UNSET
    result: Any = UNSET


class TaskDocument(Shown):
    """`id` is what runbooks call its `document_ref`."""

    id: str
    filename: str
    content_type: str
    size_bytes: int
    source: str
    uploaded_at: str
    sha256: str | None = None
    period: str | None = None


class LogEntry(Shown):
    id: str
    type: str
    payload: dict[str, Any]
    created_at: str


class Signaled(Shown):
    """The answer to an approval whose gate is a child task's."""

    workflow_id: str
    status: Literal["SIGNALED"]


class NextStep(Shown):
    """What whoever drives a task does next. `task_id` is the task whose gate it is: the one asked about, or a child."""

    action: Literal["wait", "submit_file", "review", "done", "error_terminal", "unknown"]
    task_id: str
    status: TaskStatus
    message: str = ""
    gate: str | None = None
    step_id: str | None = None
    pending_action: dict[str, Any] | None = None
    result: Any = UNSET
    failure: TaskFailure | None = None
