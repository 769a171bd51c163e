"""Routes of who calls, of tenants and of entities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from hostler.errors import InvalidRequest
from hostler.runbooks.registry.entities import Entities
from hostler.runbooks.registry.tenants import Tenants
from hostler.wire.workspace import (
    EntityCreate,
    EntityUpdate,
    Profile,
    TenantCreate,
    TenantStatus,
    TenantUpdate,
)
from hostler.workspace.call import Call
from hostler.workspace.gate import Route

ORGANISATION = "hostler"
_TENANT = "/v1/workspace/tenants/{tenant}"
_ENTITY = _TENANT + "/entities/{entity}"


def routes(tenants: Tenants, entities: Entities, wake: Callable[[str], None]) -> list[Route]:
    """`wake` says that a task is to be looked at."""

    async def me(call: Call) -> Any:
        call.query()
        return profile(call)

    async def create(call: Call) -> Any:
        call.caller.must_be_wide("Making a tenant")
        return await tenants.create(await call.body(TenantCreate))

    async def index(call: Call) -> Any:
        status = call.query("status")["status"]
        if status is not None and status not in get_args(TenantStatus):
            raise InvalidRequest(f"status: {status[:50]!r} is none; expected {', '.join(get_args(TenantStatus))}")
        return await tenants.all(call.scope, status)

    async def retrieve(call: Call) -> Any:
        call.query()
        return await tenants.get(call.params["tenant"], call.scope)

    async def update(call: Call) -> Any:
        params = await call.body(TenantUpdate)
        return await tenants.update(call.params["tenant"], params.config, call.scope)

    async def deprovision(call: Call) -> Any:
        call.caller.must_be_wide("Ending a tenant")
        tenant, told = await tenants.deprovision(call.params["tenant"])
        for task_id in told:
            wake(task_id)
        return tenant

    return [
        Route("GET", "/v1/me", me),
        Route("POST", "/v1/workspace/tenants", create, 201),
        Route("GET", "/v1/workspace/tenants", index),
        Route("GET", _TENANT, retrieve),
        Route("PATCH", _TENANT, update),
        Route("DELETE", _TENANT, deprovision),
        *_of_entities(entities),
    ]


def _of_entities(entities: Entities) -> list[Route]:
    async def create(call: Call) -> Any:
        return await entities.create(call.params["tenant"], await call.body(EntityCreate), call.scope)

    async def index(call: Call) -> Any:
        call.query()
        return await entities.all(call.params.get("tenant"), call.scope)

    async def retrieve(call: Call) -> Any:
        call.query()
        return await entities.get(call.params["tenant"], call.params["entity"], call.scope)

    async def update(call: Call) -> Any:
        params = await call.body(EntityUpdate)
        return await entities.update(call.params["tenant"], call.params["entity"], params.config, call.scope)

    return [
        Route("GET", "/v1/workspace/entities", index),
        Route("POST", f"{_TENANT}/entities", create, 201),
        Route("GET", f"{_TENANT}/entities", index),
        Route("GET", _ENTITY, retrieve),
        Route("PATCH", _ENTITY, update),
    ]


def profile(call: Call) -> Profile:
    """A key has no mail box; clients want an address, so it gets one that can't exist."""
    caller = call.caller
    return Profile(
        id=caller.key_id,
        email=f"{caller.key_id}@{ORGANISATION}.invalid",
        name=caller.name or caller.key_id,
        org_id=ORGANISATION,
        roles=["admin"] if caller.scope is None else ["tenant"],
        tenant_id=caller.scope,
    )
