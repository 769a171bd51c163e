"""What the commands share: options that mean the same everywhere, and the store without a server. It must not hold a
command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hostler.settings import DEFAULT_HOST, DEFAULT_PORT, load

if TYPE_CHECKING:
    from hostler.store.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where everything is kept.  [HOSTLER_DATA_DIR]"
)
DATABASE = click.option(
    "--database", metavar="URL", help="postgresql://...; without it, SQLite in the data folder.  [HOSTLER_DATABASE]"
)
DATA_PLANE = click.option(
    "--data-plane",
    metavar="URL",
    help="postgresql://...: where tenants' documents are; without it, in the data folder.  [HOSTLER_DATA_PLANE]",
)
CONFIG = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="A TOML file.  [HOSTLER_CONFIG]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_SERVER = f"The server; default http://{DEFAULT_HOST}:{DEFAULT_PORT}.  [HOSTLER_BASE_URL, ANTHROPIC_BASE_URL]"
SERVER = click.option("--server", metavar="URL", help=_SERVER)
API_KEY = click.option("--api-key", metavar="KEY", help="Its key.  [HOSTLER_API_KEY, ANTHROPIC_API_KEY]")


def of_server(command: F) -> F:
    """The options of a command that asks a running server: which one, and `--json`."""
    return SERVER(API_KEY(JSON(command)))


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run what a command does on an event loop of its own."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


def with_store(
    act: Callable[[Store], Awaitable[None]], data_dir: Path | None, database: str | None, *, found: bool = False
) -> None:
    """Do something with the database, also while a server runs on it; `found`: with none but one that is there."""
    from hostler.store.folder import find_data_dir
    from hostler.store.opening import open_store

    settings = load(data_dir=data_dir, database=database)
    if found and settings.database is None:
        find_data_dir(settings.data_dir)

    async def work() -> None:
        store = await open_store(settings, owner=False)
        try:
            await act(store)
        finally:
            await store.close()

    run(work)


def key_line(key: Any, created_at: str) -> str:
    """A key of either kind in a list for people."""
    state = "revoked" if key.revoked_at else "active"
    return f"{key.id}  {state:8}{created_at[:19]}  ...{key.hint}  {key.name}"
