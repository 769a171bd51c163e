"""Lists of tasks: those of an entity, those in a state, those that are at work or will be. It must not change any.

Only tasks that somebody or a schedule has started are listed; what their runbooks start in turn belongs to them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select

from hostler.runbooks.registry import entities, tenants, workflows
from hostler.runbooks.registry.workflows import WorkflowRow
from hostler.runbooks.schedules import task_id_of
from hostler.runbooks.showing import brief
from hostler.runbooks.tasks import BLOCKED, TaskRow
from hostler.store.sql import Tx
from hostler.store.tables import tasks as table
from hostler.store.tables import workflows as workflow_table
from hostler.wire.base import timestamp
from hostler.wire.tasks import Task

RECENT = 100  # of one workflow's tasks that are over
_c = table.c
_ROOTS = (
    select(*(_c[name] for name in TaskRow.__struct_fields__))
    .where(_c.parent_id.is_(None))
    .order_by(_c.created_at.desc(), _c.id)
)
_OF_ENTITY = _ROOTS.where(_c.entity_id == bindparam("e"), _c.tenant_id == bindparam("t"))
_OPEN = _ROOTS.where(_c.closed_at.is_(None))
_OVER = _ROOTS.where(_c.closed_at.is_not(None))
_OVER_IN = _OVER.where(_c.status == bindparam("s"))
_OVER_OF = _OVER.where(_c.workflow_id == bindparam("w")).limit(RECENT)
_BLOCKED = select(_c.id, _c.parent_id).where(_c.status == BLOCKED, _c.closed_at.is_(None), _c.parent_id.is_not(None))
_PARENT = select(_c.parent_id).where(_c.id == bindparam("id"))
_w = workflow_table.c
_DUE = (
    select(*(_w[name] for name in WorkflowRow.__struct_fields__))
    .where(_w.next_at.is_not(None))
    .order_by(_w.next_at, _w.id)
)


def of_entity_tx(tenant: str, entity: str, scope: str | None) -> Tx[list[Task]]:
    """All of an entity's, the newest first. Raises NotFound."""
    owner = yield from tenants.find_tx(tenant, scope)
    bound = yield from entities.find_tx(entity, owner.id)
    return (yield from _shown_tx(_OF_ENTITY, {"e": bound.id, "t": owner.id}, owner.id))


def in_state_tx(status: str | None, scope: str | None) -> Tx[list[Task]]:
    """Those in a state, or all; the newest first."""
    found = yield from _shown_tx(_OPEN, {}, scope)
    over = (_OVER, {}) if status is None else (_OVER_IN, {"s": status})
    found += yield from _shown_tx(*over, scope)
    return [each for each in found if status in (None, each.status)]


def schedule_tx(workflow: str | None, scope: str | None) -> Tx[list[Task]]:
    """What is at work, then what schedules will start next, as tasks that are still pending. Of one workflow, also what
    ran last. Raises NotFound."""
    bound = (yield from workflows.find_tx(workflow, scope)).id if workflow is not None else None
    found = yield from _shown_tx(_OPEN, {}, scope)
    coming = [WorkflowRow(*row) for row in (yield _DUE)]
    found += [_expected(each) for each in coming if scope in (None, each.tenant_id)]
    if bound is None:
        return found
    mine = [each for each in found if each.workflow_id == bound]
    return mine + (yield from _shown_tx(_OVER_OF, {"w": bound}, scope))


def _shown_tx(statement: Any, params: dict[str, Any], scope: str | None) -> Tx[list[Task]]:
    rows = [TaskRow(**dict(zip(TaskRow.__struct_fields__, row, strict=True))) for row in (yield statement, params)]
    blocked = yield from _blocked_tx()
    return [brief(row, blocked=row.id in blocked) for row in rows if scope in (None, row.tenant_id)]


def _blocked_tx() -> Tx[set[str]]:
    """The tasks below which one waits for somebody."""
    found: set[str] = set()
    for _, parent in (yield _BLOCKED):
        while parent is not None and parent not in found:
            found.add(parent)
            above = yield _PARENT, {"id": parent}
            parent = above[0][0] if above else None
    return found


def _expected(row: WorkflowRow) -> Task:
    """A task that will be there at its time, under this id."""
    at = row.next_at or 0
    return Task(
        id=task_id_of(row.id, at),
        tenant_id=row.tenant_id,
        workflow_id=row.id,
        status="PENDING",
        title=row.name or row.runbook,
        entity_id=row.entity_id,
        due_date=timestamp(at),
        workflow_slug=row.runbook,
    )
