"""Opens stores on either database for the tests that must hold on both."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hostler.store.postgres import PostgresStore
from hostler.store.sqlite import SqliteStore
from hostler.store.store import Store


class Databases:
    """Opens stores on one kind of database; each name is a database of its own that outlives its stores."""

    def __init__(self, folder: Path, postgres_url: str | None) -> None:
        self._folder = folder
        self._postgres_url = postgres_url

    @property
    def kind(self) -> str:
        return "postgresql" if self._postgres_url else "sqlite"

    def url(self, name: str) -> str | None:
        """The `--database` argument for this database; None is SQLite."""
        if self._postgres_url is None:
            return None
        asyncio.run(_create_database(self._postgres_url, name))
        return self._postgres_url.replace("/postgres?", f"/{name}?")

    async def open(self, name: str = "db", *, owner: bool = True) -> Store:
        """`owner=False` is a second connection to what another store owns."""
        if self._postgres_url is None:
            return await SqliteStore.open(self._folder / f"{name}.sqlite", now=1)
        await _create_database(self._postgres_url, self._name(name))
        url = self._postgres_url.replace("/postgres?", f"/{self._name(name)}?")
        return await PostgresStore.open(url, now=1, owner=owner)

    def _name(self, name: str) -> str:
        return f"{self._folder.name}_{name}".lower().replace("-", "_")


async def _create_database(url: str, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
