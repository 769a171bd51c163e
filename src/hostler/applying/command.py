"""The command `hostler apply`: parses, applies file after file, and prints. It must not know how either end works."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from hostler.settings import DEFAULT_HOST, DEFAULT_PORT, load_client


@click.command("apply", short_help="Make agents and what they need on a server what files say.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tenant", metavar="SLUG", help="Also register the agent with this tenant; its key goes into its vault.")
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option("--diff", "as_diff", is_flag=True, help="Show what would change, line by line; change nothing.")
@click.option("--renew-secrets", is_flag=True, help="Send the secrets of vault.yaml again, also where they are set.")
@click.option(
    "--base-url",
    metavar="URL",
    help=f"The server; default http://{DEFAULT_HOST}:{DEFAULT_PORT}.  [HOSTLER_BASE_URL, ANTHROPIC_BASE_URL]",
)
@click.option("--api-key", metavar="KEY", help="Its key.  [HOSTLER_API_KEY, ANTHROPIC_API_KEY]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line for each object, for programs.")
def apply(
    paths: tuple[Path, ...],
    tenant: str | None,
    dry_run: bool,
    as_diff: bool,
    renew_secrets: bool,
    base_url: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Make agents, and what they need, on a server what files say.

    A PATH is a folder or a file. Of a folder, these are applied, in this order:

    \b
      environment.yaml  the machine of its sessions
      vault.yaml        a vault, and where the secrets of its credentials are found
      agent.yaml        the agent; system-prompt.md is its prompt, unless it says its own

    A file holds one agent: name, model, system or system_file, tools, mcp_servers, skills, and whatever else
    POST /v1/agents takes. Built-in tools may be written short, `- type: bash`: then the agent has those and no others.
    A file with `config` and no `model` is an environment, one with `credentials` a vault.

    \b
      hostler apply agents/audit-handover --diff
      hostler apply agents/audit-handover
      hostler apply agents/audit-handover --tenant byng

    With --tenant the agent is registered with a tenant, so that its runbooks can invoke it, and the key with which it
    calls back goes into its vault at once, unseen. The tenant is made by `hostler tenant create`.

    An object is found again by its name and a mark in its metadata; what a file leaves out goes back to its default.
    Applying twice changes nothing, and applying again finishes what was interrupted. All files are read before
    anything is sent. With --diff the command ends with 0 when there is nothing to change, with 1 when there is.
    """
    from hostler.applying.changes import coloured
    from hostler.applying.folder import load_unit
    from hostler.applying.remote import Remote
    from hostler.applying.unit import Applying, Wishes
    from hostler.client import Api

    client = load_client(base_url, api_key)
    units = [load_unit(path, registers=tenant is not None) for path in paths]
    wishes = Wishes(dry_run=dry_run or as_diff, renew_secrets=renew_secrets, tenant=tenant)
    differ = False
    with Api(client) as api:
        applying = Applying(Remote(api), wishes)
        for unit in units:
            for change in applying.run(unit):
                differ = differ or change.action != "unchanged"
                if as_json:
                    click.echo(json.dumps(change.record(dry_run=wishes.dry_run, diff=as_diff)))
                elif not as_diff:
                    click.echo(change.words(dry_run=dry_run))
                elif lines := change.diff():
                    click.echo(coloured(lines))
    sys.exit(1 if as_diff and differ else 0)
