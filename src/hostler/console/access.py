"""Who looks at a page: the bearer of an API key who has signed in, or of a signed link; and what each may see.

A cookie and a link hold a sealed value, never a key. It must not speak HTTP, nor decide what a page shows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec
from sqlalchemy import Integer, bindparam, func, or_, select

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.runbooks.tasks import TaskRow, find_tx
from hostler.services.keys import Keys
from hostler.services.reading import first
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import agent_runs, api_keys, tasks
from hostler.vault.sealing import NotOpened, Sealer

SIGNED_IN_SECONDS = 12 * 3600
LINK_SECONDS = 12 * 3600
MAX_LINK_SECONDS = 30 * 24 * 3600
KNOWN_SECONDS = 3
KNOWN_SIZE = 1024
COOKIE, TICKET = "console.cookie", "console.ticket"  # what a sealed value is bound to: one is never taken for the other
PLACES = ("sessions", "tasks")

_KEY = select(api_keys.c.tenant_id).where(api_keys.c.id == bindparam("id"), api_keys.c.revoked_at.is_(None))
# A session of another server may have any id: only those that ran here count.
_RUN = (
    select(agent_runs.c.session_id)
    .join_from(agent_runs, tasks, tasks.c.id == agent_runs.c.task_id)
    .where(agent_runs.c.session_id == bindparam("s"), agent_runs.c.base_url.is_(None))
    .limit(1)
)
_RUN_OF_TENANT = _RUN.where(tasks.c.tenant_id == bindparam("t"))
_RUN_OF_TASK = _RUN.where(
    or_(tasks.c.id == bindparam("t"), func.substr(tasks.c.id, 1, bindparam("n", type_=Integer)) == bindparam("below"))
)


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """`tenant_id` narrows to a tenant. `place` narrows to what a link was signed for: ("tasks", its id). Without
    `key_id` no key can be revoked: the server itself has signed, and only time ends it. `acts` lets answer gates;
    `name`, the key's, then says who did."""

    key_id: str | None = None
    tenant_id: str | None = None
    name: str = "link"
    place: tuple[str, str] | None = None
    acts: bool = True
    until: int


