"""Reads all that a task's page shows, and tells when to read it again. It must not make HTML."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, select

from hostler.console import views
from hostler.console.access import Access, Who
from hostler.console.parts import Parts
from hostler.console.views import View
from hostler.errors import HostlerError, NotFound
from hostler.runbooks import gates
from hostler.runbooks.dataplane.records import StoredDocument
from hostler.runbooks.invoking.rows import AgentRun, of_task_tx
from hostler.runbooks.tasks import CANCELLED, TaskRow, find_tx
from hostler.services.reading import first, rows
from hostler.store.sql import Row, Tx
from hostler.store.tables import registered_agents, tasks, tenants

MAX_CHILDREN = 200
_t = tasks.c
_LOOK = select(_t.updated_at, _t.status, _t.closed_at, _t.cancelled_at).where(_t.id == bindparam("t"))
_CHILDREN = (
    select(_t.id, _t.title, _t.status, _t.runbook)
    .where(_t.parent_id == bindparam("t"))
    .order_by(_t.created_at, _t.id)
    .limit(MAX_CHILDREN)
)
_TENANT = select(tenants.c.slug).where(tenants.c.id == bindparam("t"))
_AGENTS = select(registered_agents.c.id, registered_agents.c.name).where(
    registered_agents.c.tenant_id == bindparam("t")
)


class Child(NamedTuple):
    id: str
    title: str
    status: str
    runbook: str


class TaskPage(msgspec.Struct, kw_only=True):
    """What the templates know of a task. `agents` are names by id; `named` the steps that the ladder has."""

    row: TaskRow
    view: View
    outcome: dict[str, Any]
    context: Any
    children: list[Child]
    runs: list[AgentRun]
    agents: dict[str, str]
    documents: Sequence[StoredDocument]
    trouble: str
    acts: bool
    editing: str | None = None

    @property
    def cancelled(self) -> bool:
        return views.failure(self.outcome).get("type") == CANCELLED

    @property
    def failure(self) -> dict[str, Any]:
        return views.failure(self.outcome)

    @property
    def can_cancel(self) -> bool:
        return self.acts and self.row.closed_at is None and self.row.cancelled_at is None

    @property
    def named(self) -> set[str]:
        return {step.id for step in self.view.steps}

    def source(self, source: str) -> str:
        """Where a document is from, in words."""
        kind, _, agent_id = source.partition(":")
        return self.agents.get(agent_id, agent_id) if kind == "agent_output" else source


class _Read(NamedTuple):
    row: TaskRow
    gates: list[gates.Gate]
    children: list[Child]
    runs: list[AgentRun]
    agents: dict[str, str]
    tenant: str | None


class Reader:
    """Reads for one page, again and again while it is open."""

    def __init__(self, parts: Parts, task_id: str) -> None:
        self._parts = parts
        self._access: Access = parts.access
        self._task_id = task_id
        self._seen: Any = None
        self._documents: Sequence[StoredDocument] = ()
        self._trouble = ""
        self._next_documents = 0.0
        self.agents: dict[str, str] = {}

    async def tenant(self, who: Who) -> str:
        """The slug of the task's tenant. Raises NotFound."""
        row = await self._access.task(who, self._task_id)
        found = await self._parts.store.read(lambda: first(_TENANT, {"t": row.tenant_id}))
        if found is None:
            raise NotFound("The task's tenant was not found.")
        slug: str = found[0]
        return slug

    async def page(self, who: Who, editing: str | None = None) -> TaskPage:
        """Raises NotFound."""
        await self._access.task(who, self._task_id)
        read = await self._parts.store.read(lambda: read_tx(self._task_id))
        self.agents = read.agents
        await self._list_documents(read.tenant)
        return TaskPage(
            row=read.row, view=views.read(read.row, read.gates), outcome=views.outcome(read.row),
            context=msgspec.json.decode(read.row.context), children=read.children, runs=read.runs, agents=read.agents,
            documents=self._documents, trouble=self._trouble, acts=who.acts, editing=editing,
        )  # fmt: skip

    async def changed(self, who: Who, *, documents_every: float) -> TaskPage | None:
        """The page when it may be another than the last time. Raises NotFound."""
        look = await self._parts.store.read(lambda: _look_tx(self._task_id))
        if look[0] is None:
            raise NotFound(f"Task {self._task_id} was not found.")
        now = asyncio.get_running_loop().time()
        if look == self._seen and now < self._next_documents:
            return None
        self._seen, self._next_documents = look, now + documents_every
        return await self.page(who)

    async def _list_documents(self, tenant: str | None) -> None:
        """A database that stays away costs the list, not the page."""
        if tenant is None:
            return
        try:
            root = self._task_id.partition(":")[0]
            found = list(await self._parts.data.documents(tenant, task_id=root))
            if root != self._task_id:
                found += await self._parts.data.documents(tenant, task_id=self._task_id)
            self._documents, self._trouble = found, ""
        except HostlerError as error:
            self._trouble = error.message


def _look_tx(task_id: str) -> Tx[tuple[Row | None, Any, Any]]:
    """What changes whenever a page does."""
    row = yield from first(_LOOK, {"t": task_id})
    children = yield from rows(_CHILDREN, {"t": task_id})
    runs = yield from of_task_tx(task_id)
    return (tuple(row) if row else None, [tuple(child) for child in children], runs)


def read_tx(task_id: str) -> Tx[_Read]:
    row = yield from find_tx(task_id)
    found = yield from gates.open_tx([row])
    children = yield from rows(_CHILDREN, {"t": task_id})
    runs = yield from of_task_tx(task_id)
    agents = yield from rows(_AGENTS, {"t": row.tenant_id})
    tenant = yield from first(_TENANT, {"t": row.tenant_id})
    return _Read(
        row=row, gates=found, children=[Child(*child) for child in children],
        runs=runs, agents={agent[0]: agent[1] for agent in agents}, tenant=tenant[0] if tenant else None,
    )  # fmt: skip
