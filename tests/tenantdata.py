"""A data plane on either database, and `ntro`'s own view of one tenant's."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any

import asyncpg

from hostler.ids import new_id
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.records import Document

QUICK = DataPlaneConfig(wait_seconds=1.0, result_mb=4)


class Planes:
    """Opens data planes on one kind of database."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.url = url and url.replace("/postgres?", f"/{new_id('d').lower()}_{{tenant}}?")

    async def open(self, config: DataPlaneConfig = QUICK) -> DataPlane:
        return await DataPlane.open(self.folder, config, self.url)


class Adapter:
    """What `ntro` calls a data plane: one tenant's."""

    def __init__(self, plane: DataPlane, tenant: str) -> None:
        self._plane = plane
        self._tenant = tenant

    async def fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
        return await self._plane.fetch(self._tenant, query, *args)

    async def fetchrow(self, query: str, *args: Any) -> dict[str, Any] | None:
        return await self._plane.fetchrow(self._tenant, query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        return await self._plane.execute(self._tenant, query, *args)

    async def close(self) -> None:
        pass


def made(folder: Path, data: bytes, **more: Any) -> tuple[Document, Path]:
    path = folder / f"{uuid.uuid4()}.bin"
    path.write_bytes(data)
    given: dict[str, Any] = {"entity_slug": "spv", "source": "agent_output:a", "filename": "a.docx", "task_id": "t"}
    given |= {"id": str(uuid.uuid4()), "content_type": "application/x", "size": len(data)}
    return Document(**{**given, "sha256": hashlib.sha256(data).hexdigest(), **more}), path


def new_database(postgres_url: str) -> str:
    """The URL of a new database."""

    async def make() -> str:
        name = new_id("d").lower()
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        return postgres_url.replace("/postgres?", f"/{name}?")

    return asyncio.run(make())
