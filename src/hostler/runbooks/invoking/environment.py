"""The environment of sessions whose agent names none: one for all of them, looked for once, made where there is none.

It must not know sessions.
"""

from __future__ import annotations

import asyncio

from hostler.runbooks.invoking.remote import Remote

NAME = "runbooks"


class Environment:
    def __init__(self) -> None:
        self._lock = asyncio.Lock()  # else many calls at once would each make one
        self._id: str | None = None

    async def id(self, remote: Remote) -> str:
        """Raises Refused, Down."""
        async with self._lock:
            if self._id is None:
                self._id = await _found(remote) or str((await remote.post("/v1/environments", {"name": NAME}))["id"])
            return self._id

    def forget(self, id: str) -> None:
        """It did not do: somebody may have archived or deleted it."""
        if self._id == id:
            self._id = None


async def _found(remote: Remote) -> str | None:
    async for each in remote.pages("/v1/environments", limit=100):
        if each.get("name") == NAME and not each.get("archived_at"):
            return str(each["id"])
    return None
