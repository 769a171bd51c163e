"""`hostler agent`: agents that a tenant's runbooks may call, on a running server. It must only parse, ask and print."""

from __future__ import annotations

import os
import sys
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from hostler.client import part
from hostler.commands.asking import WORKSPACE, asked, confirmed, fields, rows, show, table
from hostler.commands.options import of_server
from hostler.errors import InvalidRequest

AGENTS = f"{WORKSPACE}/registry/agents"
SCHEMES = {
    "anthropic": "claude_managed",
    "azure": "azure_ai_agent",
    "vertex": "vertex_agent",
    "openai": "openai_assistant",
}
_ONCE = "The key is shown this once. Put it into a vault, as a static_bearer credential for the MCP server's URL."


@click.group()
def agent() -> None:
    """Agents that runbooks call: register, list, test, and give new keys."""


@agent.command("create", short_help="Register an agent with a tenant; print its key, once.")
@click.option("--path", required=True, metavar="URI", help="Which agent: anthropic://agents/<id>.")
@click.option("--tenant", required=True, metavar="SLUG", help="Whose runbooks may call it.")
@click.option("--name", required=True, metavar="TEXT", help="What it is called there.")
@click.option("--description", metavar="TEXT", help="For people.")
@click.option("--base-url", metavar="URL", help="The server where the agent lives; default: the one that is asked.")
@click.option("--server-key-env", metavar="NAME", help="The environment variable with the API key of --base-url.")
@click.option("--environment", metavar="ID", help="The environment of its sessions.")
@click.option("--vault", "vaults", metavar="ID", multiple=True, help="A vault of its sessions; repeatable.")
@click.option("--agent-version", type=click.IntRange(1), metavar="N", help="Always this version; default: the newest.")
@click.option("--budget", metavar="USD", help="What one of its sessions may cost at list prices, such as 2.50.")
@of_server
def create(server: str | None, api_key: str | None, as_json: bool, **said: Any) -> None:
    """Register an agent that lives on this server, or on another one of the same API.

    \b
      hostler agent create \\
        --path anthropic://agents/agent_01SxpziMunFrUbnAYkGB5Hu3 \\
        --tenant byng \\
        --name audit-handover

    Prints the id by which runbooks invoke it, the resolved reference, and a key: with it the agent calls back to the
    MCP server of this one. The key is shown once and kept as a hash. `hostler apply FOLDER --tenant SLUG` makes the
    agent, registers it and puts its key into its vault in one go.
    """
    body = {
        "tenantId": said["tenant"], "kind": _kind(said["path"]), "name": said["name"], "externalRef": said["path"],
        "description": said["description"], "baseUrl": said["base_url"], "serverKey": _secret(said["server_key_env"]),
        "environmentId": said["environment"], "vaultIds": list(said["vaults"]) or None,
        "agentVersion": said["agent_version"], "budget": _budget(said["budget"]),
    }  # fmt: skip
    if (said["base_url"] is None) != (said["server_key_env"] is None):
        raise InvalidRequest("--base-url and --server-key-env go together: another server, and where its key is.")
    with asked(server, api_key) as api:
        made = api.post(AGENTS, {name: value for name, value in body.items() if value is not None})
        found = api.post(f"{AGENTS}/{part(made['id'])}/test")
    _with_key(made, as_json)
    if not found["success"]:
        click.echo(f"It is registered, but can't be called yet: {found['message']}", err=True)


@agent.command("list")
@click.option("--tenant", metavar="SLUG", help="Only those of this one.")
@of_server
def list_agents(tenant: str | None, server: str | None, api_key: str | None, as_json: bool) -> None:
    """List registered agents."""
    with asked(server, api_key) as api:
        found = rows(api.get(AGENTS, tenantId=tenant))
        slugs = {each["id"]: each["slug"] for each in rows(api.get(f"{WORKSPACE}/tenants"))}
    cells = [
        (each["name"], slugs.get(each["tenantId"], each["tenantId"]), each["externalRef"], each["id"]) for each in found
    ]
    show(found, as_json, table(("NAME", "TENANT", "EXTERNAL_REF", "ID"), cells, "No agents are registered."))


