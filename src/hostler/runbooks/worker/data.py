"""What stands behind `ntro.data.get_data_plane` in a worker: the server runs the statements, on the task's own tenant.

It must not know which database there is.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from hostler.runbooks import cells
from hostler.runbooks.messages import MAX_MESSAGE

How = Literal["fetch", "fetchrow", "execute"]
Ask = Callable[[str, How, str, bytes], Awaitable[bytes]]

URL = "hostler:data-plane"  # `ntro` only looks whether there is one
MAX_ARGS = MAX_MESSAGE - 1024 * 1024
# The models of `ntro.subledger` take JSON columns as values; all else takes them as text too, as asyncpg gives them.
_LEDGER = re.compile(r"\s*SELECT\s+\*\s+FROM\s+ledgers\.", re.IGNORECASE)
# Syntax, permission, what there is not; and a commit of which nobody knows: to try again would be wrong.
_FINAL = ("42", "0A", "3F", "08007")


class DataPlaneError(Exception):
    """A statement failed. `sqlstate` is PostgreSQL's code."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message, sqlstate)
        self.sqlstate = sqlstate
        self.non_retryable = sqlstate.startswith(_FINAL)

    def __str__(self) -> str:
        return str(self.args[0])


class Adapter:
    """Has the shape of `ntro.data.DataPlane`. It may be used from any thread's event loop."""

    def __init__(self, ask: Ask, tenant: str, loop: asyncio.AbstractEventLoop) -> None:
        self._ask = ask
        self._tenant = tenant
        self._loop = loop

    async def fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
        """Raises DataPlaneError, as the others do."""
        return await self._rows("fetch", query, args)

    async def fetchrow(self, query: str, *args: Any) -> dict[str, Any] | None:
        rows = await self._rows("fetchrow", query, args)
        return rows[0] if rows else None

    async def execute(self, query: str, *args: Any) -> str:
        return str((await self._answer("execute", query, args))[2])

    async def close(self) -> None:
        """There is nothing to let go of: the connections are the server's."""

    async def _rows(self, how: How, query: str, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        columns, rows, _ = await self._answer(how, query, args)
        read = json.loads if _LEDGER.match(query) else str
        return [
            {
                name: read(value) if isinstance(value, cells.JsonText) else value
                for name, value in zip(columns, row, strict=True)
            }
            for row in rows
        ]

    async def _answer(self, how: How, query: str, args: tuple[Any, ...]) -> Any:
        try:
            given = cells.encode(list(args))
        except (TypeError, ValueError) as error:
            raise DataPlaneError(str(error), "22000") from error
        if len(given) + len(query) > MAX_ARGS:
            raise DataPlaneError(f"The statement's arguments have more than {MAX_ARGS} bytes.", "54000")
        asking = self._ask(self._tenant, how, query, given)
        if asyncio.get_running_loop() is not self._loop:
            asking = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(asking), self._loop))
        answer = cells.decode(await asking)
        if isinstance(answer, dict):
            state, message = answer["error"]
            raise DataPlaneError(message, state)
        return answer


async def _awaited(asking: Awaitable[bytes]) -> bytes:
    return await asking


def stand_in(ask: Ask, tenant: str) -> None:
    """Be what bundles import. To be called on the loop that `ask` belongs to, before one is loaded."""
    import ntro.data
    from ntro.capabilities import config

    loop = asyncio.get_running_loop()
    kept: dict[str, Adapter] = {}

    async def get_data_plane(tenant_slug: str) -> Adapter:
        """The data plane of a tenant: the task's own, since the server gives no other."""
        return kept.setdefault(tenant_slug, Adapter(ask, tenant_slug, loop))

    ntro.data.get_data_plane = get_data_plane
    ntro.data.clear_cache = kept.clear
    config.set(config.get().model_copy(update={"tenant_slug": tenant, "tenant_postgres_url": URL}))
