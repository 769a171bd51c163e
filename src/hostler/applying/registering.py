"""Registers an applied agent with a tenant, and puts the key it gets into its vault, for the MCP server of the same
server. Whatever was left half done is found again and finished: a key that nobody kept is replaced by a new one.

It must not print the key.
"""

from __future__ import annotations

from typing import Any

from hostler.applying.changes import Change
from hostler.applying.definitions import MARK, Definition
from hostler.applying.sealing import Vault
from hostler.client import Api, CantAsk, Refused, part

AGENT, HINT = "hostler_agent", "hostler_key"  # metadata of the credential: whose key it is, and how that ends
_REGISTRY = "/v1/workspace/registry/agents"


def find_tenant(api: Api, slug: str) -> str:
    """Its id. Raises CantAsk."""
    try:
        return str(api.get(f"/v1/workspace/tenants/{part(slug)}")["id"])
    except Refused as error:
        said = f"There is no tenant {slug}: make it with `hostler tenant create {slug}`."
        raise (CantAsk(said) if error.answered == 404 else error) from error


class Registration:
    """An agent of a file, the machine and the vault beside it, and the tenant whom it is to work for."""

    def __init__(self, api: Api, tenant: str, tenant_id: str, agent: Definition, environment_id: str | None) -> None:
        self._api = api
        self._tenant = tenant
        self._tenant_id = tenant_id
        self._agent = agent
        self._environment_id = environment_id

    def run(self, agent_id: str | None, vault: Vault, *, dry_run: bool) -> list[Change]:
        """Without `agent_id` the agent is still to come, in a dry run."""
        wanted: dict[str, Any] = {
            "tenantId": self._tenant_id, "kind": "claude_managed", "name": self._agent.name,
            "externalRef": f"anthropic://agents/{agent_id or '(new)'}",
        }  # fmt: skip
        wanted |= {"environmentId": self._environment_id} if self._environment_id else {}
        wanted |= {"vaultIds": [vault.id]} if vault.id else {}
        known = self._known(wanted["externalRef"])
        if known is None:
            registered = {} if dry_run else self._api.post(_REGISTRY, wanted)
            made = self._change("created", None, wanted, registered.get("id"))
        else:
            registered, made = known, self._compared(known, wanted, dry_run=dry_run)
        return [made, self._keyed(registered, vault, dry_run=dry_run)]

    def _known(self, ref: str) -> dict[str, Any] | None:
        """The one that was registered before."""
        listed = self._api.get(_REGISTRY, tenantId=self._tenant_id)
        rows = listed["items"] if isinstance(listed, dict) else listed
        same = [row for row in rows if row["name"] == self._agent.name and row["tenantId"] == self._tenant_id]
        other = next((row for row in same if row["externalRef"] != ref), None)
        if other is not None and not any(row["externalRef"] == ref for row in same):
            raise CantAsk(
                f"{self._agent.name} of {self._tenant} is registered as {other['id']} for {other['externalRef']}, "
                f"which is another agent. `hostler agent delete {other['id']}`, then apply again."
            )
        return next((row for row in same if row["externalRef"] == ref), None)

    def _compared(self, known: dict[str, Any], wanted: dict[str, Any], *, dry_run: bool) -> Change:
        """Give its sessions the machine and the vault beside it; what else somebody has set stays."""
        after = {key: value for key, value in wanted.items() if known.get(key) != value}
        if not after:
            return self._change("unchanged", known, {}, known["id"])
        if not dry_run:
            self._api.ask("PATCH", f"{_REGISTRY}/{part(known['id'])}", json=after)
        return self._change("updated", known, after, known["id"])._replace(lines=tuple(after))

    def _keyed(self, registered: dict[str, Any], vault: Vault, *, dry_run: bool) -> Change:
        """See to it that the vault holds the agent's key for the MCP server."""
        url = self._mcp_url(registered)
        known = vault.find(url)
        mark = {MARK: "true", AGENT: str(registered.get("id", "(new)"))}
        if known is not None and AGENT not in known["metadata"]:
            raise CantAsk(
                f"Vault {vault.id} has a credential for {url} that no registered agent was given, {known['id']}. "
                "Archive it, and leave it out of vault.yaml: the agent's own key goes there."
            )
        notes = () if url in self._urls() else (f"the agent has no MCP server with the URL {url}, so no use for it",)
        if known is not None and registered.get("id") and _holds(known, registered):
            return self._credential("unchanged", known, {}, known["id"], notes)
        after = {"auth": {"type": "static_bearer", "mcp_server_url": url}, "metadata": mark}
        if dry_run:
            return self._credential(
                "updated" if known else "created", known, after, known["id"] if known else None, notes
            )
        with_key = registered if registered.get("apiKey") else self._rotated(registered["id"])
        metadata = {**mark, HINT: str(with_key.get("apiKeyHint") or "")}
        auth = {**after["auth"], "token": with_key["apiKey"]}
        if known is not None:
            vault.update(known["id"], {"auth": auth, "metadata": metadata})
            return self._credential("updated", known, {**after, "metadata": metadata}, known["id"], notes)
        made = vault.create({"display_name": self._agent.name, "auth": auth, "metadata": metadata})
        return self._credential("created", None, {**after, "metadata": metadata}, made["id"], notes)

    def _rotated(self, registered_id: str) -> dict[str, Any]:
        return dict(self._api.post(f"{_REGISTRY}/{part(registered_id)}/rotate-key"))

    def _urls(self) -> list[str]:
        servers = self._agent.request.get("mcp_servers") or []
        return [str(server.get("url", "")).rstrip("/") for server in servers if isinstance(server, dict)]

    def _mcp_url(self, registered: dict[str, Any]) -> str:
        """The address under which the agent knows the MCP server, where it does."""
        candidates = [str(registered.get("mcpUrl") or f"{self._api.url}/mcp").rstrip("/"), f"{self._api.url}/mcp"]
        return next((url for url in candidates if url in self._urls()), candidates[0])

    def _change(self, action: Any, before: Any, after: dict[str, Any], made_id: str | None) -> Change:
        file = str(self._agent.document.file)
        return Change("registered agent", self._agent.name, file, action, before, after, made_id)

    def _credential(self, action: Any, before: Any, after: Any, made_id: str | None, notes: tuple[str, ...]) -> Change:
        lines = ("secret: the agent's key",) if action == "updated" else ()
        file = str(self._agent.document.file)
        return Change("credential", self._agent.name, file, action, before, after, made_id, lines=lines, notes=notes)


def _holds(credential: dict[str, Any], registered: dict[str, Any]) -> bool:
    """Whether it is this agent's key, and still that one."""
    metadata = credential["metadata"]
    hint = registered.get("apiKeyHint")
    return metadata.get(AGENT) == registered["id"] and (not hint or metadata.get(HINT) == hint)
