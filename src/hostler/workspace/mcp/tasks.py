"""Tools of tasks: who calls, what a task is about, what it waits for, decisions, and its start.

They say what the Workspace API says, less the journal. They must hold no rules of their own about tasks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from hostler.errors import InvalidRequest
from hostler.runbooks import listing, showing
from hostler.runbooks.acting import Acted
from hostler.runbooks.registry import tenants
from hostler.runbooks.room import Runbooks
from hostler.store.sql import Tx
from hostler.wire.base import Params
from hostler.wire.tasks import Links, Signaled, Task, TaskCreate
from hostler.wire.workspace import Config, Key, TaskStatus, Text
from hostler.workspace.looks import Looks
from hostler.workspace.mcp import reach
from hostler.workspace.mcp.callers import Caller
from hostler.workspace.mcp.hiding import hidden
from hostler.workspace.mcp.tool import Tool
from hostler.workspace.mcp.words import EntityRef, Nothing, OfTask, TenantRef, WorkflowRef

LARGEST_TASK = 512 * 1024
LARGE = ("stepSnapshots", "context", "result", "pendingAction")
LISTED = 200


class Decide(OfTask, kw_only=True):
    reason: (
        Annotated[Text, Meta(description="Why, or what is to be done differently; the runbook reads it.")] | None
    ) = None
    corrections: (
        Annotated[Config, Meta(description="Values that replace what was proposed, as the gate asks.")] | None
    ) = None
    gate: Annotated[Key, Meta(description="The `gate` of ntro_task_next_step, when several may be open.")] | None = None


class RunList(Params):
    status: TaskStatus | None = None
    tenant_id: TenantRef | None = None
    entity_id: Annotated[EntityRef, Meta(description="Only this entity's; give tenant_id, too.")] | None = None


class Run(Params):
    workflow_id: WorkflowRef
    tenant_id: TenantRef | None = None
    entity_id: EntityRef | None = None
    period: Annotated[Key, Meta(description="Such as 2026-03; it goes into the task's context.")] | None = None
    priority: Literal["LOW", "NORMAL", "HIGH"] | None = None
    dry_run: Annotated[bool, Meta(description="Tells the runbook to commit nothing, if it knows dry runs.")] = False
    context: Annotated[Config, Meta(description="More of what the runbook is to get.")] | None = None


class Tasks:
    def __init__(self, room: Runbooks) -> None:
        self._room = room
        self._looks = Looks()

    def tools(self) -> list[Tool]:
        return [
            Tool("ntro_whoami", "Who you are to this server: an agent, or a key of a tenant or of the server; which "
                 "tenant it is, and which tasks an agent works on.", Nothing, self.whoami, agents=True, reads=True),
            Tool("ntro_task_get", "Everything about a task: its context, steps, what it waits for, and what its steps "
                 "have shown.", OfTask, self.get, agents=True, reads=True),
            Tool("ntro_task_next_step", "What is to be done next about a task: wait, submit a file, review, or nothing "
                 "because it is over.", OfTask, self.next_step, agents=True, reads=True),
            Tool("ntro_task_approve", "Approve what a task waits for at its open gate.", Decide, self.approve),
            Tool("ntro_task_reject", "Reject what a task waits for at its open gate.", Decide, self.reject),
            Tool("ntro_task_cancel", "End a task and all below it.", OfTask, self.cancel),
            Tool("ntro_run_list", "Tasks, the newest first: all, those in a state, or those of an entity. An agent "
                 "gets those that it works on.", RunList, self.all, agents=True, reads=True),
            Tool("ntro_workflow_run", "Start a task of a workflow. Returns the task; follow it with "
                 "ntro_task_next_step.", Run, self.run),
        ]  # fmt: skip

    # -- looking --

    async def whoami(self, caller: Caller, params: Nothing) -> Any:
        def tx() -> Tx[dict[str, Any]]:
            runs = yield from reach.runs_tx(caller)
            said: dict[str, Any] = {"id": caller.key_id, "name": caller.name, "kind": caller.kind}
            if caller.scope is not None:
                tenant = yield from tenants.find_tx(caller.scope)
                said["tenant"] = {"id": tenant.id, "slug": tenant.slug, "name": tenant.name}
            if caller.agent_id is not None:
                said["tasks"] = sorted({run.task_id for run in runs})
            return said

        return await self._room.store.read(tx)

    async def get(self, caller: Caller, params: OfTask) -> Any:
        def tx() -> Tx[Task]:
            row = yield from reach.task_tx(caller, params.task_id)
            return (yield from showing.task_tx(row.id, caller.scope))

        found = await self._room.store.read(tx)
        self._looks.note(caller.key_id, found.id)
        return _shown(caller, found)

    async def next_step(self, caller: Caller, params: OfTask) -> Any:
        task_id = await self._meant(caller, params.task_id)
        found = await self._room.store.read(lambda: showing.next_step_tx(task_id, caller.scope))
        self._looks.note(caller.key_id, task_id)
        return found

    async def all(self, caller: Caller, params: RunList) -> Any:
        if caller.agent_id is not None and (params.tenant_id or params.entity_id):
            raise InvalidRequest("tenant_id, entity_id: an agent gets the tasks that it works on; leave them out")
        if params.entity_id is not None and params.tenant_id is None and caller.scope is None:
            raise InvalidRequest("tenant_id: Field required with entity_id, unless the key is for one tenant")

        def tx() -> Tx[list[Task]]:
            if caller.agent_id is not None:
                return (yield from _own_tx(caller, params.status))
            within = caller.scope
            if params.tenant_id is not None:
                within = (yield from tenants.find_tx(params.tenant_id, caller.scope)).id
            if params.entity_id is None:
                return (yield from listing.in_state_tx(params.status, within))
            found = yield from listing.of_entity_tx(within or "", params.entity_id, within)
            return [each for each in found if params.status in (None, each.status)]

        found = await self._room.store.read(tx)
        self._looks.note(caller.key_id)
        shown = [_brief(caller, each) for each in found[:LISTED]]
        return {"items": shown, "total": len(found)}

    # -- acting --

    async def approve(self, caller: Caller, params: Decide) -> Any:
        return await self._decide(caller, params, "approved")

    async def reject(self, caller: Caller, params: Decide) -> Any:
        return await self._decide(caller, params, "rejected")

    async def _decide(self, caller: Caller, params: Decide, decision: Literal["approved", "rejected"]) -> Any:
        task_id = await self._meant(caller, params.task_id)
        acted = await self._room.acting.decide(
            task_id,
            decision,
            scope=caller.scope,
            comments=params.reason,
            corrections=params.corrections,
            gate=params.gate,
            looked_at=self._looks.last(caller.key_id, task_id),
            by=caller.name,
        )
        return await self._done(caller, acted)

    async def cancel(self, caller: Caller, params: OfTask) -> Any:
        row = await self._room.acting.cancel(await self._meant(caller, params.task_id), scope=caller.scope)
        return _brief(caller, await self._room.store.read(lambda: showing.task_tx(row.id, caller.scope)))

    async def run(self, caller: Caller, params: Run) -> Any:
        said = {"period": params.period, "priority": params.priority, "dry_run": params.dry_run or None}
        context = {**(params.context or {}), **{name: value for name, value in said.items() if value is not None}}
        tenant = params.tenant_id or caller.scope or await self._tenant_of(params.workflow_id)
        asked = TaskCreate(
            tenant_id=tenant, workflow_id=params.workflow_id, entity_id=params.entity_id, context=context
        )
        row = await self._room.starts.start(asked, caller.scope)
        return _shown(caller, await self._room.store.read(lambda: showing.task_tx(row.id, caller.scope)))

    async def _tenant_of(self, workflow: str) -> str:
        return (await self._room.workflows.get(workflow)).tenant_id

    async def _meant(self, caller: Caller, task_id: str | None) -> str:
        return (await self._room.store.read(lambda: reach.task_tx(caller, task_id))).id

    async def _done(self, caller: Caller, acted: Acted) -> Any:
        """The task that was named, or which other one it went to."""
        if acted.below:
            return Signaled(workflow_id=acted.task.id, status="SIGNALED")
        found = await self._room.store.read(lambda: showing.task_tx(acted.named.id, caller.scope))
        return _brief(caller, found)


def _own_tx(caller: Caller, status: str | None) -> Tx[list[Task]]:
    """The tasks that an agent works on."""
    found = []
    for task_id in sorted({run.task_id for run in (yield from reach.runs_tx(caller))}):
        found.append((yield from showing.task_tx(task_id, caller.scope)))
    return [each for each in found if status in (None, each.status)]


def _shown(caller: Caller, task: Task) -> dict[str, Any]:
    """Without the journal; what is too large is left out, and named."""
    task.execution_events = UNSET
    task.links = Links(workflow_ui=page_of(caller, task.id))
    said: dict[str, Any] = hidden(caller, msgspec.to_builtins(task))
    omitted = []
    for name in LARGE:
        if len(msgspec.json.encode(said)) <= LARGEST_TASK:
            break
        if said.pop(name, None) is not None:
            omitted.append(name)
    return {**said, "omitted": omitted} if omitted else said


def _brief(caller: Caller, task: Task) -> dict[str, Any]:
    """As it stands in lists."""
    for name in ("execution_events", "context", "step_snapshots", "result", "pending_action"):
        setattr(task, name, UNSET)
    return _shown(caller, task)


def page_of(caller: Caller, task_id: str) -> str:
    return f"{caller.base_url}/console/tasks/{reach.root_of(task_id)}"
