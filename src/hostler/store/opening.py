"""Opens the database that the settings name. It must not know who asks."""

from __future__ import annotations

from hostler import clock
from hostler.settings import BadSettings, Settings
from hostler.store.folder import make_data_dir
from hostler.store.store import Store


async def open_store(settings: Settings, *, owner: bool = True) -> Store:
    """Open the database. `owner` is the serving process; a command beside it is not. Raises BadSettings."""
    if settings.database is None:
        from hostler.store.sqlite import SqliteStore

        make_data_dir(settings.data_dir)
        return await SqliteStore.open(settings.data_dir / "hostler.db", now=clock.now())
    if not settings.database.startswith(("postgresql://", "postgres://")):
        raise BadSettings(f"--database must be a postgresql:// URL, not {settings.database.split(':')[0]!r}.")
    from hostler.store.postgres import PostgresStore  # with its driver, only where it is used

    return await PostgresStore.open(settings.database, now=clock.now(), owner=owner)
