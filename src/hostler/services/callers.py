"""Who calls: somebody with an API key, a worker with its environment's key, or one with the token of its work item.

A worker's credentials open what a worker needs and nothing else, of its own environment or session; a key for one
tenant of the Workspace API opens nothing here. What is another's is not there (404), what is none of its business is
forbidden (403). It must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Literal, NamedTuple

from sqlalchemy import bindparam, select

from hostler.errors import AuthenticationFailed, NotFound, PermissionDenied
from hostler.services.environment_keys import PREFIX
from hostler.services.keys import Keys
from hostler.services.reading import first, rows
from hostler.services.skills import LATEST
from hostler.services.work_rows import TOKEN_PREFIX, digest
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import environment_keys, session_skills, sessions, work, work_tokens
from hostler.wire.events import ClientEvent, UserCustomToolResultParams, UserToolResultParams

Kind = Literal["api", "tenant", "environment", "work"]

_KEY = select(environment_keys.c.environment_id).where(
    environment_keys.c.hash == bindparam("hash"), environment_keys.c.revoked_at.is_(None)
)
_TOKEN = (
    select(work.c.environment_id, work.c.session_id, work.c.id, work_tokens.c.revoked_at)
    .join_from(work_tokens, work, work.c.id == work_tokens.c.work_id)
    .where(work_tokens.c.hash == bindparam("hash"))
)
_SESSION = select(sessions.c.id).where(sessions.c.id == bindparam("s"), sessions.c.environment_id == bindparam("e"))
_PINNED = (
    select(session_skills.c.version)
    .join(sessions, sessions.c.id == session_skills.c.session_id)
    .where(
        session_skills.c.skill_id == bindparam("skill"),
        sessions.c.environment_id == bindparam("e"),
        sessions.c.archived_at.is_(None),
    )
    .distinct()
)
_PINNED_BY_SESSION = _PINNED.where(session_skills.c.session_id == bindparam("s"))


class Caller(NamedTuple):
    """`live` is false for the token of a work item that is its bearer's no longer."""

    kind: Kind = "api"
    environment_id: str = ""
    session_id: str | None = None
    work_id: str | None = None
    live: bool = True

    @property
    def limited(self) -> bool:
        return self.kind != "api"


class Callers:
    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def verify(self, secret: str) -> Caller | None:
        """Whose credential it is; None when it is nobody's. What workers have is looked up anew each time."""
        if (known := await self._keys.verify(secret)) is not None:
            return Caller() if known.tenant_id is None else Caller("tenant")
        if not secret.startswith((PREFIX, TOKEN_PREFIX)):
            return None
        return await self._store.read(lambda: _worker_tx(secret))

    async def admit(
        self, caller: Caller, open_to: frozenset[Kind], params: MutableMapping[str, str], *, lost: bool
    ) -> None:
        """Let a worker's credential pass to a route, or not. `lost` routes are open to a token of an item that is its
        bearer's no longer, too: they tell it so. A skill's `latest` version in `params` is made the one it may have."""
        if not caller.limited:
            return
        if caller.kind == "tenant":
            raise PermissionDenied("This key is for one tenant of the Workspace API; use a key of the server.")
        if caller.kind not in open_to:
            raise PermissionDenied("A worker's credential can't do that; use an API key.")
        if not caller.live and not lost:
            raise AuthenticationFailed("The token's work item has ended, or is another worker's now.")
        version = await self._store.read(lambda: _own_tx(caller, params))
        if version is not None:
            params["version"] = version


def check_events(caller: Caller, events: Sequence[ClientEvent]) -> None:
    """A worker answers tool uses. It must not speak for the user, and not confirm what it is to run. Raises
    PermissionDenied."""
    for index, event in enumerate(events if caller.limited else ()):
        if not isinstance(event, UserToolResultParams | UserCustomToolResultParams):
            raise PermissionDenied(
                f"events.{index}.type: a worker's credential may only send user.tool_result and user.custom_tool_result"
            )


def _worker_tx(secret: str) -> Tx[Caller | None]:
    hashed = {"hash": digest(secret)}
    if secret.startswith(PREFIX):
        row = yield from first(_KEY, hashed)
        return None if row is None else Caller("environment", row[0])
    row = yield from first(_TOKEN, hashed)
    return None if row is None else Caller("work", row[0], row[1], row[2], live=row[3] is None)


def _own_tx(caller: Caller, params: Mapping[str, str]) -> Tx[str | None]:
    """Raise NotFound for what is not the caller's. Return the version of a skill, where it is about one."""
    if params.get("environment_id", caller.environment_id) != caller.environment_id:
        raise NotFound(f"Environment {params['environment_id']} was not found.")
    if caller.work_id is not None and params.get("work_id", caller.work_id) != caller.work_id:
        raise NotFound(f"Work item {params['work_id']} was not found.")
    if (session_id := params.get("session_id")) is not None:
        mine = caller.session_id in (None, session_id)
        if not mine or (yield from first(_SESSION, {"s": session_id, "e": caller.environment_id})) is None:
            raise NotFound(f"Session {session_id} was not found.")
    if (skill_id := params.get("skill_id")) is None:
        return None
    return (yield from _skill_tx(caller, skill_id, params.get("version", "")))


def _skill_tx(caller: Caller, skill_id: str, version: str) -> Tx[str]:
    """The version, which is the caller's when a session of its has it; `latest` is the newest that one has."""
    statement, params = _PINNED, {"skill": skill_id, "e": caller.environment_id}
    if caller.session_id is not None:
        statement, params = _PINNED_BY_SESSION, {**params, "s": caller.session_id}
    versions = [row[0] for row in (yield from rows(statement, params))]
    if version == LATEST and versions:
        version = max(versions, key=lambda known: (len(known), known))
    if version not in versions:
        raise NotFound(f"Skill {skill_id} has no version {version}.")
    return version