@agent.command("info")
@click.argument("agent_id", metavar="ID")
@of_server
def info(agent_id: str, server: str | None, api_key: str | None, as_json: bool) -> None:
    """Show a registered agent. ID is its id, or its name where there is one of it."""
    with asked(server, api_key) as api:
        found = api.get(f"{AGENTS}/{part(agent_id)}")
    show(found, as_json, fields(_told(found)))


@agent.command("rotate-key")
@click.argument("agent_id", metavar="ID")
@of_server
def rotate_key(agent_id: str, server: str | None, api_key: str | None, as_json: bool) -> None:
    """Give an agent another key, and print it once. The one before opens nothing any more.

    Where `hostler apply --tenant` keeps the key in a vault, apply again instead of pasting it.
    """
    with asked(server, api_key) as api:
        made = api.post(f"{AGENTS}/{part(agent_id)}/rotate-key")
    _with_key(made, as_json)


@agent.command("test")
@click.argument("agent_id", metavar="ID")
@of_server
def test(agent_id: str, server: str | None, api_key: str | None, as_json: bool) -> None:
    """Ask the agent's server whether it is there to be called. Starts no session.

    Ends with 1 when it is not.
    """
    with asked(server, api_key) as api:
        found = api.post(f"{AGENTS}/{part(agent_id)}/test")
    about = {"model": found.get("model"), "version": found.get("version"), "milliseconds": found.get("latencyMs")}
    show(found, as_json, [f"{'ok  ' if found['success'] else 'FAIL'} {found['message']}", *fields(about)])
    sys.exit(0 if found["success"] else 1)


@agent.command("delete")
@click.argument("agent_id", metavar="ID")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@of_server
def delete(agent_id: str, yes: bool, server: str | None, api_key: str | None, as_json: bool) -> None:
    """Take an agent out of the registry. Its key opens nothing any more; the agent itself stays where it lives."""
    confirmed(f"Take {agent_id} out of the registry?", yes)
    with asked(server, api_key) as api:
        api.ask("DELETE", f"{AGENTS}/{part(agent_id)}")
    show({"id": agent_id, "deleted": True}, as_json, [f"{agent_id} is not registered any more."])


def _with_key(made: dict[str, Any], as_json: bool) -> None:
    show(made, as_json, [*fields({**_told(made), "api_key": made.get("apiKey")}), "", _ONCE])


def _told(found: dict[str, Any]) -> dict[str, Any]:
    budget = found.get("budget") or {}
    cents = (budget.get("max_list_cost") or {}).get("amount")
    hint = found.get("apiKeyHint")
    return {
        "id": found["id"], "external_ref": found["externalRef"], "name": found["name"], "kind": found["kind"],
        "tenant_id": found["tenantId"], "description": found.get("description"), "base_url": found.get("baseUrl"),
        "environment": found.get("environmentId"), "vaults": found.get("vaultIds"),
        "agent_version": found.get("agentVersion"), "budget": f"{Decimal(cents) / 100:.2f} USD" if cents else None,
        "mcp_url": found.get("mcpUrl"), "key": None if found.get("apiKey") or not hint else f"...{hint}",
    }  # fmt: skip


def _kind(path: str) -> str:
    scheme, found, _ = path.partition("://")
    if found and scheme.lower() not in SCHEMES:
        raise InvalidRequest(f"--path {path[:100]}: the scheme {scheme}:// is unknown; use anthropic://agents/<id>.")
    return SCHEMES[scheme.lower()] if found else "claude_managed"


def _secret(name: str | None) -> str | None:
    if name is None:
        return None
    value = os.environ.get(name, "")
    if not value:
        raise InvalidRequest(f"--server-key-env {name}: this environment variable is not set.")
    return value


def _budget(said: str | None) -> dict[str, Any] | None:
    if said is None:
        return None
    try:
        cents = Decimal(said) * 100
        whole = cents == cents.to_integral_value() and cents > 0
    except InvalidOperation:
        whole = False
    if not whole:
        raise InvalidRequest(f"--budget {said[:20]!r}: give dollars, such as 2.50.")
    return {"type": "limit", "max_list_cost": {"amount": str(int(cents)), "currency": "USD"}}
