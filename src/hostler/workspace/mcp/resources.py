"""What can be read at `ntro://...`: the same answers that the tools give. It must hold no rules of its own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from hostler.errors import NotFound, PermissionDenied
from hostler.runbooks import listing
from hostler.runbooks.room import Runbooks
from hostler.workspace.mcp.callers import Caller
from hostler.workspace.mcp.registry import OfTenant, OfWorkflow, Registry, wide
from hostler.workspace.mcp.tasks import RunList, Tasks
from hostler.workspace.mcp.words import Nothing, OfTask

Reader = Callable[[Caller, str], Awaitable[Any]]


class Resource(NamedTuple):
    """`uri` may hold one `{name}`, whose value the reader gets. `agents` as in `Tool`."""

    uri: str
    description: str
    read: Reader
    agents: bool = True

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "_", self.uri.removeprefix("ntro://")).strip("_")

    @property
    def is_template(self) -> bool:
        return "{" in self.uri

    def match(self, uri: str) -> str | None:
        """The value of its variable, "" when it has none; None for another URI."""
        pattern = re.sub(r"\\{\w+\\}", r"([^/?#]+)", re.escape(self.uri))
        found = re.fullmatch(pattern, uri)
        if found is None:
            return None
        return unquote(found[1]) if found.groups() else ""


class Resources:
    def __init__(self, room: Runbooks, tasks: Tasks, registry: Registry) -> None:
        self._room = room
        self._tasks = tasks
        self._registry = registry
        self.all = self._all()

    def _all(self) -> list[Resource]:
        tasks, registry = self._tasks, self._registry
        return [
            Resource("ntro://whoami", "Who you are.", lambda caller, _: tasks.whoami(caller, Nothing())),
            Resource("ntro://tenants", "The tenants.", lambda caller, _: registry.tenants(caller, Nothing())),
            Resource("ntro://tenants/{slug}", "A tenant.",
                     lambda caller, it: registry.tenant(caller, OfTenant(tenant_id=it))),
            Resource("ntro://entities", "The entities.", lambda caller, _: registry.entities(caller, OfTenant())),
            Resource("ntro://workflows", "The workflows.", lambda caller, _: registry.workflows(caller, Nothing())),
            Resource("ntro://workflows/{id}", "A workflow.",
                     lambda caller, it: registry.workflow(caller, OfWorkflow(workflow_id=it))),
            Resource("ntro://tasks/{id}", "A task with its steps.",
                     lambda caller, it: tasks.get(caller, OfTask(task_id=it))),
            Resource("ntro://schedule", "Tasks that are at work, and those that schedules will start.", self._schedule),
            Resource("ntro://integrations", "The data connections.", self._integrations, agents=False),
            Resource("ntro://integrations/{id}", "A data connection.", self._integration, agents=False),
            Resource("ntro://integrations/{id}/schemas", "What is in a data connection.", self._schemas, agents=False),
        ]  # fmt: skip

    async def read(self, caller: Caller, uri: str) -> Any:
        """Raises NotFound, PermissionDenied."""
        for each in self.all:
            if (value := each.match(uri)) is not None:
                if caller.agent_id is not None and not each.agents:
                    raise PermissionDenied(f"{uri} is not for agents.")
                return await each.read(caller, value)
        raise NotFound(f"There is no resource {uri[:200]}.")

    def offered(self, caller: Caller, *, templates: bool) -> list[Resource]:
        mine = (each for each in self.all if each.agents or caller.agent_id is None)
        return [each for each in mine if each.is_template == templates]

    async def _schedule(self, caller: Caller, _: str) -> Any:
        if caller.agent_id is not None:
            return await self._tasks.all(caller, RunList())
        return await self._room.store.read(lambda: listing.schedule_tx(None, caller.scope))

    async def _integrations(self, caller: Caller, _: str) -> Any:
        return await self._room.connections.everything(caller.scope)

    async def _integration(self, caller: Caller, it: str) -> Any:
        wide(caller, "Reading a data connection")
        return await self._room.connections.get(it)

    async def _schemas(self, caller: Caller, it: str) -> Any:
        wide(caller, "Reading a data connection")
        return await self._room.connections.schemas(it)
