"""API keys: only their SHA-256 is stored; a key is shown once, when it is made. It must not know HTTP."""

from __future__ import annotations

import hashlib
import secrets

import msgspec
from sqlalchemy import bindparam, insert, select, update

from hostler import clock
from hostler.errors import NotFound
from hostler.ids import new_id
from hostler.services.reading import first, rows
from hostler.settings import KEY_PREFIX
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import api_keys

CACHE_SECONDS = 5
CACHE_SIZE = 1024

_INSERT = insert(api_keys)
_BY_HASH = select(api_keys.c.id).where(api_keys.c.hash == bindparam("hash"), api_keys.c.revoked_at.is_(None))
_ANY = select(api_keys.c.id).where(api_keys.c.hash == bindparam("hash"))
_LIST = select(api_keys.c.id, api_keys.c.name, api_keys.c.hint, api_keys.c.created_at, api_keys.c.revoked_at).order_by(
    api_keys.c.created_at, api_keys.c.id
)
_REVOKE = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key"))
    .values(revoked_at=bindparam("now"))
    .returning(api_keys.c.id)
)


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of a key afterwards: `hint` is its last four characters, times are microseconds."""

    id: str
    name: str
    hint: str
    created_at: int
    revoked_at: int | None


class Keys:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._own: bytes | None = None
        self._known: dict[bytes, tuple[str | None, int]] = {}  # hash -> id or None, and until when that holds

    async def create(self, name: str, secret: str | None = None) -> tuple[ApiKey, str]:
        """Make a key and return it with its secret, which nothing can tell again. `secret` fixes it."""
        secret = secret or KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(new_id("apikey"), name, secret[-4:], clock.now(), None)
        row = {**msgspec.structs.asdict(key), "hash": _hash(secret).hex()}
        await self._store.write(lambda: rows(_INSERT, row))
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

    async def verify(self, secret: str) -> str | None:
        """Return the id of a valid key. Looked up at most every few seconds, so that another process's revocation
        takes hold; unknown keys are kept too, in the same bounded space."""
        digest, now = _hash(secret), clock.now()
        if digest == self._own:
            return "own"
        known = self._known.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        row = await self._store.read(lambda: first(_BY_HASH, {"hash": digest.hex()}))
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        key_id: str | None = row[0] if row else None
        self._known[digest] = (key_id, now + CACHE_SECONDS * 1_000_000)
        return key_id


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
