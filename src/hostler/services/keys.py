"""API keys: only their SHA-256 is stored; a key is shown once, when it is made. It must not know HTTP."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, insert, or_, select, update

from hostler import clock
from hostler.errors import NotFound
from hostler.ids import new_id
from hostler.services.reading import first, rows
from hostler.settings import KEY_PREFIX
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import api_keys, tenants

CACHE_SECONDS = 5
CACHE_SIZE = 1024

_INSERT = insert(api_keys)
_BY_HASH = select(api_keys.c.id, api_keys.c.tenant_id, api_keys.c.name).where(
    api_keys.c.hash == bindparam("hash"), api_keys.c.revoked_at.is_(None)
)
_ANY = select(api_keys.c.id).where(api_keys.c.hash == bindparam("hash"))
_LIST = (
    select(
        api_keys.c.id, api_keys.c.name, api_keys.c.hint, api_keys.c.created_at, api_keys.c.revoked_at,
        api_keys.c.tenant_id, tenants.c.slug,
    )
    .outerjoin(tenants, tenants.c.id == api_keys.c.tenant_id)
    .order_by(api_keys.c.created_at, api_keys.c.id)
)  # fmt: skip
_TENANT = select(tenants.c.id, tenants.c.slug).where(
    or_(tenants.c.id == bindparam("ref"), tenants.c.slug == bindparam("ref"))
)
_REVOKE = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key"))
    .values(revoked_at=bindparam("now"))
    .returning(api_keys.c.id)
)


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of a key afterwards: `hint` is its last four characters, times are microseconds. A key with a
    tenant opens the Workspace API of that tenant and nothing else."""

    id: str
    name: str
    hint: str
    created_at: int
    revoked_at: int | None
    tenant_id: str | None = None
    tenant: str | None = None


class Known(NamedTuple):
    """A valid key: which one, and the one tenant that it is for, if it is."""

    id: str
    tenant_id: str | None = None
    name: str = ""


class Keys:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._own: bytes | None = None
        self._known: dict[bytes, tuple[Known | None, int]] = {}  # hash -> key or None, and until when that holds

    async def create(self, name: str, secret: str | None = None, tenant: str | None = None) -> tuple[ApiKey, str]:
        """Make a key and return it with its secret, which nothing can tell again. `secret` fixes it. With the slug or
        id of a `tenant`, it is for that one alone. Raises NotFound."""
        secret = secret or KEY_PREFIX + secrets.token_urlsafe(32)
        key_id, now = new_id("apikey"), clock.now()

        def tx() -> Tx[ApiKey]:
            tenant_id, slug = (yield from _tenant_tx(tenant)) if tenant is not None else (None, None)
            row = {
                "id": key_id, "name": name, "hint": secret[-4:], "created_at": now, "revoked_at": None,
                "tenant_id": tenant_id, "hash": _hash(secret).hex(),
            }  # fmt: skip
            yield _INSERT, row
            return ApiKey(key_id, name, secret[-4:], now, None, tenant_id, slug)

        key = await self._store.write(tx)
        self._known.clear()
        return key, secret

    async def ensure(self, name: str, secret: str) -> None:
        """Make a key of this secret unless there is one, revoked or not."""
        if await self._store.read(lambda: first(_ANY, {"hash": _hash(secret).hex()})) is None:
            await self.create(name, secret)

    def own(self) -> str:
        """A key with which this process calls itself. It is stored nowhere, and ends with the process."""
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        self._own = _hash(secret)
        return secret

    async def list(self) -> list[ApiKey]:
        return [ApiKey(*row) for row in await self._store.read(lambda: rows(_LIST))]

    async def revoke(self, key_id: str) -> None:
        def tx() -> Tx[None]:
            found = yield from rows(_REVOKE, {"key": key_id, "now": clock.now()})
            if not found:
                raise NotFound(f"API key {key_id} was not found.")

        await self._store.write(tx)
        self._known.clear()

    async def verify(self, secret: str) -> Known | None:
        """What is known of a valid key. Looked up at most every few seconds, so that another process's revocation
        takes hold; unknown keys are kept too, in the same bounded space."""
        digest, now = _hash(secret), clock.now()
        if digest == self._own:
            return Known("own", None, "own")
        known = self._known.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        row = await self._store.read(lambda: first(_BY_HASH, {"hash": digest.hex()}))
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        found = Known(*row) if row else None
        self._known[digest] = (found, now + CACHE_SECONDS * 1_000_000)
        return found


def _tenant_tx(ref: str) -> Tx[Row]:
    found = yield _TENANT, {"ref": ref}
    if not found:
        raise NotFound(f"There is no tenant {ref}.")
    return next((row for row in found if row[0] == ref), found[0])


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
