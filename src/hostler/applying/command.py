"""The command `hostler apply`: parses, applies file after file, and prints. It must not know how either end works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler.settings import DEFAULT_HOST, DEFAULT_PORT, load_client

if TYPE_CHECKING:
    from hostler.applying.definitions import Definition
    from hostler.applying.remote import Remote


@click.command("apply")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--base-url",
    metavar="URL",
    help=f"The server; default http://{DEFAULT_HOST}:{DEFAULT_PORT}.  [HOSTLER_BASE_URL, ANTHROPIC_BASE_URL]",
)
@click.option("--api-key", metavar="KEY", help="Its key.  [HOSTLER_API_KEY, ANTHROPIC_API_KEY]")
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line for each file, for programs.")
def apply(files: tuple[Path, ...], base_url: str | None, api_key: str | None, dry_run: bool, as_json: bool) -> None:
    """Make agents and environments on a server what YAML files say.

    A file holds one agent: name, model, system or system_file, tools, mcp_servers, skills, and whatever else
    POST /v1/agents takes. Built-in tools may be written short, `- type: bash`: then the agent has those and no others.
    A file with `config` and no `model` is an environment.

    \b
      name: reviewer
      model: claude-sonnet-4-6
      system_file: prompt.md
      tools:
        - type: read
        - type: bash

    An object is found again by its name and a mark in its metadata; what the file leaves out goes back to its default.
    Applying a file twice changes nothing. All files are read before anything is sent.
    """
    from hostler.applying.definitions import load
    from hostler.applying.remote import Remote

    client = load_client(base_url, api_key)
    definitions = [load(file) for file in files]
    with Remote(client.base_url, client.api_key) as remote:
        to_come: set[str] = set()
        for definition in definitions:
            told = _apply(remote, definition, dry_run, to_come)
            click.echo(json.dumps(told) if as_json else _words(told))


def _apply(remote: Remote, definition: Definition, dry_run: bool, to_come: set[str]) -> dict[str, Any]:
    """Make, update or leave one object, and tell what was done. `to_come` are agents that a dry run would have made."""
    from hostler.applying.members import with_ids
    from hostler.applying.remote import Refused
    from hostler.errors import InvalidRequest

    def member(name: str) -> str | None:
        known = remote.find("agent", name).marked
        return known["id"] if known else "(new)" if name in to_come else None

    found = remote.find(definition.kind, definition.name)
    definition = with_ids(definition, member)
    if dry_run:
        to_come.add(definition.name)
    try:
        told = _dry(definition, found.marked) if dry_run else _done(remote, definition, found.marked)
    except Refused as error:
        raise definition.fault(str(error)) from error
    except InvalidRequest as error:
        raise definition.fault(error.message) from error
    name = {"file": str(definition.document.file), "type": definition.kind, "name": definition.name}
    return {**name, **told, "dry_run": dry_run, "same_name": found.others if found.marked is None else 0}


def _done(remote: Remote, definition: Definition, before: dict[str, Any] | None) -> dict[str, Any]:
    from hostler.applying.updates import describe, differences, update_of

    if before is None:
        return _told("created", remote.create(definition), [], [])
    after = remote.update(definition, before["id"], update_of(definition, before))
    changed = differences(before, after)
    lines = [describe(field, *values) for field, values in changed.items()]
    return _told("updated" if changed else "unchanged", after, list(changed), lines)


def _dry(definition: Definition, before: dict[str, Any] | None) -> dict[str, Any]:
    from hostler.applying.foresight import foresee, resolved_tools
    from hostler.applying.updates import update_of

    if before is None:
        resolved_tools(definition.request.get("tools", []))
        return _told("created", {}, [], [])
    changed = foresee(update_of(definition, before), before)
    return _told("updated" if changed else "unchanged", before, changed, changed)


def _told(action: str, shown: dict[str, Any], changed: list[str], lines: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "id": shown.get("id"),
        "version": shown.get("version"),
        "changed": changed,
        "differences": lines,
    }


def _words(told: dict[str, Any]) -> str:
    action = f"would be {told['action']}" if told["dry_run"] and told["action"] != "unchanged" else told["action"]
    where = f" {told['id']}" if told["id"] else ""
    version = f", version {told['version']}" if told["version"] else ""
    said = [f"{told['type']} {told['name']}: {action}{where}{version}"]
    said += [f"  {line}" for line in told["differences"]]
    if told["same_name"]:
        said.append(
            f"  Note: {told['same_name']} more of this name were not made by hostler apply; they are left alone."
        )
    return "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in said)
