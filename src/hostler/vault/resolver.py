"""Finds the token that a session may send to an MCP server. It must not keep any.

Each use looks again, so that what was rotated or archived takes hold in running sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hostler import clock
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.vault import records
from hostler.vault.bearer import Bearer
from hostler.vault.records import Record, url_target
from hostler.vault.renewing import Renewer, grant_of
from hostler.vault.sealing import NotOpened, Sealer
from hostler.vault.urls import normalised
from hostler.wire.base import parse_timestamp
from hostler.wire.vaults import McpOauth

log = logging.getLogger(__name__)

EARLY_SECONDS = 10  # before its expiry a token counts as expired: it has a way to go


class Resolver:
    def __init__(self, store: Store, sealer: Sealer, renewer: Renewer) -> None:
        self._store = store
        self._sealer = sealer
        self._renewer = renewer

    async def authorization(self, vault_ids: Sequence[str], server_url: str) -> Bearer | None:
        """The token for a server: of the first vault that has an active credential for its URL. None when there is
        none; then the server is asked without.

        An expired OAuth token is refreshed first. When that fails the old one is returned: the server's refusal says
        what is wrong.
        """
        try:
            target = url_target(normalised(server_url))
        except ValueError:
            return None
        record = await self._store.read(lambda: _first_tx(vault_ids, target))
        return await self._bearer(record) if record is not None else None

    async def refreshed(self, bearer: Bearer, rejected_token: str) -> Bearer | None:
        """Another token after a server refused this one with 401: what is stored by now, else a refreshed one. None
        when there is no other, so that the refusal stands. Call it once for each refusal."""
        try:
            renewal = await self._renewer.renew(bearer.credential_id, rejected_token)
        except NotOpened as error:
            log.error("credential %s in vault %s: %s", bearer.credential_id, bearer.vault_id, error.message)
            return None
        if renewal.status != "succeeded":
            return None
        return Bearer(renewal.token, bearer.credential_id, bearer.vault_id)

    async def _bearer(self, record: Record) -> Bearer | None:
        try:
            secrets = record.secrets(self._sealer)
        except NotOpened as error:
            log.error("credential %s in vault %s can't be used: %s", record.id, record.vault_id, error.message)
            return None
        token = secrets.bearer
        if _expired(record, clock.now()) and grant_of(record, secrets) is not None:
            renewal = await self._renewer.renew(record.id, token)
            token = renewal.token or token
        return Bearer(token, record.id, record.vault_id) if token else None


def _first_tx(vault_ids: Sequence[str], target: str) -> Tx[Record | None]:
    for vault_id in vault_ids:
        record = yield from records.active_tx(vault_id, target)
        if record is not None:
            return record
    return None


def _expired(record: Record, now: int) -> bool:
    auth = record.credential().auth
    if not isinstance(auth, McpOauth) or not isinstance(auth.expires_at, str):
        return False
    return parse_timestamp(auth.expires_at) <= now + EARLY_SECONDS * 1_000_000
