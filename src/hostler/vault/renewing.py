"""Renews OAuth tokens: one exchange at a time for each credential, in this process and among all that share the
database. It must not decide when a token needs renewing.

Within the process, those who want the same renewal wait for one task. Between processes a lease on the credential's row
decides who asks the token endpoint; the others wait and take what it stored. New tokens are committed before anybody
gets them, for many endpoints accept a refresh token only once. The task outlives whoever waits for it: a turn that is
interrupted between the answer and the commit must not lose them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, or_, update

from hostler import clock
from hostler.errors import Unavailable
from hostler.ids import new_id
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import vault_credentials as table
from hostler.vault import oauth, records
from hostler.vault.oauth import Grant, NotRefreshed, Tokens
from hostler.vault.outward import Answer, Outward
from hostler.vault.records import Record, Secrets
from hostler.vault.sealing import Sealer
from hostler.wire.base import UNSET, Unset, encode, timestamp
from hostler.wire.vaults import McpOauth

log = logging.getLogger(__name__)

LEASE_SECONDS = 35  # longer than an exchange, so that only a dead process loses it
EXCHANGE_SECONDS = 30.0
PATIENCE_SECONDS = 50.0
POLL_SECONDS = 0.1
COOL_SECONDS = 15.0
MOST_REMEMBERED = 1024
CLOSE_SECONDS = 1.0  # all of a stop must be done within ten
KEEP_PAUSES = (0.2, 1.0, 3.0)

_time = table.c.lease_until.type
_LEASE = (
    update(table)
    .where(
        table.c.id == bindparam("key"),
        table.c.generation == bindparam("seen"),
        table.c.archived_at.is_(None),
        or_(table.c.lease_until.is_(None), table.c.lease_until < bindparam("now", type_=_time)),
    )
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"))
    .returning(table.c.id)
)
_RELEASE = (
    update(table)
    .where(table.c.id == bindparam("key"), table.c.lease_owner == bindparam("owner"))
    .values(lease_owner=None, lease_until=None)
)
_VOID = update(table).where(table.c.lease_owner.is_not(None)).values(lease_owner=None, lease_until=None)


class Renewal(NamedTuple):
    """How a renewal went. `token` comes with `succeeded`, `failed` with the endpoint's answer where there was one."""

    status: str  # succeeded, failed, connect_error, no_refresh_token, gone
    token: str = ""
    answer: Answer | None = None
    final: bool = False


