"""`hostler tenant` and `hostler entity`: for whom runbooks run, on a running server.

It must only parse, ask and print.
"""

from __future__ import annotations

from typing import Any

import click

from hostler.client import part
from hostler.commands.asking import WORKSPACE, asked, confirmed, rows, settings_of, show, table
from hostler.commands.options import of_server

TENANTS = f"{WORKSPACE}/tenants"
CONFIG = click.option(
    "--config", "config", multiple=True, metavar="K=V|JSON", help="What its tasks get; repeatable, or a JSON object."
)


@click.group()
def tenant() -> None:
    """Tenants: whose entities, agents, documents and tasks are kept apart from all others'."""


@tenant.command("create")
@click.argument("slug")
@click.option("--name", metavar="TEXT", help="For people; default: the slug.")
@CONFIG
@of_server
def create_tenant(
    slug: str, name: str | None, config: tuple[str, ...], server: str | None, api_key: str | None, as_json: bool
) -> None:
    """Make a tenant that is found by SLUG.

    \b
      hostler tenant create byng --name "Byng Capital"
      hostler entity create fund-one --tenant byng --config currency=GBP
    """
    settings = settings_of(config, "--config")
    with asked(server, api_key) as api:
        made = api.post(TENANTS, {"name": name or slug, "slug": slug, "dataPlatform": "managed-postgres"})
        if settings:
            made = api.ask("PATCH", f"{TENANTS}/{part(made['id'])}", json={"config": settings})
    show(made, as_json, [f"tenant {made['slug']} is there: {made['id']}"])


@tenant.command("list")
@of_server
def list_tenants(server: str | None, api_key: str | None, as_json: bool) -> None:
    """List the tenants."""
    with asked(server, api_key) as api:
        found = rows(api.get(TENANTS))
    cells = [(each["slug"], each["name"], each.get("status"), each.get("entityCount"), each["id"]) for each in found]
    show(found, as_json, table(("SLUG", "NAME", "STATUS", "ENTITIES", "ID"), cells, "There are no tenants."))


@tenant.command("delete")
@click.argument("slug")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@of_server
def delete_tenant(slug: str, yes: bool, server: str | None, api_key: str | None, as_json: bool) -> None:
    """Close the tenant with this SLUG: its tasks end, and its agents' keys open nothing any more."""
    confirmed(f"Close the tenant {slug}?", yes)
    with asked(server, api_key) as api:
        gone = api.ask("DELETE", f"{TENANTS}/{part(slug)}")
    show(gone, as_json, [f"tenant {gone['slug']} is closed ({gone.get('status')})."])


@click.group()
def entity() -> None:
    """Entities of a tenant: the companies and funds that runbooks run for."""


@entity.command("create")
@click.argument("slug")
@click.option("--tenant", metavar="SLUG", required=True, help="Whose it is.")
@click.option("--name", metavar="TEXT", help="For people; default: the slug.")
@click.option("--type", "kind", metavar="TEXT", help="What it is, such as SPV.")
@click.option("--currency", metavar="CODE", help="Such as GBP.")
@click.option("--jurisdiction", metavar="TEXT", help="Where it is.")
@CONFIG
@of_server
def create_entity(
    slug: str,
    tenant: str,
    name: str | None,
    kind: str | None,
    currency: str | None,
    jurisdiction: str | None,
    config: tuple[str, ...],
    server: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Make an entity of a tenant.

    \b
      hostler entity create fund-one --tenant byng --currency GBP --config audit_agent_id=UUID
    """
    body: dict[str, Any] = {"name": name or slug, "slug": slug, "type": kind, "currency": currency}
    body |= {"jurisdiction": jurisdiction, "config": settings_of(config, "--config") or None}
    with asked(server, api_key) as api:
        sent = {key: value for key, value in body.items() if value is not None}
        made = api.post(f"{TENANTS}/{part(tenant)}/entities", sent)
    warnings = [f"  Note: {each.get('message')}" for each in made.get("warnings") or []]
    show(made, as_json, [f"entity {made['slug']} of {tenant} is there: {made['id']}", *warnings])


@entity.command("set")
@click.argument("slug")
@click.option("--tenant", metavar="SLUG", required=True, help="Whose it is.")
@CONFIG
@of_server
def set_entity(
    slug: str, tenant: str, config: tuple[str, ...], server: str | None, api_key: str | None, as_json: bool
) -> None:
    """Change what the tasks of an entity get: keys that are not named stay, `name=null` takes one away.

    \b
      hostler entity set fund-one --tenant byng --config audit_agent_id=UUID
    """
    settings = settings_of(config, "--config")
    place = f"{TENANTS}/{part(tenant)}/entities/{part(slug)}"
    with asked(server, api_key) as api:
        merged = {**(api.get(place).get("config") or {}), **settings}
        whole = {key: value for key, value in merged.items() if value is not None}
        changed = api.ask("PATCH", place, json={"config": whole})
    names = ", ".join(whole) or "nothing"
    show(changed, as_json, [f"entity {changed['slug']} of {tenant}: its tasks get {names}"])


@entity.command("list")
@click.option("--tenant", metavar="SLUG", help="Only those of this one.")
@of_server
def list_entities(tenant: str | None, server: str | None, api_key: str | None, as_json: bool) -> None:
    """List entities."""
    with asked(server, api_key) as api:
        found = rows(api.get(f"{TENANTS}/{part(tenant)}/entities" if tenant else f"{WORKSPACE}/entities"))
        slugs = {each["id"]: each["slug"] for each in rows(api.get(TENANTS))}
    cells = [
        (each["slug"], slugs.get(each["tenantId"], each["tenantId"]), each["name"], each.get("currency"), each["id"])
        for each in found
    ]
    show(found, as_json, table(("SLUG", "TENANT", "NAME", "CURRENCY", "ID"), cells, "There are no entities."))
