"""Routes of vaults and their credentials."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.credentials import Credentials
from hostler.services.validation import Validation
from hostler.services.vaults import Vaults
from hostler.wire.pages import Page
from hostler.wire.vaults import CredentialCreate, CredentialUpdate, VaultCreate, VaultUpdate


def routes(vaults: Vaults, credentials: Credentials, validation: Validation) -> list[Route]:
    return [*_vaults(vaults), *_credentials(credentials, validation)]


def _vaults(vaults: Vaults) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        return json(await vaults.create(await call.body(VaultCreate)))

    async def index(call: Call) -> Response:
        query = call.query
        limit, page, archived = query.limit(20, 100), query.text("page"), query.flag("include_archived")
        query.end()
        found = await vaults.list(limit=limit, page=page, archived=archived)
        return json(Page(data=found.rows, next_page=found.next_page))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await vaults.retrieve(call.params["vault_id"]))

    async def update(call: Call) -> Response:
        call.query.end()
        return json(await vaults.update(call.params["vault_id"], await call.body(VaultUpdate)))

    async def archive(call: Call) -> Response:
        await call.no_body()
        return json(await vaults.archive(call.params["vault_id"]))

    async def delete(call: Call) -> Response:
        await call.no_body()
        return json(await vaults.delete(call.params["vault_id"]))

    return [
        Route("POST", "/v1/vaults", create),
        Route("GET", "/v1/vaults", index),
        Route("GET", "/v1/vaults/{vault_id}", retrieve),
        Route("POST", "/v1/vaults/{vault_id}", update),
        Route("DELETE", "/v1/vaults/{vault_id}", delete),
        Route("POST", "/v1/vaults/{vault_id}/archive", archive),
    ]


def _credentials(credentials: Credentials, validation: Validation) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        return json(await credentials.create(call.params["vault_id"], await call.body(CredentialCreate)))

    async def index(call: Call) -> Response:
        query = call.query
        limit, page, archived = query.limit(20, 100), query.text("page"), query.flag("include_archived")
        query.end()
        found = await credentials.list(call.params["vault_id"], limit=limit, page=page, archived=archived)
        return json(Page(data=found.rows, next_page=found.next_page))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await credentials.retrieve(*_ids(call)))

    async def update(call: Call) -> Response:
        call.query.end()
        return json(await credentials.update(*_ids(call), await call.body(CredentialUpdate)))

    async def archive(call: Call) -> Response:
        await call.no_body()
        return json(await credentials.archive(*_ids(call)))

    async def delete(call: Call) -> Response:
        await call.no_body()
        return json(await credentials.delete(*_ids(call)))

    async def validate(call: Call) -> Response:
        await call.no_body()
        return json(await validation.validate(*_ids(call)))

    one = "/v1/vaults/{vault_id}/credentials/{credential_id}"
    return [
        Route("POST", "/v1/vaults/{vault_id}/credentials", create),
        Route("GET", "/v1/vaults/{vault_id}/credentials", index),
        Route("GET", one, retrieve),
        Route("POST", one, update),
        Route("DELETE", one, delete),
        Route("POST", f"{one}/archive", archive),
        Route("POST", f"{one}/mcp_oauth_validate", validate),
    ]


def _ids(call: Call) -> tuple[str, str]:
    return call.params["vault_id"], call.params["credential_id"]
