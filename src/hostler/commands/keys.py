"""`hostler keys`: API keys, and the key that seals secrets. It works on the database, also while the server runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler.commands.options import DATA_DIR, DATABASE, JSON, key_line, run, with_store
from hostler.settings import load

if TYPE_CHECKING:
    from hostler.services.keys import Keys
    from hostler.store.store import Store


@click.group()
def keys() -> None:
    """API keys: make, list, revoke, also while the server runs; and the key that seals secrets."""


@keys.command("create")
@click.argument("name", default="key")
@click.option("--tenant", metavar="SLUG", help="For this tenant alone: it opens its part of the Workspace API.")
@DATA_DIR
@DATABASE
@JSON
def create_key(name: str, tenant: str | None, data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it. It is shown this once; only its hash is kept.

    Without --tenant it opens everything.
    """

    async def act(manager: Any) -> None:
        key, secret = await manager.create(name, tenant=tenant)
        said = {"id": key.id, "name": key.name, "key": secret, **({"tenant": key.tenant} if tenant else {})}
        click.echo(json.dumps(said) if as_json else secret)

    _with_keys(act, data_dir, database)


@keys.command("list")
@DATA_DIR
@DATABASE
@JSON
def list_keys(data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """List all keys, revoked ones included. No key itself can be shown again."""
    from hostler.wire.base import timestamp

    async def act(manager: Any) -> None:
        found = await manager.list()
        if as_json:
            click.echo(json.dumps([_key(key, timestamp) for key in found]))
            return
        for key in found:
            of = f"  tenant {key.tenant or key.tenant_id}" if key.tenant_id else ""
            click.echo(key_line(key, timestamp(key.created_at)) + of)

    _with_keys(act, data_dir, database)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@DATA_DIR
@DATABASE
def revoke_key(key_id: str, data_dir: Path | None, database: str | None) -> None:
    """Revoke the key with this ID (see `hostler keys list`). A running server obeys within seconds."""
    _with_keys(lambda manager: manager.revoke(key_id), data_dir, database)
    click.echo(f"{key_id} is revoked.")


@keys.command("rotate-secrets")
@DATA_DIR
@DATABASE
@JSON
def rotate_secrets(data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """Seal all stored secrets with a new key. Stop the server first.

    Secrets of vault credentials are sealed with the key in the data folder, secret.key. This makes a new key, seals
    everything with it, and then forgets the old one. It may be interrupted at any point: both keys are kept until all
    is done, a server works meanwhile, and running it again finishes what was begun.

    Where HOSTLER_SECRET_KEY holds the key, make a new one (openssl rand -base64 32), put it in front of the old one,
    HOSTLER_SECRET_KEY=NEW,OLD, and run this: everything is then sealed with the first one, and the others can go.

    Backups of the database that were made before need the key that was used then.
    """
    from hostler import app
    from hostler.vault.rotation import Progress

    settings = load(data_dir=data_dir, database=database)

    def tell(progress: Progress) -> None:
        if as_json:
            click.echo(json.dumps({"type": "progress", **progress._asdict()}))
        else:
            click.echo(f"{progress.table}: {progress.done} of {progress.total}", err=True)

    rotated = run(lambda: app.rotate_secrets(settings, tell))
    if as_json:
        click.echo(json.dumps({"type": "rotation", **rotated._asdict()}))
        return
    begun = "Finished the rotation that was interrupted. " if rotated.resumed else ""
    click.echo(f"{begun}Sealed anew: {rotated.resealed}. All stored secrets are sealed with the key {rotated.key_id}.")
    if rotated.configured:
        click.echo("It is the first one in HOSTLER_SECRET_KEY; older ones there are not needed any more.")
    if rotated.file_left:
        click.echo("Nor is the key file in the data folder: remove it.")


def _key(key: Any, timestamp: Callable[[int], str]) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "created_at": timestamp(key.created_at),
        "revoked_at": timestamp(key.revoked_at) if key.revoked_at else None,
        "tenant": key.tenant or key.tenant_id,
    }


def _with_keys(act: Callable[[Keys], Awaitable[None]], data_dir: Path | None, database: str | None) -> None:
    from hostler.services.keys import Keys

    async def work(store: Store) -> None:
        await act(Keys(store))

    with_store(work, data_dir, database)
