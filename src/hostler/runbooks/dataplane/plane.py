"""The data plane: each tenant's documents and tables in a place of its own, found by the tenant's slug.

A place that is out of reach is waited for, at most so long. It must not know which tenants there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from hostler.errors import InvalidRequest, NotFound, Unavailable
from hostler.runbooks.dataplane.config import TENANT, DataPlaneConfig
from hostler.runbooks.dataplane.problems import InDoubt, NotOpened
from hostler.runbooks.dataplane.records import Document, Place, Result, StoredDocument, Wanted

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_OPEN = 64
MAX_LISTED = 1000
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PAUSES = (0.2, 0.5, 1.0, 2.0)


class DataPlane:
    """Open it with `await DataPlane.open(folder, config, url)`. All raise Unavailable when a database stays away."""

    def __init__(self, folder: Path, config: DataPlaneConfig, url: str | None) -> None:
        self._folder = folder
        self._config = config
        self._url = url
        self._places: OrderedDict[str, _Kept] = OrderedDict()

    @classmethod
    async def open(cls, folder: Path, config: DataPlaneConfig, url: str | None = None) -> DataPlane:
        """`url` is for tenants that the config names none for; without it, theirs are folders in `folder`. Nothing is
        connected to before it is used."""
        return cls(folder, config, url)

    async def aclose(self) -> None:
        while self._places:
            _, kept = self._places.popitem()
            await kept.aclose()

    async def insert_document(self, tenant: str, document: Document, content: Path) -> StoredDocument:
        """Store a document once: with an id that is there already, return that one. All or nothing."""
        _check_id(document.id)
        return await self._patiently(tenant, lambda place: place.insert(document, content))

    async def document(self, tenant: str, document_id: str) -> StoredDocument:
        """Raises NotFound."""
        _check_id(document_id)
        found = await self._patiently(tenant, lambda place: place.document(document_id))
        if found is None:
            raise NotFound(f"There is no document {document_id}.")
        return found

    async def content(self, tenant: str, document_id: str) -> AsyncGenerator[bytes, None]:
        """The bytes in chunks; to be closed when not read to its end. Raises NotFound."""
        _check_id(document_id)
        async with self._place(tenant) as place, contextlib.aclosing(place.content(document_id)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def documents(
        self,
        tenant: str,
        *,
        task_id: str | None = None,
        entity_slug: str | None = None,
        period: str | None = None,
        source_prefix: str | None = None,
        limit: int = 100,
    ) -> list[StoredDocument]:
        """The newest first."""
        wanted = Wanted(task_id, entity_slug, period, source_prefix, max(0, min(limit, MAX_LISTED)))
        return await self._patiently(tenant, lambda place: place.documents(wanted))

    async def run(self, tenant: str, sql: str, args: list[Any], limit: int | None = None) -> Result:
        """Run one statement of PostgreSQL's SQL with $1.. for the arguments. Raises SqlFailed, TooMuch."""
        return await self._patiently(tenant, lambda place: place.run(sql, args, limit))

    async def fetch(self, tenant: str, sql: str, *args: Any) -> list[dict[str, Any]]:
        return named(await self.run(tenant, sql, list(args)))

    async def fetchrow(self, tenant: str, sql: str, *args: Any) -> dict[str, Any] | None:
        rows = named(await self.run(tenant, sql, list(args), limit=1))
        return rows[0] if rows else None

    async def execute(self, tenant: str, sql: str, *args: Any) -> str:
        return (await self.run(tenant, sql, list(args))).status

    # -- places --

    async def _patiently(self, tenant: str, work: Callable[[Place], Awaitable[T]]) -> T:
        """Again and again while the place is out of reach, which means that nothing was done."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.wait_seconds
        attempt = 0
        while True:
            try:
                async with self._place(tenant) as place:
                    return await work(place)
            except (InDoubt, NotOpened):
                raise
            except Unavailable as problem:
                pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
                if loop.time() + pause > deadline:
                    raise
                if attempt == 0:
                    log.warning("the data of tenant %s: %s It is tried again.", tenant, problem)
                attempt += 1
            await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def _place(self, tenant: str) -> AsyncIterator[Place]:
        if not _SLUG.fullmatch(tenant):
            raise InvalidRequest(f"{tenant[:100]!r} is no tenant's slug.")
        kept = self._places.setdefault(tenant, _Kept(lambda: self._open(tenant)))
        self._places.move_to_end(tenant)
        kept.users += 1
        try:
            yield await kept.get()
        finally:
            kept.users -= 1
            await self._close_some()

    async def _close_some(self) -> None:
        """Those that were not used for longest, and are not in use."""
        for tenant in list(self._places):
            if len(self._places) <= MAX_OPEN:
                return
            if not self._places[tenant].users:
                await self._places.pop(tenant).aclose()

    async def _open(self, tenant: str) -> Place:
        url = self._config.tenants.get(tenant, self._url)
        if url is None:
            from hostler.runbooks.dataplane.sqlite import SqlitePlace

            return await SqlitePlace.open(self._folder / tenant, self._config)
        from hostler.runbooks.dataplane.postgres import PostgresPlace  # with its driver, only where it is used

        named = url.replace(TENANT, quote(tenant, safe=""))
        return await PostgresPlace.open(named, tenant, self._config, make=TENANT in urlsplit(url).path)


class _Kept:
    """A place that is opened by the first who asks; what comes of it, all who wait for it get."""

    def __init__(self, open_: Callable[[], Coroutine[Any, Any, Place]]) -> None:
        self._open = open_
        self._opening: asyncio.Task[Place] | None = None
        self.users = 0

    async def get(self) -> Place:
        if self._opening is None or (self._opening.done() and self._failed()):
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    def _failed(self) -> bool:
        return self._opening is None or self._opening.cancelled() or self._opening.exception() is not None

    async def aclose(self) -> None:
        if self._opening is not None:
            await asyncio.wait([self._opening])
            if not self._failed():
                await self._opening.result().aclose()


def named(result: Result) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def _check_id(document_id: str) -> None:
    try:
        uuid.UUID(document_id)
    except ValueError:
        raise NotFound(f"{document_id[:100]!r} is no document's id.") from None
