"""Routes of data connections and mailboxes. They are the firm's: a tenant's key sees its own mailboxes alone."""

from __future__ import annotations

from typing import Any

from hostler.runbooks.registry.connections import Connections
from hostler.wire.workspace import ConnectionCreate, MailboxCreate
from hostler.workspace.call import Call
from hostler.workspace.gate import Route

_CONNECTION = "/v1/workspace/data/{connection}"
_WIDE = "Working with data connections"


def routes(connections: Connections) -> list[Route]:
    async def create(call: Call) -> Any:
        call.caller.must_be_wide(_WIDE)
        return await connections.create(await call.body(ConnectionCreate))

    async def index(call: Call) -> Any:
        call.caller.must_be_wide(_WIDE)
        call.query()
        return await connections.all()

    async def retrieve(call: Call) -> Any:
        call.caller.must_be_wide(_WIDE)
        call.query()
        return await connections.get(call.params["connection"])

    async def test(call: Call) -> Any:
        call.caller.must_be_wide(_WIDE)
        return await connections.test(call.params["connection"])

    async def schemas(call: Call) -> Any:
        call.caller.must_be_wide(_WIDE)
        return await connections.schemas(call.params["connection"])

    async def tenants(call: Call) -> Any:
        call.caller.must_be_wide(_WIDE)
        return await connections.tenants(call.params["connection"])

    async def create_mailbox(call: Call) -> Any:
        return await connections.create_mailbox(await call.body(MailboxCreate), call.scope)

    async def everything(call: Call) -> Any:
        call.query()
        return await connections.everything(call.scope)

    return [
        Route("POST", "/v1/workspace/data", create, 201),
        Route("GET", "/v1/workspace/data", index),
        Route("GET", _CONNECTION, retrieve),
        Route("POST", f"{_CONNECTION}/test", test),
        Route("GET", f"{_CONNECTION}/schemas", schemas),
        Route("GET", f"{_CONNECTION}/tenants", tenants),
        Route("POST", "/v1/workspace/integrations/email", create_mailbox, 201),
        Route("GET", "/v1/workspace/integrations", everything),
    ]
