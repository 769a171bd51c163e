"""`hostler environments build`, `layers` and `prune`: package layers from the command line.

It must only parse, call and print.
They work on the data folder and its database, also while the server runs, so they need no API key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler.commands.options import CONFIG, DATA_DIR, DATABASE, JSON
from hostler.settings import load

if TYPE_CHECKING:
    from hostler.layering import Built, Shown
    from hostler.sandbox.layers.packages import Kept

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # it is generic only in the stubs of newer versions
    """`90s`, `15m`, `12h`, `7d`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        if not text[:-1].isdecimal() or text[-1:] not in _UNITS:
            self.fail(f"{text!r} is no time like 12h or 7d (s, m, h, d)", param, ctx)
        return float(text[:-1]) * _UNITS[text[-1]]


@click.command("build")
@click.argument("environment_id", metavar="ID")
@DATA_DIR
@DATABASE
@CONFIG
@JSON
def build(environment_id: str, data_dir: Path | None, database: str | None, config: Path | None, as_json: bool) -> None:
    """Install the packages of the environment ID now, not when its first session needs them.

    They are fetched with this machine's own settings (pip.conf, .npmrc, apt's sources, ...), each manager's list once,
    in a sandbox, and kept in the data folder for all sessions; what is there already is not built again. It works while
    the server runs: both wait for the same build. Lines of the package managers go to standard error, results to
    standard output. Ends with 1 when some packages could not be installed; those of the other managers are kept.

    \b
      hostler environments build env_01...
      hostler environments build env_01... --json | jq 'select(.type == "layer")'
    """
    from hostler import layering

    _quiet()
    settings = load(data_dir=data_dir, database=database, config_file=config)

    def tell(manager: str, line: str) -> None:
        if as_json:
            click.echo(json.dumps({"type": "progress", "manager": manager, "line": line}))
        else:
            click.echo(f"{manager}: {line}", err=True)

    built = asyncio.run(layering.build(settings, environment_id, tell))
    for each in built:
        click.echo(json.dumps({"type": "layer", **_fields(each)}) if as_json else _built(each))
    if not built and not as_json:
        click.echo("The environment has no packages.")
    sys.exit(0 if all(each.ok for each in built) else 1)


@click.command("layers")
@DATA_DIR
@DATABASE
@CONFIG
@JSON
def layers(data_dir: Path | None, database: str | None, config: Path | None, as_json: bool) -> None:
    """List the package layers of this machine: what is in them, how large they are, when they were last used, and which
    environments and pre-built skills would use them now. `hostler environments prune` removes those without a user."""
    from hostler import layering

    _quiet()
    found = asyncio.run(layering.shown(load(data_dir=data_dir, database=database, config_file=config)))
    if as_json:
        for each in found:
            about = {**_about(each.layer), "used_by": each.used_by, "mounted": each.mounted}
            click.echo(json.dumps({"type": "layer", **about}))
        return
    for each in found:
        click.echo(_shown(each))
    total = sum(each.layer.bytes for each in found)
    click.echo(f"{len(found)} layers, {_size(total)}")


@click.command("prune")
@click.option(
    "--older-than", type=Duration(), default="0s", metavar="TIME", help="Only those last used longer ago: 12h, 7d."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@DATA_DIR
@DATABASE
@CONFIG
@JSON
def prune(
    older_than: float,
    dry_run: bool,
    data_dir: Path | None,
    database: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Remove the package layers that no environment and no pre-built skill would use now, and no running sandbox has.

    An archived environment counts while it has sessions that are not archived. What is removed is built again when it
    is asked for. Without this command, layers go that nothing has used for 30 days.
    """
    from hostler import layering

    _quiet()
    settings = load(data_dir=data_dir, database=database, config_file=config)
    removed = asyncio.run(layering.prune(settings, older_than=older_than, dry_run=dry_run))
    for layer in removed.layers:
        if as_json:
            click.echo(json.dumps({"type": "removed", "dry_run": dry_run, **_about(layer)}))
        else:
            click.echo(f"{layer.key}  {_size(layer.bytes):>9}  {layer.manager}: {_names(layer.lines)}")
    if not as_json:
        how = "would be removed" if dry_run else "removed"
        click.echo(f"{len(removed.layers)} layers {how}, {_size(removed.bytes)}")


COMMANDS = (build, layers, prune)


def _quiet() -> None:
    """What a build logs, the command says itself."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _built(each: Built) -> str:
    if not each.ok:
        return f"FAIL {each.manager}: {each.detail}"
    how = "was there" if each.cached else f"{each.seconds:.1f} s"
    return f"ok   {each.manager}: {_names(each.packages)} ({_size(each.bytes)}, {how})"


def _shown(each: Shown) -> str:
    users = ", ".join(each.used_by) or "nothing"
    lines = [
        f"{each.layer.key}  {_size(each.layer.bytes):>9}  last used {_time(each.layer.last_used_at)[:16]}",
        f"    {each.layer.manager}: {_names(each.layer.lines)}",
        f"    used by {users}{' (mounted now)' if each.mounted else ''}",
    ]
    return "\n".join(lines)


def _about(layer: Kept) -> dict[str, Any]:
    return {**_fields(layer), "built_at": _time(layer.built_at), "last_used_at": _time(layer.last_used_at)}


def _fields(struct: Built | Kept) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _names(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _size(count: int) -> str:
    return f"{count / 1024**2:.1f} MiB"