class Renewer:
    def __init__(self, store: Store, sealer: Sealer, outward: Outward) -> None:
        self._store = store
        self._sealer = sealer
        self._outward = outward
        self._owner = new_id("wrkr")
        self._tasks: dict[str, asyncio.Task[Renewal]] = {}
        self._cool: dict[str, tuple[int, float, Renewal]] = {}  # id -> generation, until when, what failed

    async def aclose(self) -> None:
        """Let exchanges that run end, for their tokens may be the only ones that are still good; but not for long."""
        if tasks := list(self._tasks.values()):
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def take_over(self) -> None:
        """End the leases of an earlier process, which is dead: for the one that owns the database, at its start."""

        def tx() -> Tx[None]:
            yield _VOID

        await self._store.write(tx)

    async def renew(self, credential_id: str, stale: str, *, insist: bool = False) -> Renewal:
        """Return a token that is newer than `stale`: one that was stored meanwhile, else one from the token endpoint.

        `insist` asks the endpoint also right after a failure, and where an earlier answer said that it is useless.
        """
        while True:
            task = self._tasks.get(credential_id)
            if task is None or task.done():
                return await asyncio.shield(self._start(credential_id, stale, insist))
            renewal = await asyncio.shield(task)
            # It was begun for somebody else, who may have had an older token, or less insistence.
            if renewal.token != stale and (renewal.status == "succeeded" or not insist):
                return renewal

    def _start(self, credential_id: str, stale: str, insist: bool) -> asyncio.Task[Renewal]:
        task = asyncio.create_task(self._renew(credential_id, stale, insist), name=f"renew-{credential_id}")
        self._tasks[credential_id] = task
        task.add_done_callback(lambda done: self._forget(credential_id, done))
        return task

    def _forget(self, credential_id: str, task: asyncio.Task[Renewal]) -> None:
        if self._tasks.get(credential_id) is task:
            del self._tasks[credential_id]
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may wait any more

    async def _renew(self, credential_id: str, stale: str, insist: bool) -> Renewal:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            record = await self._store.read(lambda: records.find_tx(credential_id))
            if record is None or record.archived_at is not None:
                return Renewal("gone")
            secrets = record.secrets(self._sealer)
            if secrets.bearer != stale:
                return Renewal("succeeded", secrets.bearer)
            grant = grant_of(record, secrets)
            if grant is None:
                return Renewal("no_refresh_token")
            if not insist and (known := self._known_failure(record)) is not None:
                return known
            if await self._lease(record):
                return await self._exchange(record, secrets, grant)
            if asyncio.get_running_loop().time() > deadline:
                return Renewal("connect_error")
            await asyncio.sleep(POLL_SECONDS)  # another process asks right now

    def _known_failure(self, record: Record) -> Renewal | None:
        """What need not be tried: what the endpoint has refused for good, and what has just failed."""
        if record.failure is not None:
            return Renewal("failed", final=True)
        generation, until, failed = self._cool.get(record.id, (0, 0.0, None))
        if failed is not None and generation == record.generation and asyncio.get_running_loop().time() < until:
            return failed
        return None

    async def _lease(self, record: Record) -> bool:
        now = clock.now()
        params = {
            "key": record.id,
            "seen": record.generation,
            "now": now,
            "owner": self._owner,
            "until": now + LEASE_SECONDS * 1_000_000,
        }

        def tx() -> Tx[bool]:
            rows = yield _LEASE, params
            return bool(rows)

        return await self._store.write(tx)

    async def _exchange(self, record: Record, used: Secrets, grant: Grant) -> Renewal:
        """Ask the endpoint, then store what it said, holding the lease."""
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                tokens = await oauth.exchange(self._outward, grant)
        except NotRefreshed as failed:
            return await self._failed(record, failed)
        except TimeoutError:
            return await self._failed(record, NotRefreshed("the token endpoint took too long"))
        except BaseException:
            with contextlib.suppress(Exception):
                await self._store.write(lambda: self._let_go(record.id))
            raise
        token = await self._keep(record.id, used, tokens)
        if token is None:
            return Renewal("gone")
        log.info("refreshed the token of credential %s in vault %s", record.id, record.vault_id)
        self._cool.pop(record.id, None)
        return Renewal("succeeded", token)

    async def _keep(self, credential_id: str, used: Secrets, tokens: Tokens) -> str | None:
        """Commit new tokens; a database that can't be written for a moment must not lose them."""
        for pause in (*KEEP_PAUSES, None):
            try:
                return await self._store.write(lambda: self._take(credential_id, used, tokens, clock.now()))
            except Unavailable:
                if pause is None:
                    log.error("the new tokens of credential %s are lost: they could not be stored", credential_id)
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _take(self, credential_id: str, used: Secrets, tokens: Tokens, now: int) -> Tx[str | None]:
        """Store new tokens in place of the ones that were used. What somebody has set meanwhile is left alone."""
        yield from self._let_go(credential_id)
        record = yield from records.hold_tx(credential_id)
        if record is None or record.archived_at is not None:
            return None
        secrets, credential = record.secrets(self._sealer), record.credential()
        if tokens.refresh_token and secrets.refresh_token == used.refresh_token:
            secrets = msgspec.structs.replace(secrets, refresh_token=tokens.refresh_token)
        if secrets.access_token == used.access_token:
            secrets = msgspec.structs.replace(secrets, access_token=tokens.access_token)
            assert isinstance(credential.auth, McpOauth)
            credential.auth.expires_at = _expiry(tokens, now)
            credential.updated_at = timestamp(now)
        changed = msgspec.structs.replace(
            record,
            body=encode(credential),
            sealed=secrets.seal(self._sealer, credential_id),
            generation=record.generation + 1,
            failure=None,
        )
        yield from records.save_tx(changed, now)
        return secrets.access_token

    async def _failed(self, record: Record, failed: NotRefreshed) -> Renewal:
        def tx() -> Tx[None]:
            yield from self._let_go(record.id)
            current = yield from records.hold_tx(record.id)
            if failed.final and current is not None and current.generation == record.generation:
                yield from records.save_tx(msgspec.structs.replace(current, failure=failed.final), clock.now())

        await self._store.write(tx)
        what = "can't be refreshed until it is changed" if failed.final else "could not be refreshed"
        log.warning("credential %s in vault %s %s: %s", record.id, record.vault_id, what, failed.reason)
        status = "connect_error" if failed.answer is None else "failed"
        renewal = Renewal(status, answer=failed.answer, final=failed.final is not None)
        if len(self._cool) >= MOST_REMEMBERED:
            self._cool.clear()
        until = asyncio.get_running_loop().time() + COOL_SECONDS
        self._cool[record.id] = (record.generation, until, renewal)
        return renewal

    def _let_go(self, credential_id: str) -> Tx[None]:
        yield _RELEASE, {"key": credential_id, "owner": self._owner}


def grant_of(record: Record, secrets: Secrets) -> Grant | None:
    """What a refresh of this credential needs, or None when it can't be refreshed."""
    auth = record.credential().auth
    if not isinstance(auth, McpOauth) or isinstance(auth.refresh, Unset) or not secrets.refresh_token:
        return None
    refresh = auth.refresh
    return Grant(
        token_endpoint=refresh.token_endpoint,
        client_id=refresh.client_id,
        client_auth=refresh.token_endpoint_auth.type,
        client_secret=secrets.client_secret,
        refresh_token=secrets.refresh_token,
        scope=refresh.scope if isinstance(refresh.scope, str) else None,
        resource=refresh.resource if isinstance(refresh.resource, str) else None,
    )


def _expiry(tokens: Tokens, now: int) -> str | Unset:
    """Unknown when the endpoint does not say it: the expiry of the token before means nothing."""
    return UNSET if tokens.expires_in is None else timestamp(now + int(tokens.expires_in * 1e6))
