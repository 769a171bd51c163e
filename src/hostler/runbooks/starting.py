"""How a task begins: which workflow of whom, and the context that its runbook gets. It must not run it.

What is refused is refused before anything is written. A start that is sent again finds the task that it made.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from hostler import clock
from hostler.errors import Conflict, InvalidRequest
from hostler.runbooks import tasks
from hostler.runbooks.contract import Library
from hostler.runbooks.registry import entities, tenants, workflows
from hostler.runbooks.registry.entities import EntityRow
from hostler.runbooks.registry.finding import RETRY_SECONDS, new_id
from hostler.runbooks.registry.tenants import TenantRow
from hostler.runbooks.registry.workflows import WorkflowRow
from hostler.runbooks.tasks import FAILED, TaskRow
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import tasks as table
from hostler.wire.tasks import TaskCreate

MAX_CONTEXT = 1024 * 1024
_ONCE = uuid.UUID("5d1a3c0e-6c0d-4f7a-9b5e-2f1f5f0b8a11")
_OURS = {"tenant_id", "tenant_slug", "entity_id", "entity_slug", "workflow_id", "task_id"}
_c = table.c
_THERE = select(_c.id).where(_c.id == bindparam("id"))
_RECENT = (
    select(_c.id, _c.context)
    .where(
        _c.workflow_id == bindparam("w"),
        _c.created_at > bindparam("since"),
        _c.parent_id.is_(None),
        _c.status != FAILED,
    )
    .order_by(_c.created_at.desc())
)


class Place(msgspec.Struct, frozen=True):
    """Where a task runs: all of it belongs together."""

    tenant: TenantRow
    entity: EntityRow
    workflow: WorkflowRow


class Starts:
    def __init__(self, store: Store, library: Library, wake: Callable[[str], None]) -> None:
        self._store = store
        self._library = library
        self.wake = wake

    async def start(self, params: TaskCreate, scope: str | None = None, *, once: str | None = None) -> TaskRow:
        """Make a task. `once` names this start: with the same name it is made once, however often it is sent. Without
        one, a start like one of the last moments is taken for the same, unless that has failed. Raises NotFound,
        InvalidRequest, Conflict."""
        task_id = str(uuid.uuid5(_ONCE, once)) if once is not None else new_id()

        def tx() -> Tx[TaskRow]:
            place = yield from place_tx(params, scope)
            context = context_of(place, params.context, task_id)
            if once is not None and (yield _THERE, {"id": task_id}):
                return _same((yield from tasks.find_tx(task_id)), place, params.context)
            if once is None and (known := (yield from _recent_tx(place.workflow.id, context))) is not None:
                return known
            return (yield from self.start_tx(place, context, task_id))

        row = await self._store.write(tx)
        self.wake(row.id)
        return row

    def start_tx(self, place: Place, context: dict[str, Any], task_id: str) -> Tx[TaskRow]:
        """Raises NotFound where nothing is deployed."""
        workflow = place.workflow
        revision = yield from self._library.deployed_tx(workflow.runbook, workflow.kept.version)
        return (
            yield from tasks.create_tx(
                task_id,
                tenant_id=place.tenant.id,
                entity_id=place.entity.id,
                workflow_id=workflow.id,
                runbook=workflow.runbook,
                version=revision.version,
                digest=revision.digest,
                title=_title(workflow, context),
                context=context,
                priority=_text(context.get("priority")),
            )
        )


def place_tx(params: TaskCreate, scope: str | None) -> Tx[Place]:
    """Whom ids, slugs and names mean. Raises NotFound, InvalidRequest, Conflict."""
    tenant = yield from tenants.find_active_tx(params.tenant_id, scope)
    entity = (yield from entities.find_tx(params.entity_id, tenant.id)) if params.entity_id else None
    workflow = yield from workflows.find_tx(params.workflow_id, tenant.id, entity.id if entity else None)
    if entity is not None and entity.id != workflow.entity_id:
        raise InvalidRequest(f"entityId: workflow {params.workflow_id} is another entity's, not {entity.slug}'s")
    return (yield from place_of_tx(workflow, tenant))


def place_of_tx(workflow: WorkflowRow, tenant: TenantRow | None = None) -> Tx[Place]:
    tenant = tenant or (yield from tenants.find_active_tx(workflow.tenant_id))
    return Place(tenant, (yield from entities.find_tx(workflow.entity_id, tenant.id)), workflow)


def context_of(place: Place, given: dict[str, Any], task_id: str) -> dict[str, Any]:
    """What the runbook gets: the tenant's configuration, over it the entity's, the workflow's, what was given, and who
    and where it is, which nobody else can say. Raises InvalidRequest."""
    context = {
        **place.tenant.kept.config,
        **place.entity.kept.config,
        **place.workflow.kept.config,
        **given,
        "tenant_id": place.tenant.id,
        "tenant_slug": place.tenant.slug,
        "entity_id": place.entity.id,
        "entity_slug": place.entity.slug,
        "workflow_id": place.workflow.id,
        "task_id": task_id,
    }
    if (size := len(msgspec.json.encode(context))) > MAX_CONTEXT:
        raise InvalidRequest(f"context: with what it is merged with, {size} bytes are more than {MAX_CONTEXT}")
    return context


def _recent_tx(workflow_id: str, context: dict[str, Any]) -> Tx[TaskRow | None]:
    """A task that was begun a moment ago with the same context. What has failed is begun anew on purpose."""
    since = clock.now() - RETRY_SECONDS * 1_000_000
    for task_id, begun in (yield _RECENT, {"w": workflow_id, "since": since}):
        if msgspec.json.decode(begun) == {**context, "task_id": task_id}:
            return (yield from tasks.find_tx(task_id))
    return None


def _same(row: TaskRow, place: Place, given: dict[str, Any]) -> TaskRow:
    """A task that this name has made before. Raises Conflict where it was for something else."""
    begun = msgspec.json.decode(row.context)
    if row.workflow_id != place.workflow.id or any(begun.get(name) != given[name] for name in given.keys() - _OURS):
        raise Conflict("This Idempotency-Key was used for another task.")
    return row


def _title(workflow: WorkflowRow, context: dict[str, Any]) -> str:
    name, period = workflow.name or workflow.runbook, _text(context.get("period"))
    return f"{name} {period}" if period else name


def _text(value: Any) -> str | None:
    return str(value)[:100] if isinstance(value, str | int) and value != "" else None