class Access:
    def __init__(self, store: Store, keys: Keys, sealer: Sealer, public_url: str | None = None) -> None:
        """`public_url` is where the server is reached, when that is not where it listens."""
        self.public_url = public_url
        self._store = store
        self._keys = keys
        self._sealer = sealer
        self._known: dict[str, tuple[tuple[str | None] | None, int]] = {}  # key id -> its tenant, until when
        # Servers on other ports of this host share its cookies: each has names of its own.
        self.cookie_name = f"hostler-{sealer.key_id.hex()[:8]}"

    # -- signing in --

    async def sign_in(self, secret: str) -> Who | None:
        """The bearer of this API key; None when it is nobody's."""
        known = await self._keys.verify(secret)
        if known is None or await self._tenant(known.id) is None:
            return None
        until = clock.now() + SIGNED_IN_SECONDS * 1_000_000
        return Who(key_id=known.id, tenant_id=known.tenant_id, name=known.name, until=until)

    def sealed(self, who: Who) -> str:
        """What a cookie holds."""
        return self._seal(COOKIE, who)

    async def opened(self, value: str) -> Who | None:
        """Whose cookie it is, while its key holds."""
        who = self._open(COOKIE, value)
        return who if who is not None and await self.holds(who) else None

    async def holds(self, who: Who) -> bool:
        """Whether its time is not up and its key, where it has one, is neither revoked nor moved to another tenant."""
        if who.until <= clock.now():
            return False
        if who.key_id is None:
            return True
        return await self._tenant(who.key_id) == (who.tenant_id,)

    # -- links --

    def sign(self, path: str, *, by: Who | None = None, seconds: int = LINK_SECONDS, acts: bool = True) -> str:
        """`path` with a ticket that opens it, and nothing else, for a time. `by` is whoever may see it already; what
        it may not do, the link may not do. Raises InvalidRequest."""
        if not 0 < seconds <= MAX_LINK_SECONDS:
            raise InvalidRequest(f"expires_in_seconds: Input should be between 1 and {MAX_LINK_SECONDS}")
        until = clock.now() + seconds * 1_000_000
        link = Who(place=place_of(path), acts=acts, until=until)
        if by is not None:
            link = msgspec.structs.replace(
                link, key_id=by.key_id, tenant_id=by.tenant_id, name=by.name, acts=acts and by.acts,
                until=until if by.key_id else min(until, by.until),
            )  # fmt: skip
        return f"{path}?ticket={self._seal(TICKET, link)}"

    async def ticket(self, value: str, place: tuple[str, str]) -> Who | None:
        """What a ticket makes of its bearer, when it was signed for this place and holds."""
        who = self._open(TICKET, value)
        return who if who is not None and who.place == place and await self.holds(who) else None

    def link_cookie(self, place: tuple[str, str]) -> str:
        """The name of the cookie of a link: one link doesn't end another."""
        return f"{self.cookie_name}-{hashlib.sha256('/'.join(place).encode()).hexdigest()[:12]}"

    # -- what they may see --

    async def task(self, who: Who, task_id: str) -> TaskRow:
        """A task that they may see. What they may not see is not there. Raises NotFound."""
        row = await self._store.read(lambda: find_tx(task_id))
        mine = who.tenant_id in (None, row.tenant_id)
        if who.place is not None:
            mine = mine and who.place[0] == "tasks" and _within(task_id, who.place[1])
        if not mine:
            raise NotFound(f"Task {task_id} was not found.")
        return row

    async def session(self, who: Who, session_id: str) -> None:
        """Let pass to a session that they may see: a tenant's are those that agents ran for its tasks. Raises
        NotFound."""
        if not await self._store.read(lambda: _may_see_tx(who, session_id)):
            raise NotFound(f"Session {session_id} was not found.")

    # -- inside --

    async def _tenant(self, key_id: str) -> tuple[str | None] | None:
        """The tenant of a living key, in a tuple; None for a key that is not. Kept for a moment only."""
        known, now = self._known.get(key_id), clock.now()
        if known is not None and now < known[1]:
            return known[0]
        row = await self._store.read(lambda: first(_KEY, {"id": key_id}))
        if len(self._known) >= KNOWN_SIZE:
            self._known.clear()
        found = (row[0],) if row is not None else None
        self._known[key_id] = (found, now + KNOWN_SECONDS * 1_000_000)
        return found

    def _seal(self, purpose: str, who: Who) -> str:
        return base64.urlsafe_b64encode(self._sealer.seal(purpose, msgspec.json.encode(who))).decode().rstrip("=")

    def _open(self, purpose: str, value: str) -> Who | None:
        try:
            sealed = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
            return msgspec.json.decode(self._sealer.open(purpose, sealed), type=Who)
        except (binascii.Error, ValueError, NotOpened):
            return None


def place_of(path: str) -> tuple[str, str]:
    """What a page's path is about. Raises InvalidRequest for a path that has no page a link could open."""
    parts = path.split("/")
    if len(parts) != 4 or parts[:2] != ["", "console"] or parts[2] not in PLACES or not _plain(parts[3]):
        raise InvalidRequest("path: Input should be '/console/sessions/{id}' or '/console/tasks/{id}'")
    return parts[2], parts[3]


def _plain(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set("?#\"'<>\\ ")


def _within(task_id: str, root: str) -> bool:
    return task_id == root or task_id.startswith(f"{root}:")


def _may_see_tx(who: Who, session_id: str) -> Tx[bool]:
    if who.place is not None and who.place[0] == "sessions" and who.place[1] != session_id:
        return False
    if who.place is not None and who.place[0] == "tasks":
        below = f"{who.place[1]}:"
        ran = {"s": session_id, "t": who.place[1], "below": below, "n": len(below)}
        if (yield from first(_RUN_OF_TASK, ran)) is None:
            return False
    if who.tenant_id is not None:
        return (yield from first(_RUN_OF_TENANT, {"s": session_id, "t": who.tenant_id})) is not None
    return True
