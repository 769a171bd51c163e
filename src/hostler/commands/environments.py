"""`hostler environments`: what an operator does to environments from the command line, also while the server runs.

It works on the database like `hostler keys`, so whoever can read that needs no API key. It must not serve anything.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler.commands.options import DATA_DIR, DATABASE, JSON, key_line, with_store

if TYPE_CHECKING:
    from hostler.services.environment_keys import EnvironmentKeys
    from hostler.store.store import Store


@click.group()
def environments() -> None:
    """Environments: their packages, built ahead of time, and the keys of the workers of self-hosted ones."""


@environments.group("keys")
def keys() -> None:
    """Keys with which the workers of a self-hosted environment sign in."""


@keys.command("create")
@click.argument("environment_id", metavar="ENVIRONMENT")
@click.argument("name", default="worker")
@DATA_DIR
@DATABASE
@JSON
def create_key(environment_id: str, name: str, data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it. It is shown this once; only its hash is kept."""

    async def act(manager: EnvironmentKeys) -> None:
        made = await manager.create(environment_id, name)
        click.echo(_json(made) if as_json else made.key)

    _with_keys(act, data_dir, database)


@keys.command("list")
@click.argument("environment_id", metavar="ENVIRONMENT")
@DATA_DIR
@DATABASE
@JSON
def list_keys(environment_id: str, data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """List the keys of an environment, revoked ones included. No key itself can be shown again."""

    async def act(manager: EnvironmentKeys) -> None:
        found = await manager.list(environment_id)
        if as_json:
            click.echo(f"[{', '.join(_json(key) for key in found)}]")
            return
        for key in found:
            click.echo(key_line(key, key.created_at))

    _with_keys(act, data_dir, database)


@keys.command("revoke")
@click.argument("environment_id", metavar="ENVIRONMENT")
@click.argument("key_id", metavar="ID")
@DATA_DIR
@DATABASE
def revoke_key(environment_id: str, key_id: str, data_dir: Path | None, database: str | None) -> None:
    """Revoke the key with this ID. A running server refuses it from the next request on."""

    async def act(manager: EnvironmentKeys) -> None:
        await manager.revoke(environment_id, key_id)
        click.echo(f"{key_id} is revoked.")

    _with_keys(act, data_dir, database)


def _json(key: Any) -> str:
    import msgspec

    shown = {name: value for name, value in msgspec.to_builtins(key).items() if name != "key" or value is not None}
    return json.dumps(shown)


def _with_keys(act: Callable[[EnvironmentKeys], Awaitable[None]], data_dir: Path | None, database: str | None) -> None:
    from hostler.services.environment_keys import EnvironmentKeys

    async def work(store: Store) -> None:
        await act(EnvironmentKeys(store))

    with_store(work, data_dir, database, found=True)
