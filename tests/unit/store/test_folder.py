"""A data folder has one server, and belongs to one database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from databases import Databases
from hostler.settings import BadSettings
from hostler.store.folder import belongs, owned
from hostler.store.store import AlreadyOpen


def test_a_folder_belongs_to_the_database_that_first_used_it(databases: Databases, tmp_path: Path) -> None:
    async def main() -> None:
        first, second = await databases.open("first"), None
        await belongs(tmp_path, first)
        await belongs(tmp_path, first)
        await first.close()
        second = await databases.open("second")
        with pytest.raises(BadSettings, match="belongs to another database"):
            await belongs(tmp_path, second)
        await second.close()
        again = await databases.open("first")
        await belongs(tmp_path, again)
        await again.close()

    asyncio.run(main())


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(AlreadyOpen, match="Another server uses the data folder"), owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettings, match="can't be written"), owned(tmp_path / "file" / "data"):
        pass
